package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// table collects lines of three columns: what was measured, how much, and
// what it is compared with.
type table struct{ lines [][3]string }

func (t *table) add(what, value, remark string) {
	t.lines = append(t.lines, [3]string{what, value, remark})
}

func (t *table) print(w io.Writer) error {
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, l := range t.lines {
		if _, err := fmt.Fprintf(out, "%s\t%s\t%s\n", l[0], l[1], l[2]); err != nil {
			return err
		}
	}
	return out.Flush()
}

// short writes a duration with three digits.
func short(d time.Duration) string {
	for _, unit := range []time.Duration{time.Second, time.Millisecond, time.Microsecond} {
		for _, digits := range []int{100, 10, 1} {
			if d >= unit*time.Duration(digits) {
				return d.Round(unit * time.Duration(digits) / 100).String()
			}
		}
	}
	return d.String()
}

func ratio(a, b time.Duration) string { return fmt.Sprintf("%.2f", float64(a)/float64(b)) }
