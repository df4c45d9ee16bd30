package consul

import (
	"testing"

	"github.com/hashicorp/consul/api"
)

// What stands in Consul's keys may be written by anybody: a mark that cannot be
// read is nobody's.
func FuzzMarker(f *testing.F) {
	f.Add([]byte(`{"owner": "acme", "object": {"key": "consul.kv:main:shop"}}`))
	f.Add([]byte(`{"owner": "acme", "object": {"key": 1}}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, value []byte) {
		one := folder{mark: &api.KVPair{Value: value, ModifyIndex: 1}, keys: map[string]*api.KVPair{"a": {Value: value}}}
		if one.owner() != "" && len(value) == 0 {
			t.Error("nothing has an owner")
		}
		if one.absent() || one.version() == "" || len(one.diff(map[string]string{"a": string(value), "b": ""})) != 1 {
			t.Errorf("version %q, diff %v", one.version(), one.diff(nil))
		}
	})
}
