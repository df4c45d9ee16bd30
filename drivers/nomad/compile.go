package nomad

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/nomad/api"

	"locktide.dev/schema"
)

// Marks in the meta of every job that this driver wrote. They are constant: a
// change of meta replaces every instance.
const (
	markOwner    = "locktide.owner"
	markApp      = "locktide.app"
	markServices = "locktide.services" // group meta: digest of names and checks, so that they change in batches
	markPrefix   = "locktide."
)

const description = "managed by Locktide; to take over: locktide eject "

// Compile implements drivers.Driver: a group is one job.
func (d *Driver) Compile(v *schema.View, ref schema.Ref) ([]schema.Object, []schema.Finding) {
	return d.config.Compile(v, ref)
}

// Compile gives the job of a group; it needs no server.
func (c Config) Compile(v *schema.View, ref schema.Ref) ([]schema.Object, []schema.Finding) {
	kind, name := ref.Split()
	if kind != "groups" {
		return nil, nil
	}
	g, ok := v.Group(name)
	if !ok || !c.serves(g.Datacenter) {
		return nil, nil
	}
	b := &builder{config: c, name: name, group: g, ref: ref}
	job := b.job()
	if schema.AnyDenied(b.findings) {
		return nil, b.findings
	}
	stage, _ := v.Stage(g.Stage)
	o := b.object(job, stage)
	return []schema.Object{o}, b.findings
}

// builder compiles one group; what cannot be expressed becomes a finding.
type builder struct {
	config   Config
	name     string
	group    schema.Group
	ref      schema.Ref
	findings []schema.Finding
}

func (b *builder) deny(code, field, next, format string, args ...any) {
	b.findings = append(b.findings, schema.Finding{Code: code, Severity: schema.Deny, Ref: b.ref, Field: field,
		Message: fmt.Sprintf(format, args...), Next: next})
}

// JobID gives the Nomad job id of a group: labels joined by "--", no dots,
// since a variable path of a job cannot hold one.
func JobID(group string, g schema.Group) string {
	if g.Job != "" {
		return g.Job
	}
	return strings.NewReplacer(".", "--", "/", "--").Replace(group)
}

// keyName is the job id, with "@namespace" outside the default namespace.
func keyName(id, namespace string) string {
	if namespace == "" || namespace == api.DefaultNamespace {
		return id
	}
	return id + "@" + namespace
}

// splitName is keyName backwards.
func splitName(name string) (id, namespace string) {
	if i := strings.LastIndexByte(name, '@'); i > 0 {
		return name[:i], name[i+1:]
	}
	return name, api.DefaultNamespace
}

func (c Config) key(id, namespace string) schema.Key {
	return schema.Key{Kind: KindJob, Instance: c.Name, Name: keyName(id, namespace)}
}

// groupName is the task group's name of a compiled job.
const groupName = "main"

func (b *builder) job() *api.Job {
	id := JobID(b.name, b.group)
	if len(id) > 128 {
		b.deny("name-too-long", "", "shorten the app's labels or set job_name", "Nomad job id %q is longer than 128 characters", id)
	}
	var job *api.Job
	if len(b.group.Raw) > 0 {
		job = b.raw()
	} else {
		job = b.typed()
	}
	if job == nil {
		return nil
	}
	job.ID, job.Name = &id, &id
	if b.group.Namespace != "" {
		job.Namespace = &b.group.Namespace
	}
	if b.config.Region != "" {
		job.Region = &b.config.Region
	}
	if len(b.group.Overlay) > 0 {
		job = b.overlay(job)
		if job == nil {
			return nil
		}
	}
	b.runs(job)
	b.mark(job)
	return job
}

