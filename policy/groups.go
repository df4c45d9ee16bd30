package policy

import (
	"fmt"
	"strings"
	"time"

	"locktide.dev/schema"
)

// Ports that Linux gives to outgoing connections by default
// (net.ipv4.ip_local_port_range).
const ephemeralFirst, ephemeralLast = 32768, 60999

// shortestDelay is the shortest time between leaving service discovery and the
// signal that a proxy surely notices: twice its worst answer.
const shortestDelay = 2 * time.Second

// secretsFile is where a compiled job renders the group's typed secrets.
const secretsFile = "secrets/locktide.env"

func artifactUnpinned(v *view, g *group, report report) {
	g.job().tasks(func(path string, t task) {
		if image, ok := t.Config["image"].(string); ok && image != "" && !strings.Contains(image, "@sha256:") {
			report(schema.Finding{Severity: schema.Warn, Field: path + ".image",
				Message: fmt.Sprintf("image %s is not pinned by digest: what runs can change without a commit", image),
				Next:    `write release: "VERSION@sha256:DIGEST"`})
		}
		for _, a := range t.Artifacts {
			if a.GetterOptions["checksum"] == "" && !strings.Contains(a.GetterSource, "checksum=") {
				report(schema.Finding{Severity: schema.Warn, Field: path + ".artifact",
					Message: fmt.Sprintf("artifact %s has no checksum: what runs can change without a commit", a.GetterSource),
					Next:    "write its sha256"})
			}
		}
	})
}

func batchShare(v *view, g *group, report report) {
	n := max(g.Count.Number, g.Count.Min)
	tooMuch := func(s schema.Share) bool {
		return s.Percent > 50 || s.Percent == 0 && n > 0 && s.Number > max(1, n/2)
	}
	shares := append([]schema.Share{g.Rollout.MaxUnavailable}, g.Rollout.Batches...)
	for i, s := range shares {
		if !tooMuch(s) {
			continue
		}
		field := "rollout.max_unavailable"
		if i > 0 {
			field = fmt.Sprintf("rollout.batches[%d]", i-1)
		}
		report(schema.Finding{Severity: schema.Deny, Field: field,
			Message: fmt.Sprintf("%s of %d members at once is more than half", s, n), Next: `write at most "50%"`})
	}
}

func groupNoCheck(v *view, g *group, report report) {
	if !g.routed || g.Ignite != nil && !g.Ignite.Skip || g.job().checked() {
		return
	}
	f := schema.Finding{Severity: schema.Warn, Field: "services",
		Message: "a route sends traffic to this group, and no service of it has a check: traffic goes to what does not answer",
		Next:    "add a check to the service, for example checks: ready: http: \"/ready\""}
	if g.tier == "access" {
		f.Severity = schema.Deny
	}
	report(f)
}

func igniteSkip(v *view, g *group, report report) {
	if g.Ignite != nil && g.Ignite.Skip {
		report(schema.Finding{Severity: schema.Deny, Field: "ignite", Message: "new instances serve without having answered anybody: only their start and the checks of their services count",
			Next: "write the check that ignites it, or an exception of ignite-skip with a reason and the day on which it ends"})
	}
}

func liveConfig(v *view, g *group, report report) {
	if g.Live {
		report(schema.Finding{Severity: schema.Warn, Field: "config_live",
			Message: "live configuration reaches all instances at once: it is not rolled out and does not go back with them",
			Next:    "leave config_live out to publish configuration by digest"})
	}
}

func outageExpected(v *view, g *group, report report) {
	if g.Count.Max > 1 || g.Count.Number != 1 || g.Rollout.AllowZero || g.Kind != "" && g.Kind != "service" {
		return
	}
	f := schema.Finding{Next: "write rollout: allow_zero: true to accept the outage, or give it a second instance"}
	switch {
	case g.Rollout.Surge != nil && *g.Rollout.Surge == 0:
		f.Severity, f.Field = schema.Deny, "rollout.surge"
		f.Message = "outage expected: the only instance is stopped before its successor starts, because surge is 0"
	case len(g.reserved()) > 0:
		f.Severity, f.Field = schema.Warn, "ports"
		f.Message = fmt.Sprintf("outage expected: the only instance holds static port %d and is stopped before its successor starts", g.reserved()[0])
	default:
		return
	}
	report(f)
}

