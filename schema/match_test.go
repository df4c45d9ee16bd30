package schema_test

import (
	"strings"
	"testing"

	"locktide.dev/schema"
)

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, s string
		want       bool
	}{
		{"shop.*", "shop.cart.api", true}, {"shop.*", "shopx", false}, {"*", "", true}, {"", "x", false},
		{"*.acme", "a.b.acme", true}, {"a*b*c", "a--b--c", true}, {"a*b*c", "a--c", false}, {"x", "x", true},
		{"a*", "a*b", true}, {"*ab", "aab", true}, {strings.Repeat("*a", 40) + "b", strings.Repeat("a", 4000), false},
	} {
		if got := schema.Match(c.pattern, c.s); got != c.want {
			t.Errorf("Match(%q, %q) = %t", c.pattern, c.s, got)
		}
	}
}
