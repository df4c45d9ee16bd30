package nomad

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"
	"sync"

	"github.com/hashicorp/nomad/api"

	"locktide.dev/schema"
)

// liveJob is one job as read, with the submission of its present version.
type liveJob struct {
	job    *api.Job
	flags  map[string]string
	source string
}

// read gives a job and its submission; nil when it does not exist.
func (d *Driver) read(ctx context.Context, key schema.Key) (*liveJob, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	id, namespace := splitName(key.Name)
	job, _, err := d.api.Jobs().Info(id, query(ctx, namespace))
	if missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	l := &liveJob{job: job}
	sub, _, err := d.api.Jobs().Submission(id, int(deref(job.Version)), query(ctx, namespace))
	if err != nil && !missing(err) {
		return nil, err
	}
	if err == nil && sub != nil {
		l.flags, l.source = sub.VariableFlags, sub.Source
	}
	return l, d.distrust(ctx, id, namespace, deref(job.Version), l)
}

// distrust drops a submission that Nomad copied to a version with another
// content. It copies one when a job is scaled or reverted, where it stays
// true, but also when somebody registers without a submission.
func (d *Driver) distrust(ctx context.Context, id, namespace string, version uint64, l *liveJob) error {
	from, ok := l.flags[flagVersion]
	if !ok || from == strconv.FormatUint(version, 10) {
		return nil
	}
	versions, _, _, err := d.api.Jobs().Versions(id, false, query(ctx, namespace))
	if err != nil {
		return err
	}
	var was, is string
	for _, v := range versions {
		switch n := deref(v.Version); {
		case n == version:
			is = content(v)
		case strconv.FormatUint(n, 10) == from:
			was = content(v)
		}
	}
	if was == "" || was != is {
		l.flags, l.source = nil, ""
	}
	return nil
}

// content is what a version says, without counts and what the server keeps
// on it.
func content(job *api.Job) string {
	c := copyJob(job)
	c.Stop, c.Status, c.StatusDescription, c.Stable, c.Version, c.SubmitTime = nil, nil, nil, nil, nil, nil
	c.CreateIndex, c.ModifyIndex, c.JobModifyIndex, c.VersionTag, c.NomadTokenID = nil, nil, nil, nil, nil
	for _, tg := range c.TaskGroups {
		tg.Count = nil
		if tg.Scaling != nil {
			tg.Scaling.ID, tg.Scaling.CreateIndex, tg.Scaling.ModifyIndex = "", 0, 0
		}
	}
	return string(specOf(c))
}

func (l *liveJob) version() schema.Version { return versionOf(deref(l.job.JobModifyIndex)) }

func versionOf(index uint64) schema.Version { return schema.Version(strconv.FormatUint(index, 10)) }

func (l *liveJob) marked(owner string) bool { return l.job.Meta[markOwner] == owner }

func (l *liveJob) ours(owner string) bool {
	return l.marked(owner) || l.flags[flagOwner] == owner
}

// others says whether it bears the mark of another fleet.
func (l *liveJob) others(owner string) bool {
	return !l.ours(owner) && cmp.Or(l.job.Meta[markOwner], l.flags[flagOwner]) != ""
}

func (l *liveJob) stopped() bool { return deref(l.job.Stop) }

func (l *liveJob) count() int { return asked(l.job) }

// asked is how many members a job asks for; 0 for a system job: as many as
// there are nodes.
func asked(job *api.Job) int {
	n := 0
	if t := deref(job.Type); t == api.JobTypeSystem || t == "sysbatch" {
		return n
	}
	for _, tg := range job.TaskGroups {
		n += count(tg)
	}
	return n
}

func (l *liveJob) native() map[string]blocks {
	var out map[string]blocks
	raw, err := base64.RawURLEncoding.DecodeString(l.flags[flagNative])
	if err != nil || json.Unmarshal(raw, &out) != nil {
		return nil
	}
	return out
}

// proof is what a receipt remembers beside version and digest, so that an
// unchanged job costs no call.
type proof struct {
	Version uint64 `json:"version"`
	Count   int    `json:"count"`
	// Counts by task group, of a job that has several.
	Counts   map[string]int `json:"counts,omitempty"`
	Parked   bool           `json:"parked"`
	Parallel int            `json:"parallel,omitempty"` // while it waits for us
	Canary   int            `json:"canary,omitempty"`
	Release  schema.Digest  `json:"release"`
}

// proofOf reads what a job version says of its pacing.
func proofOf(job *api.Job, version uint64, release string) proof {
	p := proof{Version: version, Count: asked(job), Parked: true, Release: schema.Digest(release)}
	for _, tg := range job.TaskGroups {
		if len(job.TaskGroups) > 1 && p.Count > 0 {
			if p.Counts == nil {
				p.Counts = map[string]int{}
			}
			p.Counts[deref(tg.Name)] = count(tg)
		}
		if u := tg.Update; u != nil && deref(u.HealthCheck) == "manual" {
			p.Parked, p.Parallel, p.Canary = false, deref(u.MaxParallel), deref(u.Canary)
		}
	}
	return p
}

func receipt(at schema.Version, digest schema.Digest, p proof) *schema.Receipt {
	return &schema.Receipt{Version: at, Digest: digest, Extra: schema.MustCanonical(p)}
}

func (l *liveJob) proof() proof {
	return proofOf(l.job, deref(l.job.Version), l.flags[flagRelease])
}

func proven(r *schema.Receipt, at schema.Version, digest schema.Digest) (proof, bool) {
	var p proof
	if r == nil || r.Version != at || r.Digest != digest || json.Unmarshal(r.Extra, &p) != nil {
		return p, false
	}
	return p, true
}

