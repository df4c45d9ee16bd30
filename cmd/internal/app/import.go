package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"locktide.dev/cmd/internal/cli"
	"locktide.dev/cmd/internal/importer"
	"locktide.dev/drivers"
	"locktide.dev/policy"
	"locktide.dev/reconciler"
	"locktide.dev/schema"
)

// Import implements cli.Engine. Everything is tried on a copy of the folder;
// what is written there renders and plans to no change.
func (e *engine) Import(ctx context.Context, o cli.ImportOptions) (out cli.Imported, err error) {
	for _, p := range o.Only {
		if _, err := path.Match(p, ""); err != nil {
			return out, cli.Fail("for example --only 'shop-*'", "%q is no pattern of names", p)
		}
	}
	var held importer.Terraform
	if o.Terraform != "" {
		if held, err = terraform(o.Terraform); err != nil {
			return out, err
		}
	}
	exported, err := e.export(ctx, o)
	if err != nil {
		return out, err
	}
	a, err := e.attempt(ctx, o, exported, nil)
	if err == nil && o.Typed && len(a.differs) > 0 { // what is not the same as fields is a raw job
		a, err = e.attempt(ctx, o, exported, a.differs)
	}
	if err != nil {
		return out, err
	}
	result := a.result.Without(a.differs)
	if len(result.Defined) > 0 {
		if err := place(o.Folder, result.Files, o.Overwrite); err != nil {
			return out, err
		}
		out.Files, out.Covered, out.Expires = slices.Sorted(maps.Keys(result.Files)), a.covered, a.expires
	}
	out.Defined, out.Refused = listed(result.Defined, held), listed(result.Refused, nil)
	return out, nil
}

// terraform reads a file with a state.
func terraform(file string) (importer.Terraform, error) {
	raw, err := os.ReadFile(file)
	if err == nil {
		var held importer.Terraform
		if held, err = importer.ReadTerraform(raw); err == nil {
			return held, nil
		}
	}
	return nil, cli.Fail("write it with `terraform state pull > "+file+"`", "cannot read the Terraform state %s: %v", file, err)
}

// attempt is an import that was tried on a copy of the folder.
type attempt struct {
	result  importer.Result
	covered int                   // findings that the baseline excepts
	expires string                // YYYY-MM-DD
	differs map[schema.Ref]string // definitions that would change what is live
}

