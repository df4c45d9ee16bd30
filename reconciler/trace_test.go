package reconciler

import (
	"testing"

	"locktide.dev/schema"
)

func TestMatchIsTheProxies(t *testing.T) {
	route := func(path string, exact bool, header string) schema.Route {
		r := schema.Route{Domains: []string{"a.example"}, Path: path, Exact: exact}
		if header != "" {
			r.Match = map[string]string{"X-Canary": header}
		}
		return r
	}
	routes := map[string]schema.Route{"root": route("/", false, ""), "cart": route("/cart", false, ""), "item": route("/cart/item", false, ""),
		"exact": route("/cart/item", true, ""), "canary": route("/cart", false, "1")}
	for _, c := range []struct{ host, path, header, want string }{
		{"a.example", "/", "", "root"}, {"A.example", "/cartoon", "", "root"}, {"a.example", "/cart", "", "cart"}, {"a.example", "/cart/", "", "cart"},
		{"a.example", "/cart/item/1", "", "item"}, {"a.example", "/cart/item", "", "exact"}, {"a.example", "/cart/x", "1", "canary"}, {"b.example", "/", "", ""},
	} {
		if got, served := match(routes, c.host, c.path, map[string]string{"x-canary": c.header}); got != c.want || served != (c.host != "b.example") {
			t.Errorf("%s%s %s: %q, want %q", c.host, c.path, c.header, got, c.want)
		}
	}
}
