package nomad

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/nomad/api"

	"locktide.dev/schema"
)

// mainTask is the task that is the app: "main", else the first without a hook.
func (b *builder) mainTask() string {
	if _, ok := b.group.Tasks["main"]; ok {
		return "main"
	}
	for _, name := range slices.Sorted(maps.Keys(b.group.Tasks)) {
		if b.group.Tasks[name].Hook == "" {
			return name
		}
	}
	return ""
}

func (b *builder) tasks(tg *api.TaskGroup) {
	if len(b.group.Tasks) == 0 {
		b.deny("tasks-missing", "tasks", "write tasks: main: driver", "the group has no tasks")
	}
	main := b.mainTask()
	if main == "" && len(b.group.Tasks) > 0 {
		b.deny("tasks-missing", "tasks", "give one task no hook", "every task is a hook")
	}
	for _, name := range slices.Sorted(maps.Keys(b.group.Tasks)) {
		tg.Tasks = append(tg.Tasks, b.task(name, name == main))
	}
}

// version and digest of "version@sha256:...".
func (b *builder) release() (version, digest string) {
	version, digest, _ = strings.Cut(b.group.Release, "@")
	return version, digest
}

func (b *builder) task(name string, main bool) *api.Task {
	g, t := b.group, b.group.Tasks[name]
	if t.Driver == "" {
		t.Driver = g.Tasks[b.mainTask()].Driver
	}
	out := api.NewTask(name, t.Driver)
	field := "tasks." + name
	if t.Driver == "" {
		b.deny("driver-missing", field+".driver", "for example exec, raw_exec or docker", "task %s has no driver", name)
	}
	out.User, out.KillSignal = t.User, g.Stop.Signal
	out.Config = b.options(name, t, main)
	out.Env = b.env(t)
	if kill := t.KillTimeout.Std(); kill > 0 {
		out.KillTimeout = &kill
	} else if stop := g.Stop.Timeout.Std(); stop > 0 && main {
		out.KillTimeout = &stop
	}
	switch t.Hook {
	case "":
		if t.Sidecar {
			out.Lifecycle = &api.TaskLifecycle{Hook: "prestart", Sidecar: true}
		}
	case "prestart", "poststart", "poststop":
		out.Lifecycle = &api.TaskLifecycle{Hook: t.Hook, Sidecar: t.Sidecar}
	default:
		b.deny("unknown-hook", field+".hook", "one of prestart, poststart, poststop", "hook %q is unknown", t.Hook)
	}
	out.Resources = resources(g.Resources, t.Resources)
	if disk := g.Resources.DiskMiB; disk > 0 && disk <= defaultLogs { // Nomad refuses logs that do not fit the disk
		out.LogConfig = &api.LogConfig{MaxFiles: ptr(2), MaxFileSizeMB: ptr(max(1, disk/8))}
	}
	for _, v := range slices.Sorted(maps.Keys(t.Mounts)) {
		if _, ok := g.Volumes[v]; !ok {
			b.deny("unknown-volume", field+".mounts."+v, "add it to volumes", "volume %q is not in volumes", v)
		}
		m := t.Mounts[v]
		out.VolumeMounts = append(out.VolumeMounts, &api.VolumeMount{Volume: &v, Destination: &m.Path, ReadOnly: &m.ReadOnly})
	}
	if main {
		b.files(out)
		b.artifact(out)
	}
	b.secrets(out, main)
	return out
}

// defaultLogs is what one task's logs may take unless told otherwise, in MiB.
const defaultLogs = 100

func resources(group schema.Resources, own *schema.Resources) *api.Resources {
	r := group
	if own != nil {
		r = *own
	}
	out := &api.Resources{}
	if r.CPUMHz > 0 {
		out.CPU = &r.CPUMHz
	}
	if r.MemoryMiB > 0 {
		out.MemoryMB = &r.MemoryMiB
	}
	if out.CPU == nil && out.MemoryMB == nil {
		return nil
	}
	return out
}

