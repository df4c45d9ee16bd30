package config

import "testing"

// Whatever the file says, it is refused with a reason or names what the daemon needs.
func FuzzParse(f *testing.F) {
	f.Add([]byte("owner: acme\ngit: {url: /x}\nnomad: {eu: {address: 'http://127.0.0.1:4646', datacenters: [dc1]}}\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte("owner: acme\nlimits: {slow_start: -1}\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := Parse(raw)
		if err != nil && err.Error() == "" || err == nil && (c.Owner == "" || c.Git.URL == "") {
			t.Errorf("%+v, error %v", c, err)
		}
	})
}