// reserved gives the static ports of the group's job.
func (g *group) reserved() []int {
	var out []int
	for _, tg := range g.job().TaskGroups {
		for _, n := range tg.Networks {
			for _, p := range n.ReservedPorts {
				out = append(out, p.Value)
			}
		}
	}
	return out
}

// peakInvalid denies bounds that cannot hold anything.
func peakInvalid(_ *view, g *group, report report) {
	p := g.Rollout.Peak
	if p == nil || p.Member == 0 || p.Bounds() { // a query alone may be a default for others
		return
	}
	report(schema.Finding{Severity: schema.Deny, Field: "rollout.peak", Message: "it bounds nothing: it needs a query and what one member carries, above 0",
		Next: "write both, or leave it out"})
}

func portEphemeral(v *view, g *group, report report) {
	for _, port := range g.reserved() {
		if port >= ephemeralFirst && port <= ephemeralLast {
			report(schema.Finding{Severity: schema.Deny, Field: "ports",
				Message: fmt.Sprintf("static port %d lies in the range %d-%d from which the kernel takes ports for outgoing connections: it may be taken", port, ephemeralFirst, ephemeralLast),
				Next:    fmt.Sprintf("choose a port below %d, or leave static out", ephemeralFirst)})
		}
	}
}

func stopDelay(v *view, g *group, report report) {
	if d := g.Stop.Delay.Std(); g.routed && d > 0 && d < shortestDelay {
		report(schema.Finding{Severity: schema.Warn, Field: "stop.delay",
			Message: fmt.Sprintf("%s may be too short for proxies to notice that an instance leaves: requests may fail", d),
			Next:    fmt.Sprintf("write at least %s", shortestDelay)})
	}
}

// stores keys the groups that keep data, by app and stage.
func stores(v *view, name string) []string {
	g := v.groups[name]
	if g.tier != "storage" || g.Kind != "" && g.Kind != "service" {
		return nil
	}
	return []string{g.App + "\x00" + g.Stage}
}

func storageReplicas(v *view, _ string, names []string, report report) {
	n := 0
	for _, name := range names {
		n += max(v.groups[name].Count.Number, v.groups[name].Count.Min)
	}
	if g := v.groups[names[0]]; n < 3 {
		report(schema.Finding{Severity: schema.Deny, Field: "count",
			Message: fmt.Sprintf("%s has %d replicas in stage %s: what stores data needs at least 3", g.App, n, g.Stage),
			Next:    "raise the count, or except it with a reason"})
	}
}

func templateRestarts(v *view, g *group, report report) {
	g.job().tasks(func(path string, t task) {
		for _, tmpl := range t.Templates {
			source := tmpl.changing()
			if source == "" || tmpl.ChangeMode != nil && *tmpl.ChangeMode != "restart" {
				continue
			}
			f := schema.Finding{Severity: schema.Warn, Field: path + ".template",
				Message: fmt.Sprintf("when what its template reads by %q changes, Nomad restarts every instance at once", source),
				Next:    "use config (published by digest and rolled out), or a change mode of signal or noop"}
			// The typed secrets leave no choice of a mode.
			if g.tier == "storage" && tmpl.DestPath != secretsFile {
				f.Severity = schema.Deny
			}
			report(f)
		}
	})
}

// changing gives the first template function that reads something which can
// change while the instance runs. Configuration by digest cannot.
func (t template) changing() string {
	for _, action := range t.actions() {
		if strings.Contains(action, "LOCKTIDE_CONFIG") {
			continue
		}
		for _, word := range strings.FieldsFunc(action, func(r rune) bool { return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || r == '"' || r == '/') }) {
			switch word {
			case "key", "keyOrDefault", "keyExists", "ls", "safeLs", "tree", "safeTree", "secret", "secrets", "service", "services", "nomadVar", "nomadVarList", "nomadService", "nomadServices":
				return word
			}
		}
	}
	return ""
}
