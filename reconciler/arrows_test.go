package reconciler_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// rule says which imports one package must not have outside of tests, with all
// that is below them. To "*" means everything but the standard library; except
// lists prefixes that are allowed all the same.
type rule struct {
	from   string
	to     []string
	except []string
	why    string
}

const module = "locktide.dev/"

var pure = []string{"os", "log", "log/slog", "math/rand", "math/rand/v2", "net", "net/http", "sync", "context"}

var rules = []rule{
	{"schema", []string{"*"}, []string{module + "schema/persistent"}, "the vocabulary depends on the standard library only"},
	{"drivers", []string{"*"}, []string{module + "schema"}, "the contract knows the vocabulary only"},
	{"policy", []string{"*"}, []string{module + "schema", module + "policy/calendar"}, "rules judge definitions, not backends"},
	{"render", []string{"*"}, []string{module + "schema", module + "render"}, "rendering knows files and definitions only"},
	{"reconciler", []string{module + "drivers/", module + "render", module + "cmd", "github.com/", "go.etcd.io/", "cuelang.org/"}, nil, "the engine sees backends through their contract"},
	{"reconciler/planner", pure, nil, "the planner is pure"},
	{"reconciler/compiler", pure, nil, "compiling is pure"},
	{"reconciler/compiler", []string{"*"}, []string{module + "schema", module + "drivers", module + "reconciler/planner"}, "compiling asks drivers through their contract"},
	{"reconciler/rollout", pure, nil, "a rollout's step is pure"},
	{"reconciler/ledger", pure, nil, "the ledger is pure"},
	{"reconciler/rotation", pure, nil, "rotation is pure"},
	{"policy/calendar", pure, nil, "the time is an argument"},
	{"policy/calendar", []string{"*"}, []string{module + "schema"}, "pure parts know the vocabulary"},
	{"reconciler/planner", []string{"*"}, []string{module + "schema", module + "drivers"}, "pure parts know the vocabulary and the kinds"},
	{"reconciler/rollout", []string{"*"}, []string{module + "schema"}, "pure parts know the vocabulary"},
	{"reconciler/ledger", []string{"*"}, []string{module + "schema"}, "pure parts know the vocabulary"},
	{"reconciler/rotation", []string{"*"}, []string{module + "schema"}, "pure parts know the vocabulary"},
	{"reconciler/relations", pure, nil, "relations are pure"},
	{"reconciler/relations", []string{"*"}, []string{module + "schema"}, "relations know the vocabulary"},
	{"reconciler/forecast", []string{"*"}, []string{module + "schema", module + "drivers/memory", module + "drivers", module + "reconciler/rollout", module + "reconciler/ledger"}, "a forecast has decisions and a copy in memory, nothing that runs"},
	{"reconciler/gitsource/signature", []string{"*"}, []string{"github.com/ProtonMail/go-crypto", "github.com/hiddeco/sshsig", "golang.org/x/crypto/ssh"}, "a signature is verified from bytes and keys, whoever fetched them"},
	{"reconciler/gate/sequential", pure, nil, "statistics are pure"},
	{"reconciler/gate/sequential", []string{"*"}, nil, "statistics need the standard library only"},
	{"reconciler/gate/accesslog", []string{"*"}, nil, "a log is read with the standard library only"},
	{"reconciler/gate", []string{"*"}, []string{module + "schema", module + "reconciler/gate"}, "gates know the vocabulary, neither backends nor the engine"},
	{"drivers/memory", []string{"*"}, []string{module + "schema", module + "drivers"}, "a driver knows neither the engine nor other drivers"},
	{"drivers/nomad", []string{module + "reconciler", module + "render", module + "cmd", module + "drivers/consul", module + "drivers/nginx", module + "drivers/haproxy"}, nil, "a driver translates and decides nothing"},
	{"drivers/consul", []string{module + "reconciler", module + "render", module + "cmd", module + "drivers/nomad", module + "drivers/nginx", module + "drivers/haproxy"}, nil, "a driver translates and decides nothing"},
	{"drivers/nginx", []string{module + "reconciler", module + "render", module + "cmd", module + "drivers/nomad", module + "drivers/consul"}, nil, "a driver translates and decides nothing"},
	{"drivers/l7", []string{module + "reconciler", module + "render", module + "cmd", module + "drivers/nomad", module + "drivers/consul"}, nil, "what proxies share knows no backend"},
}

