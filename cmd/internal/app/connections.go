package app

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"locktide.dev/cmd/internal/config"
	"locktide.dev/schema"
)

const mostConnections = 50 // per server; Consul answers 429 past about 200

// connectionChecks counts this process's connections to each server. Where
// /proc does not tell, it says nothing.
func connectionChecks(ctx context.Context, cfg config.Config) []schema.Diagnosis {
	open := connections()
	if open == nil {
		return nil
	}
	var out []schema.Diagnosis
	count := func(name, address string) {
		u, err := url.Parse(address)
		if err != nil {
			return
		}
		port := u.Port()
		if port == "" {
			port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
		}
		ips, err := net.DefaultResolver.LookupHost(ctx, u.Hostname())
		if err != nil {
			return
		}
		n := 0
		for _, ip := range ips {
			n += open[net.JoinHostPort(ip, port)]
		}
		out = append(out, schema.Diagnosis{Name: name + " connections", OK: n <= mostConnections, Says: fmt.Sprintf("%d open", n), Next: "restart the daemon and report it: it keeps a bounded number"})
	}
	for _, name := range names(cfg.Nomad) {
		count("nomad "+name, cfg.Nomad[name].Address)
	}
	for _, name := range names(cfg.Consul) {
		count("consul "+name, cfg.Consul[name].Address)
	}
	return out
}

// connections counts this process's established TCP connections by remote
// address; nil where the system does not tell.
func connections() map[string]int {
	mine := map[string]bool{}
	files, err := filepath.Glob("/proc/self/fd/*")
	if err != nil || len(files) == 0 {
		return nil
	}
	for _, f := range files {
		if target, err := os.Readlink(f); err == nil && strings.HasPrefix(target, "socket:[") {
			mine[strings.TrimSuffix(strings.TrimPrefix(target, "socket:["), "]")] = true
		}
	}
	out := map[string]int{}
	for _, table := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		raw, err := os.ReadFile(table)
		if err != nil {
			continue
		}
		for _, line := range strings.Split(string(raw), "\n") {
			f := strings.Fields(line)
			if len(f) > 9 && f[3] == "01" && mine[f[9]] {
				if remote := addressOf(f[2]); remote != "" {
					out[remote]++
				}
			}
		}
	}
	return out
}

// addressOf reads the kernel's form of an address: little-endian words in hex.
func addressOf(text string) string {
	host, port, _ := strings.Cut(text, ":")
	n, err := strconv.ParseUint(port, 16, 16)
	if err != nil || len(host)%8 != 0 {
		return ""
	}
	var ip net.IP
	for w := 0; w < len(host); w += 8 {
		for b := 6; b >= 0; b -= 2 {
			v, err := strconv.ParseUint(host[w+b:w+b+2], 16, 8)
			if err != nil {
				return ""
			}
			ip = append(ip, byte(v))
		}
	}
	return net.JoinHostPort(ip.String(), strconv.FormatUint(n, 10))
}
