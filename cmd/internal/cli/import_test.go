package cli

import (
	"context"
	"strings"
	"testing"

	"locktide.dev/schema"
)

func (e *engine) Import(_ context.Context, o ImportOptions) (Imported, error) {
	job := func(name, terraform string) ImportedObject {
		return ImportedObject{Key: schema.Key{Kind: "nomad.job", Instance: "dc1", Name: name}, Ref: schema.NewRef("groups", name+"/prod.dc1"), Terraform: terraform}
	}
	out := Imported{Defined: []ImportedObject{job("web", ""), job("api", `nomad_job.all["it's"]`), job("cron", `nomad_job.all["it's"]`)}, Files: []string{"jobs/default/web.yaml"}}
	if o.Terraform == "" {
		out.Defined = out.Defined[:1]
	}
	return out, nil
}

// What Terraform manages too is named once, as a command that a shell takes.
func TestImportNamesWhatTerraformManages(t *testing.T) {
	const command = `  terraform state rm 'nomad_job.all["it'\''s"]'` + "\n"
	code, out, errs := run(t, &engine{}, "import", "fleet", "--config", "c.yaml", "--terraform-state", "state.json")
	if code != 0 || strings.Count(out, command) != 1 || strings.Count(out, "terraform state rm") != 1 {
		t.Errorf("exit code %d, %q %s", code, out, errs)
	}
	if _, out, _ := run(t, &engine{}, "import", "fleet", "--config", "c.yaml"); strings.Contains(out, "erraform") {
		t.Errorf("without a state: %q", out)
	}
}