// memory is what readings taught; all of it can be read again.
type memory struct {
	mu       sync.Mutex
	groups   map[schema.Key]string   // jobs that are ours by definition or submission, and their group
	facts    map[schema.Key]fact     // of the newest version seen
	compared map[schema.Key]compared // last comparison that was not "same"
	versions map[jobVersion]versionFact
	newest   map[schema.Key]*api.Deployment // as of the last reading
	wrote    map[schema.Key]written
}

// written is our own last registration of a job, as long as the job is ours.
type written struct {
	index   uint64 // JobModifyIndex that the server gave it
	fact    versionFact
	receipt *schema.Receipt
	live    *liveJob // as it was sent, without its source; nil at rest
	proven  bool     // a reading showed which version it became
}

type fact struct {
	index uint64 // JobModifyIndex
	proof proof
	ours  bool // marked, or equal to what we wrote
}

type compared struct {
	index  uint64
	digest schema.Digest
	object schema.LiveObject
	proof  proof
}

// jobVersion names a version for good: a purged and recreated job has another
// create index.
type jobVersion struct {
	name    string
	created uint64
	version uint64
}

type versionFact struct {
	release schema.Digest
	group   string
	parts   map[string]schema.Digest // of a raw job: task group -> what replaces its members
}

// factOf reads what a version's submission says of it.
func factOf(flags map[string]string) versionFact {
	f := versionFact{release: schema.Digest(flags[flagRelease]), group: flags[flagGroup]}
	if raw, err := base64.RawURLEncoding.DecodeString(flags[flagParts]); err != nil || json.Unmarshal(raw, &f.parts) != nil {
		f.parts = nil
	}
	return f
}

const versionsKept = 50_000

func (m *memory) own(key schema.Key, group string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.groups == nil {
		m.groups = map[schema.Key]string{}
	}
	m.groups[key] = group
}

func (m *memory) group(key schema.Key) (string, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	g, ok := m.groups[key]
	return g, ok
}

func (m *memory) learn(key schema.Key, index uint64, p proof, ours bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.facts == nil {
		m.facts = map[schema.Key]fact{}
	}
	if was := m.facts[key]; was.index == index {
		ours = ours || was.ours
	}
	m.facts[key] = fact{index, p, ours}
}

// holds says whether this very version was proved to be ours.
func (m *memory) holds(key schema.Key, index uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.facts[key]
	return f.index == index && f.ours
}

func (m *memory) fact(key schema.Key, index uint64) (proof, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f, ok := m.facts[key]
	return f.proof, ok && f.index == index
}

func (m *memory) comparison(key schema.Key, index uint64, digest schema.Digest) (compared, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, ok := m.compared[key]
	return c, ok && c.index == index && c.digest == digest
}

func (m *memory) remember(key schema.Key, c compared) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.compared == nil {
		m.compared = map[schema.Key]compared{}
	}
	m.compared[key] = c
}

func (m *memory) version(v jobVersion) (versionFact, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f, ok := m.versions[v]
	return f, ok
}

func (m *memory) keep(v jobVersion, f versionFact) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.versions == nil || len(m.versions) >= versionsKept {
		m.versions = map[jobVersion]versionFact{}
	}
	m.versions[v] = f
}

// register keeps what we wrote, so that nobody has to ask for it.
func (m *memory) register(key schema.Key, w written) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.wrote == nil {
		m.wrote = map[schema.Key]written{}
	}
	m.wrote[key] = w
}

// written gives the live job at a version if that is what we wrote ourselves,
// and a reading proved it; else nil.
func (m *memory) written(key schema.Key, at schema.Version) *liveJob {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.wrote[key]
	if !w.proven || versionOf(w.index) != at {
		return nil
	}
	return w.live
}

// last gives the receipt of our own last registration; the loop may not have
// it yet.
func (m *memory) last(key schema.Key) *schema.Receipt {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.wrote[key].receipt
}

// deployed takes every job's newest deployment in. One that was made for our
// own registration tells which version that became: two writers at once may
// both be let through, so that it is not the one that we counted on.
func (m *memory) deployed(newest map[schema.Key]*api.Deployment) {
	for key, x := range newest {
		m.mu.Lock()
		w, ok := m.wrote[key]
		ok = ok && !w.proven && w.index == x.JobSpecModifyIndex
		if ok {
			w.proven = true
			if w.live != nil && deref(w.live.job.Version) != x.JobVersion {
				w.live = nil
			}
			m.wrote[key] = w
		}
		m.mu.Unlock()
		if ok {
			m.keep(jobVersion{key.Name, x.JobCreateIndex, x.JobVersion}, w.fact)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.newest = newest
}

// rolling gives the deployment of a version of a job if the last reading
// showed it running, without canaries; else nil.
func (m *memory) rolling(key schema.Key, at schema.Version) *api.Deployment {
	m.mu.Lock()
	defer m.mu.Unlock()
	x := m.newest[key]
	if x == nil || versionOf(x.JobSpecModifyIndex) != at || x.Status != api.DeploymentStatusRunning {
		return nil
	}
	for _, s := range x.TaskGroups {
		if s.DesiredCanaries > 0 {
			return nil
		}
	}
	return x
}

// parentOf gives the job that a periodic or dispatched child belongs to.
func parentOf(id string) string {
	for _, mark := range []string{"/periodic-", "/dispatch-"} {
		if i := strings.Index(id, mark); i > 0 {
			return id[:i]
		}
	}
	return id
}
