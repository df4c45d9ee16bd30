package access

import (
	"strconv"
	"strings"
)

// Older says whether version a, such as "1.11.3" or "v1.9.0+ent", comes
// before b.
func Older(a, b string) bool {
	x, y := parts(a), parts(b)
	for i := range x {
		if x[i] != y[i] {
			return x[i] < y[i]
		}
	}
	return false
}

// SameMinor says whether two versions differ in their last number at most.
func SameMinor(a, b string) bool {
	x, y := parts(a), parts(b)
	return x[0] == y[0] && x[1] == y[1]
}

func parts(v string) (p [3]int) {
	v, _, _ = strings.Cut(strings.TrimPrefix(v, "v"), "-")
	v, _, _ = strings.Cut(v, "+")
	for i, s := range strings.SplitN(v, ".", 3) {
		n, err := strconv.Atoi(s)
		if err != nil {
			return p
		}
		p[i] = n
	}
	return p
}