func (b *builder) typed() *api.Job {
	g := b.group
	job := &api.Job{Datacenters: []string{g.Datacenter}}
	switch g.Kind {
	case "", "service":
		job.Type = ptr(api.JobTypeService)
	case "system", "batch", "sysbatch":
		job.Type = &g.Kind
	case "periodic", "parameterized":
		job.Type = ptr(api.JobTypeBatch)
	default:
		b.deny("unknown-kind", "kind", "one of service, system, batch, sysbatch, periodic, parameterized", "kind %q is unknown", g.Kind)
	}
	if g.Kind == "parameterized" {
		job.ParameterizedJob = &api.ParameterizedJobConfig{}
	}
	if s := g.Schedule; s != nil && g.Kind == "periodic" {
		job.Periodic = &api.PeriodicConfig{Enabled: ptr(true), SpecType: ptr("cron"), Spec: &s.Cron, ProhibitOverlap: ptr(!s.Overlap)}
		if s.Zone != "" {
			job.Periodic.TimeZone = &s.Zone
		}
	} else if g.Kind == "periodic" {
		b.deny("schedule-missing", "schedule", "write schedule: cron", "a periodic group needs a schedule")
	}
	b.place(job)
	tg := api.NewTaskGroup(groupName, max(0, g.Count.Number))
	if g.Kind == "system" || g.Kind == "sysbatch" {
		tg.Count = nil
	}
	b.network(tg)
	b.volumes(tg)
	b.services(tg)
	b.tasks(tg)
	if g.Stop.Delay > 0 {
		tg.ShutdownDelay = ptr(g.Stop.Delay.Std())
	}
	if g.Resources.DiskMiB > 0 {
		tg.EphemeralDisk = &api.EphemeralDisk{SizeMB: &g.Resources.DiskMiB}
	}
	if g.Count.Max > 0 {
		tg.Scaling = &api.ScalingPolicy{Type: "horizontal", Enabled: ptr(true), Min: ptr(int64(g.Count.Min)), Max: ptr(int64(g.Count.Max))}
		if err := json.Unmarshal([]byte(cmp.Or(string(g.Count.Signal), "null")), &tg.Scaling.Policy); err != nil {
			b.deny("signal", "count.signal", "write fields, as the policy of Nomad's scaling block has them", "what the autoscaler reads is no object: %v", err)
		}
	}
	job.TaskGroups = []*api.TaskGroup{tg}
	return job
}

func (b *builder) place(job *api.Job) {
	p := b.group.Placement
	if p.Pool != "" {
		job.NodePool = &p.Pool
	}
	if p.DistinctHosts {
		job.Constraints = append(job.Constraints, api.NewConstraint("", api.ConstraintDistinctHosts, "true"))
	}
	for _, k := range slices.Sorted(maps.Keys(p.Require)) {
		job.Constraints = append(job.Constraints, api.NewConstraint(attribute(k), "=", p.Require[k]))
	}
	for _, k := range slices.Sorted(maps.Keys(p.Prefer)) {
		job.Affinities = append(job.Affinities, api.NewAffinity(attribute(k), "=", p.Prefer[k], 50))
	}
	if p.SpreadBy != "" {
		job.Spreads = []*api.Spread{{Attribute: attribute(p.SpreadBy), Weight: ptr(int8(50))}}
	}
}

// attribute turns the short name of a node attribute into Nomad's form:
// "rack" is node meta, "kernel.name" an attribute, "node.class" a node field.
func attribute(name string) string {
	switch {
	case strings.HasPrefix(name, "${"):
		return name
	case strings.HasPrefix(name, "node.") || strings.HasPrefix(name, "attr.") || strings.HasPrefix(name, "meta."):
		return "${" + name + "}"
	case strings.Contains(name, "."):
		return "${attr." + name + "}"
	}
	return "${meta." + name + "}"
}

// mark puts the constant marks on a job and the digest of its services on
// each group, so that a changed check replaces members in batches.
func (b *builder) mark(job *api.Job) {
	job.Meta = mergeMeta(job.Meta, map[string]string{markOwner: b.config.Owner, markApp: b.group.App})
	for _, tg := range job.TaskGroups {
		if len(serviceFace(tg)) > 0 {
			tg.Meta = mergeMeta(tg.Meta, map[string]string{markServices: schema.DigestOf(schema.MustCanonical(serviceFace(tg))).Short()})
		}
		markServicesOf(tg, b.name)
	}
}

// markServicesOf says in the meta of each service whose instance of which
// group it is. Nomad changes that in place, without a dip of the checks.
func markServicesOf(tg *api.TaskGroup, group string) {
	for _, s := range allServices(tg) {
		s.Meta = mergeMeta(s.Meta, map[string]string{"alloc": "${NOMAD_ALLOC_ID}", "group": group})
	}
}

