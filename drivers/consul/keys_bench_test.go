package consul_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"locktide.dev/drivers/consul"
	"locktide.dev/schema"
)

// meter counts what goes between a driver and Consul.
type meter struct {
	requests, bytes atomic.Int64
	address         string
}

func newMeter(t testing.TB) *meter {
	m := &meter{}
	to, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(to)
	proxy.FlushInterval = -1
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.requests.Add(1)
		m.bytes.Add(max(0, r.ContentLength))
		proxy.ServeHTTP(&countedAnswer{w, m}, r)
	}))
	t.Cleanup(srv.CloseClientConnections) // queries that still block
	m.address = srv.URL
	return m
}

type countedAnswer struct {
	http.ResponseWriter
	m *meter
}

func (c *countedAnswer) Write(b []byte) (int, error) {
	c.m.bytes.Add(int64(len(b)))
	return c.ResponseWriter.Write(b)
}

// cost is what was spent so far.
type cost struct {
	requests, bytes int64
	own, server     time.Duration
}

func (m *meter) read(b *testing.B) cost {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return cost{m.requests.Load(), m.bytes.Load(), time.Duration(u.Utime.Nano() + u.Stime.Nano()), serverTime(b)}
}

// serverTime is the processor time of the Consul that this process started.
func serverTime(b *testing.B) (out time.Duration) {
	b.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		b.Fatal(err)
	}
	for _, file := range stats {
		raw, err := os.ReadFile(file)
		if err != nil {
			continue // it ended
		}
		_, rest, _ := strings.Cut(string(raw), ") ")
		f := strings.Fields(rest)
		if !strings.Contains(string(raw), "(consul)") || f[1] != strconv.Itoa(os.Getpid()) {
			continue
		}
		for _, ticks := range f[11:13] {
			n, err := strconv.Atoi(ticks)
			if err != nil {
				b.Fatal(err)
			}
			out += time.Duration(n) * 10 * time.Millisecond
		}
	}
	return out
}

// BenchmarkWatchOfKeys follows 10,000 keys of consul definitions in 100
// folders: at rest, with one change a second in them, and with 20 a second in
// folders of others.
func BenchmarkWatchOfKeys(b *testing.B) {
	const folders, each, span = 100, 100, 20 * time.Second
	m := newMeter(b)
	d, client := open(b, nil)
	root := "bench-" + strings.ToLower(b.Name())
	def := schema.Consul{Keys: map[string]schema.ConsulKey{}}
	for i := range folders * each {
		def.Keys[fmt.Sprintf("%s/f%03d/k%03d", root, i/each, i%each)] = schema.ConsulKey{Value: strings.Repeat("v", 100)}
	}
	var batch []schema.Action
	for _, o := range rawObjects(b, d, def) {
		batch = append(batch, act(schema.VerbCreate, o, ""))
	}
	apply(b, d, batch...)
	put := func(key string, i int) {
		if _, err := client.KV().Put(&api.KVPair{Key: key, Value: []byte(fmt.Sprint(i))}, nil); err != nil {
			b.Fatal(err)
		}
	}
	d = metered(b, m)
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	var rung atomic.Int64
	go func() {
		if err := d.Watch(ctx, func(k []schema.Key) { rung.Add(int64(len(k))) }); ctx.Err() == nil {
			b.Errorf("the watch ended: %v", err)
		}
	}()
	time.Sleep(5 * time.Second)
	for _, c := range []struct {
		name  string
		every time.Duration
		key   func(i int) string
	}{
		{"rest", 0, nil},
		{"changes", time.Second, func(i int) string { return fmt.Sprintf("%s/f%03d/k%03d", root, i%folders, i%each) }},
		{"others", 50 * time.Millisecond, func(i int) string { return fmt.Sprintf("other-%s/f%03d", root, i%folders) }},
	} {
		before, rang := m.read(b), rung.Load()
		n := 0
		for end := time.Now().Add(span); time.Now().Before(end); n++ {
			if c.every == 0 {
				time.Sleep(span)
				continue
			}
			put(c.key(n), n)
			time.Sleep(c.every)
		}
		time.Sleep(3 * time.Second)
		after := m.read(b)
		b.Logf("%s: %d writes, rang for %d keys: %d requests, %.1f MB, %v CPU here, %v CPU of the server in %s", c.name, n, rung.Load()-rang, after.requests-before.requests,
			float64(after.bytes-before.bytes)/1e6, after.own-before.own, after.server-before.server, span+3*time.Second)
	}
}

// metered opens the same driver, by way of the meter.
func metered(b *testing.B, m *meter) *consul.Driver {
	b.Helper()
	name := strings.ToLower(b.Name())
	d, err := consul.Config{Name: "east", Address: m.address, Datacenters: []string{"dc1"}, Prefix: "test/" + name, Owner: name}.Open(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	return d
}