// homes are the only packages that may import a third party's API.
var homes = map[string][]string{
	"github.com/hashicorp/nomad/api":      {"drivers/nomad"},
	"github.com/hashicorp/consul/api":     {"drivers/consul"},
	"github.com/go-git/go-git/v5":         {"reconciler/gitsource"},
	"github.com/ProtonMail/go-crypto":     {"reconciler/gitsource/signature"},
	"github.com/hiddeco/sshsig":           {"reconciler/gitsource/signature"},
	"cuelang.org/go":                      {"schema/cueschema", "render/cuelang", "policy/cuerules"},
	"github.com/google/cel-go":            {"policy/celrules"},
	"github.com/google/go-jsonnet":        {"render/jsonnet"},
	"github.com/prometheus/client_golang": {"cmd/internal/telemetry"},
	"github.com/spf13/cobra":              {"cmd/internal/cli", "cmd/locktide", "cmd/internal/app"},
	"go.etcd.io/bbolt":                    {"reconciler/journal"},
	"github.com/nginxinc":                 {"drivers/l7/foreign"},
}

// importsOf lists what each package of the module imports, tests left out.
func importsOf(t *testing.T, root string) map[string]map[string]string {
	t.Helper()
	out := map[string]map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); path != root && (name == "testdata" || name[0] == '.' || name[0] == '_') {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		dir, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		pkg := filepath.ToSlash(dir)
		if out[pkg] == nil {
			out[pkg] = map[string]string{}
		}
		for _, i := range file.Imports {
			name, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			out[pkg][name] = path
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func below(name, prefix string) bool {
	return name == strings.TrimSuffix(prefix, "/") || strings.HasPrefix(name, strings.TrimSuffix(prefix, "/")+"/")
}

func standard(name string) bool {
	first, _, _ := strings.Cut(name, "/")
	return !strings.Contains(first, ".")
}

func (r rule) forbids(name string) bool {
	for _, e := range r.except {
		if below(name, e) {
			return false
		}
	}
	for _, to := range r.to {
		switch {
		case to == "*":
			if !standard(name) {
				return true
			}
		case standard(to):
			if name == to {
				return true
			}
		case strings.HasSuffix(to, "/"):
			if strings.HasPrefix(name, to) {
				return true
			}
		case below(name, to):
			return true
		}
	}
	return false
}

func TestArrowsPointInward(t *testing.T) {
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		t.Fatal(err)
	}
	all := importsOf(t, root)
	for _, r := range rules {
		imports, there := all[r.from]
		if !there {
			t.Errorf("stale rule: there is no package %s (%s)", r.from, r.why)
		}
		for name, file := range imports {
			if r.forbids(name) {
				t.Errorf("%s imports %s in %s: %s", r.from, name, file, r.why)
			}
		}
	}
	for api, rooms := range homes {
		used := false
		for pkg, imports := range all {
			for name, file := range imports {
				if !below(name, api) {
					continue
				}
				used = true
				allowed := false
				for _, room := range rooms {
					allowed = allowed || below(pkg, room)
				}
				if !allowed {
					t.Errorf("%s imports %s in %s: only %v may", pkg, name, file, rooms)
				}
			}
		}
		if !used {
			t.Errorf("stale rule: nobody imports %s", api)
		}
		for _, room := range rooms {
			if _, there := all[room]; !there {
				t.Errorf("stale rule: there is no package %s for %s", room, api)
			}
		}
	}
}