func mergeMeta(into, from map[string]string) map[string]string {
	out := maps.Clone(into)
	if out == nil {
		out = map[string]string{}
	}
	maps.Copy(out, from)
	return out
}

// face is what Nomad would change on every member at once, and what of a
// service replaces members.
type face struct {
	Name, Port string
	Checks     []api.ServiceCheck
	Connect    *api.ConsulConnect `json:",omitempty"`
}

func serviceFace(tg *api.TaskGroup) []face {
	var out []face
	for _, s := range allServices(tg) {
		out = append(out, face{s.Name, s.PortLabel, s.Checks, s.Connect})
	}
	return out
}

func allServices(tg *api.TaskGroup) []*api.Service {
	out := slices.Clone(tg.Services)
	for _, t := range tg.Tasks {
		out = append(out, t.Services...)
	}
	return out
}

// object seals a compiled job.
func (b *builder) object(job *api.Job, stage schema.Stage) schema.Object {
	g := b.group
	paced := pacedOf(job)
	paced.Storage = g.Tier == "storage"
	paced.Pacing = g.Paces()
	if g.Count.Max > 0 {
		paced.Autoscaled, paced.Min, paced.Max = true, g.Count.Min, g.Count.Max
	}
	bare := copyJob(job)
	bare.Update = nil
	for _, tg := range bare.TaskGroups {
		tg.Update = nil
		if tg.RestartPolicy != nil {
			tg.RestartPolicy.Mode = nil
		}
		if paced.Autoscaled {
			tg.Count = nil
		}
	}
	if len(g.Raw) > 0 {
		paced.Parts = partsOf(bare, paced)
	}
	id, namespace := JobID(b.name, g), g.Namespace
	o := schema.Object{Key: b.config.key(id, namespace), Spec: specOf(bare), Release: releaseOf(bare), Layer: schema.LayerInstance,
		Step: stage.Order*100 + max(0, slices.Index(stage.Datacenters, g.Datacenter)), Apps: []string{g.App}, Group: b.name,
		From: []schema.Ref{b.ref}, Paced: &paced}
	o, _, _ = o.Seal()
	return o
}

// pacedOf reads from the whole job, overlay and raw included, what rollout
// must know.
func pacedOf(job *api.Job) schema.Paced {
	p := schema.Paced{}
	switch deref(job.Type) {
	case api.JobTypeSystem:
		p.Gated, p.System, p.NoSurge = true, true, true
	case "", api.JobTypeService:
		p.Gated = job.Periodic == nil && job.ParameterizedJob == nil
	}
	distinct := slices.ContainsFunc(job.Constraints, func(c *api.Constraint) bool { return c.Operand == api.ConstraintDistinctHosts })
	p.NoSurge = p.NoSurge || distinct
	for _, tg := range job.TaskGroups {
		if !p.System && deref(job.Type) != "sysbatch" {
			p.Count += count(tg)
		}
		for _, s := range allServices(tg) {
			p.Checked = p.Checked || len(s.Checks) > 0
		}
		for _, n := range tg.Networks {
			p.NoSurge = p.NoSurge || len(n.ReservedPorts) > 0
		}
		if slices.ContainsFunc(tg.Constraints, func(c *api.Constraint) bool { return c.Operand == api.ConstraintDistinctHosts }) {
			p.NoSurge = true
		}
	}
	return p
}

// partsOf tells the task groups of a raw job apart: each is replaced by itself,
// and only when something of it changes.
func partsOf(job *api.Job, p schema.Paced) []schema.Part {
	var out []schema.Part
	for _, tg := range job.TaskGroups {
		one := copyJob(job)
		one.TaskGroups = []*api.TaskGroup{tg}
		part := schema.Part{Name: deref(tg.Name), Release: releaseOf(one), NoSurge: pacedOf(one).NoSurge}
		if p.Count > 0 {
			part.Count = count(tg)
		}
		out = append(out, part)
	}
	return out
}

func count(tg *api.TaskGroup) int {
	if tg.Count == nil {
		return 1
	}
	return *tg.Count
}

// specOf is the canonical JSON of a job without its unset fields.
func specOf(job *api.Job) json.RawMessage {
	return schema.MustCanonical(lean(reflect.ValueOf(job)))
}

