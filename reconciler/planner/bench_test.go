package planner

import (
	"fmt"
	"testing"
)

// A library change: every group of a fleet is replaced.
func BenchmarkPlan(b *testing.B) {
	for _, n := range []int{100, 1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			was, is := of(), of()
			for i := range n {
				g := app(fmt.Sprintf("x%05d", i))
				was.Groups[g.name()] = g
				g.Release++
				is.Groups[g.name()] = g
			}
			in := between(was, is)
			in.BlastGroups, in.BlastPercent = n, 100
			for b.Loop() {
				if p := Plan(in); len(p.Partitions) != n {
					b.Fatal(said(p))
				}
			}
		})
	}
}
