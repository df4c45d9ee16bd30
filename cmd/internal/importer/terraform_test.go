package importer

import (
	"strings"
	"testing"

	"locktide.dev/schema"
)

const state = `{"version": 4, "terraform_version": "1.9.0", "resources": [
 {"mode": "managed", "type": "nomad_job", "name": "web", "instances": [{"attributes": {"id": "shop-web", "name": "shop-web", "namespace": "default"}}]},
 {"module": "module.pay", "mode": "managed", "type": "nomad_job", "name": "all", "instances": [
  {"index_key": "api", "attributes": {"id": "api", "namespace": "pay"}}, {"index_key": 1, "attributes": {"id": "web", "namespace": "pay"}}]},
 {"mode": "data", "type": "nomad_job", "name": "seen", "instances": [{"attributes": {"id": "other"}}]},
 {"mode": "managed", "type": "consul_config_entry", "name": "r", "instances": [{"attributes": {"kind": "service-router", "name": "web"}}]},
 {"mode": "managed", "type": "consul_node", "name": "db", "instances": [{"attributes": {"name": "db1"}}]},
 {"mode": "managed", "type": "consul_keys", "name": "k", "instances": [{"attributes": {"key": [{"path": "vendor/a", "value": "1"}, {"path": "vendor/b"}]}}]},
 {"mode": "managed", "type": "consul_key_prefix", "name": "p", "instances": [{"attributes": {"path_prefix": "app/", "subkeys": {"x": "1"}}}]},
 {"mode": "managed", "type": "aws_instance", "name": "no", "instances": [{"attributes": {"id": "shop-api"}}]}]}`

// What Terraform manages is named by the address that its state has it under.
func TestTerraform(t *testing.T) {
	held, err := ReadTerraform([]byte(state))
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"nomad.job:dc1:shop-web": "nomad_job.web", "nomad.job:dc1:api@pay": `module.pay.nomad_job.all["api"]`, "nomad.job:dc1:web@pay": "module.pay.nomad_job.all[1]",
		"nomad.job:dc1:web": "", "nomad.job:dc1:other": "", "nomad.job:dc1:shop-api": "",
		"consul.router:main:web": "consul_config_entry.r", "consul.resolver:main:web": "", "consul.node:main:db1": "consul_node.db",
		"consul.key:main:vendor/b": "consul_keys.k", "consul.key:main:app/x": "consul_key_prefix.p",
	} {
		k, err := schema.ParseKey(key)
		if got := held.Address(k); err != nil || got != want {
			t.Errorf("%s is managed by %q, want %q (%v)", key, got, want, err)
		}
	}
	for text, want := range map[string]string{"": "no Terraform state", "[]": "no Terraform state", `{"version": 3}`: "version 3, want 4"} {
		if _, err := ReadTerraform([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func FuzzTerraform(f *testing.F) {
	f.Add([]byte(state))
	f.Fuzz(func(t *testing.T, raw []byte) {
		held, err := ReadTerraform(raw)
		if (err == nil) != (held != nil) {
			t.Errorf("%v, %v", held, err)
		}
	})
}