// lean gives v as plain values without nil pointers and zero fields, so that
// a newer API module with more fields does not change the digest of a job.
func lean(v reflect.Value) any {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return lean(v.Elem())
	case reflect.Struct:
		out := map[string]any{}
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if !f.IsExported() || f.Tag.Get("json") == "-" || v.Field(i).IsZero() {
				continue
			}
			if x := lean(v.Field(i)); x != nil {
				out[f.Name] = x
			}
		}
		return out
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return v.Interface()
		}
		if v.Len() == 0 {
			return nil
		}
		out := make([]any, v.Len())
		for i := range out {
			out[i] = lean(v.Index(i))
		}
		return out
	case reflect.Map:
		if v.Len() == 0 {
			return nil
		}
		out := map[string]any{}
		for it := v.MapRange(); it.Next(); {
			out[it.Key().String()] = it.Value().Interface()
			if it.Value().Kind() == reflect.Pointer {
				out[it.Key().String()] = lean(it.Value())
			}
		}
		return out
	}
	return v.Interface()
}

// releaseOf digests the part of a job whose change replaces members; what
// Nomad changes in place is not in it, service names and checks are, through
// the group's meta.
func releaseOf(job *api.Job) schema.Digest {
	r := copyJob(job)
	r.Name, r.Priority, r.Datacenters, r.NodePool, r.Constraints, r.Affinities, r.Spreads = nil, nil, nil, nil, nil, nil, nil
	r.UI, r.Reschedule, r.Migrate, r.Periodic = nil, nil, nil, nil
	for _, tg := range r.TaskGroups {
		tg.Count, tg.Scaling, tg.ReschedulePolicy, tg.Migrate, tg.Update, tg.Disconnect = nil, nil, nil, nil, nil, nil
		tg.Constraints, tg.Affinities, tg.Spreads, tg.ShutdownDelay, tg.Services = nil, nil, nil, nil, nil
		tg.RestartPolicy = replacing(tg.RestartPolicy)
		for _, t := range tg.Tasks {
			t.Services, t.Constraints, t.Affinities, t.KillTimeout, t.Lifecycle, t.Actions = nil, nil, nil, nil, nil, nil
			t.ScalingPolicies, t.ShutdownDelay, t.KillSignal, t.Leader = nil, 0, "", false
			t.RestartPolicy = replacing(t.RestartPolicy)
			if t.LogConfig != nil && deref(t.LogConfig.Disabled) {
				t.LogConfig = &api.LogConfig{Disabled: ptr(true)}
			} else {
				t.LogConfig = nil
			}
		}
	}
	return schema.DigestOf(specOf(r))
}

// replacing is the one setting of a restart policy whose change replaces
// members.
func replacing(p *api.RestartPolicy) *api.RestartPolicy {
	if p == nil || !deref(p.RenderTemplates) {
		return nil
	}
	return &api.RestartPolicy{RenderTemplates: p.RenderTemplates}
}

// tree gives v as plain JSON values.
func tree(v any) any {
	dec := json.NewDecoder(bytes.NewReader(schema.MustCanonical(v)))
	dec.UseNumber()
	var out any
	if err := dec.Decode(&out); err != nil {
		panic(fmt.Sprintf("nomad: canonical JSON does not decode: %v", err))
	}
	return out
}

// jobOf reads a spec back.
func jobOf(spec json.RawMessage) (*api.Job, error) {
	job := &api.Job{}
	if err := json.Unmarshal(spec, job); err != nil {
		return nil, fmt.Errorf("the stored spec is no Nomad job: %w", err)
	}
	if job.ID == nil || len(job.TaskGroups) == 0 {
		return nil, fmt.Errorf("the stored spec is no Nomad job: it has no ID or no group")
	}
	return job, nil
}

func copyJob(job *api.Job) *api.Job {
	out := &api.Job{}
	if err := json.Unmarshal(schema.MustCanonical(job), out); err != nil {
		panic(fmt.Sprintf("nomad: job does not survive JSON: %v", err))
	}
	return out
}

func ptr[T any](v T) *T { return &v }

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

const defaultCheckEvery, defaultCheckTimeout = 10 * time.Second, 2 * time.Second
