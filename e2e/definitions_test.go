package e2e

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// soak is the pause between the batches of every fleet.
const soak = time.Second

// app is one application in every datacenter of its fleet, of the program's own
// hello command.
type app struct {
	label   string // the last one of its name
	version string
	count   int      // in each group
	cells   []string // of its groups, all in the first datacenter; none: one group in each
	routed  bool     // the first one's route leads to it, too
	args    []string // more of hello
	shell   string   // instead of hello, with $LOCKTIDE for the program
	check   string   // path of the check; empty: /healthz
	mesh    bool     // Consul gets entries of it
	body    string   // more fields, as lines of YAML
}

func (f *fleet) app(label string) string { return f.owner + "." + label }

func (f *fleet) group(label, dc string) string { return f.app(label) + "/prod." + dc }

// job is the name of a group's Nomad job.
func (f *fleet) job(label, dc string) string { return f.owner + "--" + label + "--prod--" + dc }

// files are the definitions of a fleet with these apps; the first one has the route.
func (f *fleet) files(apps ...app) map[string]string {
	files := map[string]string{"platform/fleet.yaml": fmt.Sprintf(`
stages: {prod: {order: 1, datacenters: [%[2]s]}}
teams: {team: {paths: [apps], apps: ["%[1]s.*"], domains: ["*.localhost"], namespaces: [default], may: [raw_exec], contact: "#team"}}
defaults:
  fleet:
    placement: {pool: default}
    rollout: {soak: %[3]s, bake: 0s, start_timeout: 1m, max_unavailable: 34%%, repair_after: 1h}
    stop: {delay: 2s}
    resources: {cpu_mhz: 20, memory_mib: 64}
`, f.owner, strings.Join(f.places, ", "), soak)}
	var targets []string
	for i, a := range apps {
		if i == 0 || a.routed {
			targets = append(targets, "{app: "+f.app(a.label)+"}")
		}
	}
	for i, a := range apps {
		cells := strings.Join(f.places, ": {}, ") + ": {}"
		if len(a.cells) > 0 {
			cells = strings.Join(a.cells, ": {datacenter: "+f.places[0]+"}, ") + ": {datacenter: " + f.places[0] + "}"
		}
		meta := ""
		if a.mesh {
			meta = " meta: {protocol: http},"
		}
		command, args := world.binary, append([]string{"hello", "--name", a.label}, a.args...)
		if a.shell != "" {
			command, args = "/bin/sh", []string{"-c", fmt.Sprintf("%q", strings.ReplaceAll(a.shell, "$LOCKTIDE", world.binary))}
		}
		text := fmt.Sprintf(`
apps:
  %s:
    tier: access
    release: %q
    env: {VERSION: %q}
    tasks: {main: {driver: raw_exec, command: %q, args: [%s]}}
    ports: {http: {}}
    services: {main: {port: http,%s checks: {ready: {http: %s, every: 1s, timeout: 5s}}}}
    ignite: {http: /healthz}
    stages: {prod: {count: %d, groups: {%s}}}
`, f.app(a.label), a.version, a.version, command, strings.Join(args, ", "),
			meta, cmp.Or(a.check, "/healthz"), a.count, cells)
		for line := range strings.Lines(a.body) {
			text += "    " + line
		}
		if i == 0 {
			text += fmt.Sprintf("\nroutes:\n  %s: {domains: [%s], to: [%s], via: edge}\n", f.owner, f.domain(), strings.Join(targets, ", "))
		}
		files["apps/"+a.label+".yaml"] = text
	}
	return files
}

func (f *fleet) domain() string { return f.owner + ".localhost" }

// with gives files with one more, or another.
func with(files map[string]string, name, text string) map[string]string {
	files = maps.Clone(files)
	files[name] = text
	return files
}

// repository is a bare repository and a work tree that is pushed to it.
type repository struct {
	t    *testing.T
	work string
}

func newRepository(t *testing.T, bare, work string) *repository {
	t.Helper()
	r := &repository{t: t, work: work}
	must(t, os.Mkdir(work, 0o755))
	r.git("init", "--quiet", "--bare", "--initial-branch=main", bare)
	r.git("--git-dir", bare, "config", "receive.denyDeleteCurrent", "ignore")
	r.git("init", "--quiet", "--initial-branch=main")
	r.git("remote", "add", "origin", bare)
	return r
}

// git runs one command in the work tree, free of the user's configuration.
func (r *repository) git(args ...string) string {
	r.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = r.work
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=e2e", "GIT_AUTHOR_EMAIL=e2e@localhost", "GIT_COMMITTER_NAME=e2e", "GIT_COMMITTER_EMAIL=e2e@localhost")
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("git %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// push makes files all that the branch has and gives the commit.
func (r *repository) push(message string, files map[string]string) string {
	r.t.Helper()
	r.git("rm", "-r", "-q", "-f", "--ignore-unmatch", ".")
	for name, text := range files {
		path := filepath.Join(r.work, name)
		must(r.t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(r.t, os.WriteFile(path, []byte(text), 0o644))
	}
	r.git("add", "--all")
	r.git("commit", "--quiet", "--allow-empty", "--message", message)
	return r.publish()
}

// revert undoes the newest commit with another one.
func (r *repository) revert() string {
	r.t.Helper()
	r.git("revert", "--no-edit", "HEAD")
	return r.publish()
}

// publish pushes, by force, and gives the commit.
func (r *repository) publish() string {
	r.t.Helper()
	r.git("push", "--quiet", "--force", "origin", "HEAD:main")
	return r.head()
}

// head is the newest commit.
func (r *repository) head() string { return r.git("rev-parse", "HEAD") }
