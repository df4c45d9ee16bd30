package schema

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

const maxPort = 65535

// Problems lists what is wrong with a body, however valid each of its fields
// is. Gates see to themselves.
func (b Body) Problems() []Problem {
	var out []Problem
	wrong := func(field, format string, args ...any) {
		out = append(out, Problem{field, fmt.Sprintf(format, args...)})
	}
	if i := b.Ignite; i != nil && !i.Skip {
		if n := i.asks(); n != 1 {
			wrong("ignite", "it asks %d things: want exactly one of http, tcp, grpc, script, or skip", n)
		}
	}
	if b.Schedule != nil && b.Kind != "periodic" {
		wrong("schedule", "only kind periodic has a schedule, this is kind %s", cmp.Or(b.Kind, "service"))
	}
	if len(b.Count.Signal) > 0 && len(b.Raw) > 0 {
		wrong("count", "a raw job says in its own scaling block what the autoscaler reads: leave signal out")
	}
	if name := b.Image[strings.LastIndexByte(b.Image, '/')+1:]; strings.ContainsAny(name, ":@") {
		wrong("image", "%q has a tag or digest: the tag is the release, such as release: \"1.4.2@sha256:...\"", b.Image)
	}
	if kind, _, _ := strings.Cut(b.Network, "/"); !slices.Contains([]string{"", "host", "bridge", "none"}, b.Network) && kind != "cni" {
		wrong("network", "%q is no network: want host, bridge, none or cni/NAME", b.Network)
	}
	for label, p := range b.Ports {
		if p.Static > maxPort || p.To > maxPort {
			wrong("ports."+label, "%d is no port: want at most %d", max(p.Static, p.To), maxPort)
		}
	}
	slices.SortFunc(out, func(a, b Problem) int { return cmp.Compare(a.Field, b.Field) })
	return out
}

// asks counts what an ignition asks.
func (i *Ignition) asks() int {
	n := 0
	for _, asked := range []bool{i.HTTP != "", i.TCP, i.GRPC != "", len(i.Script) > 0} {
		if asked {
			n++
		}
	}
	return n
}
