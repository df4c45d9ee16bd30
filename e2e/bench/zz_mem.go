package main

import (
	"fmt"
	"os"
	"runtime/metrics"
	"runtime/pprof"
)

func memclasses() {
	var s []metrics.Sample
	for _, d := range metrics.All() {
		if len(d.Name) > 8 && (d.Name[:8] == "/memory/" || d.Name == "/gc/heap/live:bytes" || d.Name == "/gc/heap/goal:bytes" || d.Name == "/gc/gogc:percent") && d.Kind == metrics.KindUint64 {
			s = append(s, metrics.Sample{Name: d.Name})
		}
	}
	metrics.Read(s)
	for _, x := range s {
		fmt.Fprintf(os.Stderr, "%-50s %7.1f MiB\n", x.Name, float64(x.Value.Uint64())/(1<<20))
	}
	b, _ := os.ReadFile("/proc/self/smaps_rollup")
	fmt.Fprintln(os.Stderr, string(b))
	f, _ := os.Create("/tmp/q/heap.prof")
	_ = pprof.Lookup("heap").WriteTo(f, 0)
	_ = f.Close()
	b, _ = os.ReadFile("/proc/self/smaps")
	_ = os.WriteFile("/tmp/q/smaps.txt", b, 0o644)
}

func zz(name string) {
	f, _ := os.Create(name)
	_ = pprof.Lookup("allocs").WriteTo(f, 0)
	_ = f.Close()
}