// options gives the driver's options: those written, with command, arguments,
// image and, for docker, all ports of the group.
func (b *builder) options(name string, t schema.Task, main bool) map[string]any {
	out := map[string]any{}
	maps.Copy(out, t.Config)
	set := func(key string, v any) {
		if _, written := out[key]; written {
			b.deny("written-twice", "tasks."+name+".config."+key, "write it once", "task %s has %s in config and beside it", name, key)
		}
		out[key] = v
	}
	if t.Command != "" {
		set("command", t.Command)
	}
	if len(t.Args) > 0 {
		set("args", t.Args)
	}
	if image := schema.TaskImage(b.group.Body, t, main, b.group.Tasks[b.mainTask()].Driver); image != "" {
		set("image", image)
	}
	if _, written := out["ports"]; t.Driver == "docker" && main && !written && len(b.group.Ports) > 0 && b.group.Network != "host" {
		out["ports"] = slices.Sorted(maps.Keys(b.group.Ports))
	}
	if t.Driver == "docker" && out["image"] == nil {
		b.deny("image-missing", "image", "write image and release", "docker task %s has no image", name)
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

func (b *builder) env(t schema.Task) map[string]string {
	out := map[string]string{}
	maps.Copy(out, b.group.Env)
	maps.Copy(out, t.Env)
	if name := schema.ConfigName(b.name, b.group); name != "" {
		out["LOCKTIDE_CONFIG"] = schema.ConfigPath(b.config.ConsulPrefix, name)
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

func (b *builder) artifact(out *api.Task) {
	a := b.group.Artifact
	if a == nil {
		return
	}
	version, digest := b.release()
	if version == "" && strings.Contains(a.URL, "{version}") {
		b.deny("release-missing", "release", "write release: \"version@sha256:...\"", "artifact.url names {version}, but the group has no release")
	}
	url := strings.ReplaceAll(a.URL, "{version}", version)
	sum := a.SHA256
	if sum == "" {
		sum = strings.TrimPrefix(digest, "sha256:")
	}
	art := &api.TaskArtifact{GetterSource: &url}
	if sum != "" {
		art.GetterOptions = map[string]string{"checksum": "sha256:" + strings.TrimPrefix(sum, "sha256:")}
	}
	to := a.To
	if to == "" {
		to = "local/"
	}
	art.RelativeDest = &to
	out.Artifacts = []*api.TaskArtifact{art}
}

func (b *builder) files(out *api.Task) {
	for _, name := range slices.Sorted(maps.Keys(b.group.Files)) {
		f := b.group.Files[name]
		content, to := f.Content, f.To
		if to == "" {
			to = "local/" + name
		}
		t := &api.Template{EmbeddedTmpl: &content, DestPath: &to}
		if f.Literal { // delimiters that a literal text does not hold
			left, right := freshDelimiters(content)
			t.LeftDelim, t.RightDelim = &left, &right
		}
		if f.Mode != "" {
			t.Perms = &f.Mode
		}
		switch mode, signal, _ := strings.Cut(f.Change, ":"); {
		case f.Change == "" || f.Change == "restart" || f.Change == "noop":
			if f.Change != "" {
				t.ChangeMode = &f.Change
			}
		case mode == "signal" && signal != "":
			t.ChangeMode, t.ChangeSignal = &mode, &signal
		default:
			b.deny("file-change", "files."+name+".change", "one of restart, signal:NAME, noop", "change %q is unknown", f.Change)
		}
		out.Templates = append(out.Templates, t)
	}
}

func freshDelimiters(content string) (left, right string) {
	for i := 0; ; i++ {
		left, right = fmt.Sprintf("<<literal%d:", i), fmt.Sprintf(":literal%d>>", i)
		if !strings.Contains(content, left) {
			return left, right
		}
	}
}

// secrets become one template of environment variables in the task's secrets
// directory: references, never values.
func (b *builder) secrets(out *api.Task, main bool) {
	var text strings.Builder
	vault := false
	for _, name := range slices.Sorted(maps.Keys(b.group.Secrets)) {
		s := b.group.Secrets[name]
		field := "secrets." + name
		if (s.Vault == "") == (s.Variable == "") {
			if main { // every task gets the secrets; one finding is enough
				b.deny("secret-source", field, "set exactly one of vault, variable", "a secret has one source")
			}
			continue
		}
		path, item, ok := strings.Cut(s.Vault+s.Variable, "#")
		if !ok || path == "" || item == "" || strings.ContainsAny(path+item, "\"\\`{}\n") {
			if main {
				b.deny("secret-path", field, "write path#field", "secret source %q is not path#field", s.Vault+s.Variable)
			}
			continue
		}
		if s.Vault != "" {
			vault = true
			at := "index .Data " + quote(item)
			if strings.HasPrefix(path, "kv/data/") || strings.Contains(path, "/data/") {
				at = "index .Data.data " + quote(item)
			}
			fmt.Fprintf(&text, "{{ with secret %s }}%s={{ %s | toJSON }}{{ end }}\n", quote(path), name, at)
			continue
		}
		fmt.Fprintf(&text, "{{ with nomadVar %s }}%s={{ (index . %s) | toJSON }}{{ end }}\n", quote(path), name, quote(item))
	}
	if text.Len() == 0 {
		return
	}
	out.Templates = append(out.Templates, &api.Template{EmbeddedTmpl: ptr(text.String()), DestPath: ptr("secrets/locktide.env"), Envvars: ptr(true)})
	if vault {
		out.Vault = &api.Vault{}
	}
}

func quote(s string) string { return `"` + s + `"` }

func (b *builder) volumes(tg *api.TaskGroup) {
	for _, name := range slices.Sorted(maps.Keys(b.group.Volumes)) {
		v := b.group.Volumes[name]
		field := "volumes." + name
		if (v.Host == "") == (v.CSI == "") {
			b.deny("volume-source", field, "set exactly one of host, csi", "a volume has one source")
			continue
		}
		req := &api.VolumeRequest{Name: name, Type: "host", Source: v.Host + v.CSI, ReadOnly: v.ReadOnly}
		if v.CSI != "" {
			req.Type, req.AttachmentMode, req.AccessMode = "csi", "file-system", "single-node-writer"
			if v.ReadOnly {
				req.AccessMode = "multi-node-reader-only"
			}
		}
		if tg.Volumes == nil {
			tg.Volumes = map[string]*api.VolumeRequest{}
		}
		tg.Volumes[name] = req
	}
}
