package importer

import (
	"encoding/json"
	"fmt"
	"strings"

	"locktide.dev/schema"
)

// Terraform is what a Terraform state manages of what can be imported: the
// addresses of its resources.
type Terraform map[string]string

// Address gives the resource that manages an object; "": none does.
func (t Terraform) Address(k schema.Key) string { return t[managed(k.Kind.Thing(), k.Name)] }

func managed(thing, name string) string { return thing + " " + name }

// terraformState is format 4, which `terraform state pull` prints.
type terraformState struct {
	Version   int `json:"version"`
	Resources []struct {
		Module    string `json:"module"`
		Mode      string `json:"mode"`
		Type      string `json:"type"`
		Name      string `json:"name"`
		Instances []struct {
			Index      any `json:"index_key"` // of count or for_each
			Attributes struct {
				ID         string `json:"id"`
				Name       string `json:"name"`
				Namespace  string `json:"namespace"`
				Kind       string `json:"kind"`
				PathPrefix string `json:"path_prefix"`
				Keys       any    `json:"key"`     // consul_keys: [{path}]
				Subkeys    any    `json:"subkeys"` // consul_key_prefix: {path: value}
			} `json:"attributes"`
		} `json:"instances"`
	} `json:"resources"`
}

// ReadTerraform reads a state.
func ReadTerraform(raw []byte) (Terraform, error) {
	var state terraformState
	if err := json.Unmarshal(raw, &state); err != nil {
		return nil, fmt.Errorf("it is no Terraform state in JSON: %w", err)
	}
	if state.Version != 4 {
		return nil, fmt.Errorf("it is a state of version %d, want 4", state.Version)
	}
	out := Terraform{}
	for _, r := range state.Resources {
		if r.Mode != "managed" {
			continue
		}
		for _, i := range r.Instances {
			address := strings.TrimPrefix(r.Module+"."+r.Type+"."+r.Name, ".")
			if i.Index != nil {
				index, err := json.Marshal(i.Index)
				if err != nil {
					return nil, err
				}
				address += "[" + string(index) + "]"
			}
			a := i.Attributes
			switch r.Type {
			case "nomad_job":
				name := a.ID
				if a.Namespace != "" && a.Namespace != "default" {
					name += "@" + a.Namespace
				}
				out[managed("job", name)] = address
			case "consul_config_entry":
				out[managed(schema.ThingOfEntry(a.Kind), a.Name)] = address
			case "consul_node":
				out[managed("node", a.Name)] = address
			case "consul_keys":
				list, _ := a.Keys.([]any)
				for _, item := range list {
					if fields, ok := item.(map[string]any); ok {
						out[managed("key", fmt.Sprint(fields["path"]))] = address
					}
				}
			case "consul_key_prefix":
				below, _ := a.Subkeys.(map[string]any)
				for path := range below {
					out[managed("key", a.PathPrefix+path)] = address
				}
			}
		}
	}
	return out, nil
}