// attempt tries an import; the groups of raw are written as raw jobs.
func (e *engine) attempt(ctx context.Context, o cli.ImportOptions, exported []drivers.Exported, raw map[schema.Ref]string) (a attempt, err error) {
	trial, err := os.MkdirTemp("", "locktide-import-")
	if err != nil {
		return a, fmt.Errorf("cannot try the import: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(trial)) }()
	options, err := e.copyOf(ctx, o, trial)
	if err != nil {
		return a, err
	}
	today := time.Now().UTC()
	options.Stage, options.Date, options.Typed, options.Raw = o.Stage, today.Format(time.DateOnly), o.Typed, raw
	options.Selected = func(name string) bool {
		return len(o.Only) == 0 || slices.ContainsFunc(o.Only, func(p string) bool { ok, err := path.Match(p, name); return ok && err == nil })
	}
	a.expires = today.Add(o.Expires).Format(time.DateOnly)
	if a.result = keepFiles(importer.Define(exported, options), o); len(a.result.Defined) == 0 {
		return a, nil
	}
	if err := put(trial, a.result.Files); err != nil {
		return a, err
	}
	found, err := e.baseline(ctx, o, trial, a.result)
	if err != nil {
		return a, err
	}
	file, content := importer.Baseline(found, options.Date, a.expires, func(name string) bool { return exists(filepath.Join(o.Folder, name)) })
	if file != "" {
		a.result.Files[file], a.covered = content, len(found)
		if err := put(trial, map[string][]byte{file: content}); err != nil {
			return a, err
		}
	}
	a.differs, err = e.changed(ctx, o, trial, a.result)
	return a, err
}

func listed(items []importer.Item, held importer.Terraform) []cli.ImportedObject {
	out := make([]cli.ImportedObject, len(items))
	for i, x := range items {
		out[i] = cli.ImportedObject{Key: x.Key, Ref: x.Ref, File: x.File, Secrets: x.Secrets, Notes: x.Notes, At: x.At, Why: x.Why, Terraform: held.Address(x.Key)}
	}
	return out
}

// export asks every backend that can tell what runs.
func (e *engine) export(ctx context.Context, o cli.ImportOptions) ([]drivers.Exported, error) {
	cfg, err := readConfig(o.Config)
	if err != nil {
		return nil, err
	}
	b, err := inspect(ctx, cfg)
	if err != nil {
		return nil, err
	}
	var out []drivers.Exported
	for _, d := range b.drivers {
		x, ok := d.(drivers.Exporter)
		if !ok {
			continue
		}
		found, err := x.Export(ctx)
		if err != nil {
			return nil, cli.Fail("look at what it names; `locktide doctor --config "+o.Config+"` checks every backend", "%v", err)
		}
		out = append(out, found...)
		if keys, ok := d.(drivers.KeyExporter); ok && len(o.Keys) > 0 {
			if found, err = keys.ExportKeys(ctx, o.Keys); err != nil {
				return nil, err
			}
			out = append(out, found...)
		}
	}
	return out, nil
}

// copyOf copies the folder's definitions to trial and says what they define.
func (e *engine) copyOf(ctx context.Context, o cli.ImportOptions, trial string) (importer.Options, error) {
	out := importer.Options{Taken: map[schema.Ref]bool{}, Objects: map[schema.Key]string{}, Places: map[importer.Place]bool{}}
	info, err := os.Stat(o.Folder)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return out, nil
	case err == nil && !info.IsDir():
		return out, cli.Fail("name a folder", "%s is no folder", o.Folder)
	case err != nil:
		return out, fmt.Errorf("cannot read %s: %w", o.Folder, err)
	}
	if err := copyTree(trial, os.DirFS(o.Folder)); err != nil {
		return out, err
	}
	have, err := e.Render(ctx, trial, o.Config)
	if err != nil {
		return out, err
	}
	if schema.AnyDenied(have.Findings) {
		return out, cli.Fail("`locktide validate "+o.Folder+"` says what", "the definitions that %s has already are not valid", o.Folder)
	}
	for _, x := range have.Objects {
		out.Objects[x.Key] = x.Group
	}
	for name := range have.Fleet.Apps {
		out.Taken[schema.NewRef("apps", name)] = true
	}
	for name := range have.Fleet.Hosts {
		out.Taken[schema.NewRef("hosts", name)] = true
	}
	for name := range have.Fleet.Consul {
		out.Taken[schema.NewRef("consul", name)] = true
	}
	for name, def := range have.Fleet.Routes {
		out.Taken[schema.NewRef("routes", name)] = true
		for _, p := range importer.Places(def) {
			out.Places[p] = true
		}
	}
	out.Stages = have.Fleet.Stages
	return out, nil
}

// keepFiles refuses what would be written over an existing file.
func keepFiles(r importer.Result, o cli.ImportOptions) importer.Result {
	why := map[schema.Ref]string{}
	for _, item := range r.Defined {
		if !o.Overwrite && exists(filepath.Join(o.Folder, item.File)) {
			why[item.Ref] = "the file " + item.File + " exists: move it away, or say --overwrite"
		}
	}
	if file := "stages.yaml"; r.Files[file] != nil && exists(filepath.Join(o.Folder, file)) {
		r.Files["stages-import.yaml"] = r.Files[file] // another file may define a stage as well
		delete(r.Files, file)
	}
	return r.Without(why)
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

// put writes files below dir.
func put(dir string, files map[string][]byte) error {
	for _, name := range slices.Sorted(maps.Keys(files)) {
		to := filepath.Join(dir, filepath.FromSlash(name))
		err := os.MkdirAll(filepath.Dir(to), 0o755)
		if err == nil {
			err = os.WriteFile(to, files[name], 0o644)
		}
		if err != nil {
			return fmt.Errorf("cannot write definitions: %w", err)
		}
	}
	return nil
}

// place brings files below dir, all or none: they are whole before the first
// has its name. Without over none takes the place of another.
func place(dir string, files map[string][]byte, over bool) (err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("cannot write definitions: %w", err)
	}
	stage, err := os.MkdirTemp(dir, ".import-")
	if err != nil {
		return fmt.Errorf("cannot write definitions: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(stage)) }()
	if err := put(stage, files); err != nil {
		return err
	}
	var placed []string
	for _, name := range slices.Sorted(maps.Keys(files)) {
		from, to := filepath.Join(stage, filepath.FromSlash(name)), filepath.Join(dir, filepath.FromSlash(name))
		move := os.Link // it refuses a name that is taken
		if over {
			move = os.Rename
		}
		if err = os.MkdirAll(filepath.Dir(to), 0o755); err == nil {
			err = move(from, to)
		}
		if err != nil {
			err = fmt.Errorf("cannot write definitions: %w", err)
			if !over {
				for _, p := range placed {
					err = errors.Join(err, os.Remove(p))
				}
			}
			return err
		}
		placed = append(placed, to)
	}
	return nil
}

// baseline gives what policies find in the new definitions. Findings that no
// exception can set aside are an error: the import itself is wrong.
func (e *engine) baseline(ctx context.Context, o cli.ImportOptions, trial string, r importer.Result) ([]schema.Finding, error) {
	rendered, err := e.Render(ctx, trial, o.Config)
	if err != nil {
		return nil, err
	}
	rules := map[string]bool{}
	for _, code := range policy.Codes() {
		rules[code] = true
	}
	users, err := e.renderer("").Render(ctx, os.DirFS(trial))
	if err != nil {
		return nil, err
	}
	for _, r := range users.Rules {
		rules[r.Code] = true
	}
	ours := map[schema.Ref]bool{}
	for _, item := range r.Defined {
		ours[item.Ref] = true
		if kind, name := item.Ref.Split(); kind == "groups" {
			app, _, _ := strings.Cut(name, "/")
			ours[schema.NewRef("apps", app)] = true
		}
	}
	var out []schema.Finding
	for _, f := range rendered.Findings {
		switch {
		case f.Excepted != "":
		case ours[f.Ref] && rules[f.Code]:
			out = append(out, f)
		case f.Severity == schema.Deny:
			return nil, cli.Fail(f.Next, "what was imported is not valid, nothing was written: %s", f)
		}
	}
	return out, nil
}

// changed plans the trial and says which of the new definitions would change
// what is live.
func (e *engine) changed(ctx context.Context, o cli.ImportOptions, trial string, r importer.Result) (map[schema.Ref]string, error) {
	c, _, err := e.observing(ctx, o.Config)
	if err != nil {
		return nil, err
	}
	c.Source = folderSource{trial}
	refs := map[schema.Key]schema.Ref{}
	for _, item := range r.Defined {
		refs[item.Key] = item.Ref
	}
	out := map[schema.Ref]string{}
	err = planOnce(ctx, c, func(l *reconciler.Loop) error {
		differs := map[schema.Key]string{}
		for _, x := range l.Report().Objects {
			for i, change := range x.Diff {
				if i < 3 {
					differs[x.Key] += fmt.Sprintf("; %s: defined %q, running %q", change.Field, change.Was, change.Is)
				}
			}
		}
		for _, p := range l.Plan().Partitions {
			for _, it := range p.Items {
				if ref, ours := refs[it.Key]; ours {
					out[ref] = "its definition would change it" + differs[it.Key]
				}
			}
		}
		return nil
	})
	return out, err
}
