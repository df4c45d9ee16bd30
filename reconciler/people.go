package reconciler

import (
	"cmp"
	"slices"
	"strings"

	"locktide.dev/policy"
	"locktide.dev/schema"
)

// What a person with a token of their own may not do: approve what they wrote,
// and command what other teams own, if their token is closed to teams.

// authored notes who wrote the commit by which the head of these keys moved,
// until they are driven at it.
func (l *Loop) authored(keys []schema.Key, author string) {
	st := &l.st
	for _, k := range keys {
		if l.settled(k) {
			delete(st.authors, k)
		} else {
			st.authors[k] = author
		}
		st.touched.authors[k] = true
	}
}

// forgetAuthor drops who wrote what a key is driven at by now.
func (l *Loop) forgetAuthor(k schema.Key) {
	if _, kept := l.st.authors[k]; kept && l.settled(k) {
		delete(l.st.authors, k)
		l.st.touched.authors[k] = true
	}
}

// ownWork says why a command's sender may not approve a set: it holds changes
// that they wrote, or counts that they set, and not of teams that let them, before this commit and by it.
func (l *Loop) ownWork(c schema.Command, items []string) schema.Answer {
	if !l.cfg.Named {
		return schema.Answer{OK: true}
	}
	base, err := l.baseFleet()
	if err != nil {
		return refuse("%v", err)
	}
	for _, item := range items {
		for _, k := range l.itemKeys(item) {
			what := l.st.authors[k] + " wrote the commit that changes " + k.String()
			if by := l.scaledBy(k); by != "" && samePerson(by, c.By) {
				what = by + " scaled it"
			} else if !wrote(l.st.authors[k], c) {
				continue
			}
			for _, f := range l.ruling(base) {
				for _, ref := range l.definitionsOf(k) {
					if team := policy.OwnerOf(f, ref); !f.Teams[team].ApproveOwn {
						a := refuse("%s: somebody else has to approve it", what)
						a.Next = "ask a colleague; approve_own of a team lets its people approve what is theirs"
						return a
					}
				}
			}
		}
	}
	return schema.Answer{OK: true}
}

// scaledBy names who set the count of an object's group by hand; "": nobody.
func (l *Loop) scaledBy(k schema.Key) string {
	if o, ok := l.body(l.st.target[k].Body); ok {
		if p, pinned := l.st.pins[o.Group]; pinned && p.What == pinCount {
			return p.By
		}
	}
	return ""
}

// ruling are the fleets whose teams judge a command: a commit takes nothing
// from them that it needs itself.
func (l *Loop) ruling(base *schema.Fleet) (out []*schema.Fleet) {
	for _, f := range []*schema.Fleet{base, l.st.fleet} {
		if f != nil {
			out = append(out, f)
		}
	}
	return out
}

// wrote says whether an author, as Git has it (NAME <ADDRESS>), is the sender.
func wrote(author string, c schema.Command) bool {
	name, address, _ := strings.Cut(author, "<")
	name, address = strings.TrimSpace(name), strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(address), ">"))
	local, _, _ := strings.Cut(address, "@")
	who, _, _ := strings.Cut(c.By, "@")
	is := func(s string) bool { return s != "" && strings.EqualFold(s, who) }
	return is(name) || is(local) || address != "" && slices.ContainsFunc(c.Emails, func(e string) bool { return strings.EqualFold(e, address) })
}

// outOfBounds says why a token that is closed to teams may not give a command.
func (l *Loop) outOfBounds(c schema.Command) schema.Answer {
	if len(c.Teams) == 0 || c.Verb == "sync" {
		return schema.Answer{OK: true}
	}
	base, err := l.baseFleet()
	if err != nil {
		return refuse("%v", err)
	}
	for _, f := range l.ruling(base) {
		for _, team := range l.ownersOf(c, f) {
			if !slices.Contains(c.Teams, team) {
				a := refuse("%s may command what is of team %s; %s is of %s", c.By, strings.Join(c.Teams, ", "), cmp.Or(c.Target, "all"), cmp.Or(team, "the platform"))
				a.Next = "ask them; teams of people in the daemon's configuration says whose token is closed to which"
				return a
			}
		}
	}
	return schema.Answer{OK: true}
}

// ownersOf gives the teams that own what a command is about; "": the platform.
func (l *Loop) ownersOf(c schema.Command, f *schema.Fleet) (teams []string) {
	refs := l.targetsOf(c)
	if kind, name := cutScope(c.Target); kind == "team" {
		return []string{name}
	}
	if len(refs) == 0 {
		return []string{""}
	}
	for _, ref := range refs {
		teams = append(teams, policy.OwnerOf(f, ref))
	}
	return teams
}

// targetsOf gives the definitions that a command is about; none: not known, or
// of more than one of them (a host, a datacenter).
func (l *Loop) targetsOf(c schema.Command) (refs []schema.Ref) {
	st := &l.st
	if c.Verb == "approve" {
		for _, a := range st.lastPlan.Awaits {
			if c.Target != "" && (c.Target == a.Digest.Short() || c.Target == string(a.Digest)) {
				for _, item := range a.Items {
					refs = append(refs, l.origins(item)...)
				}
			}
		}
		return refs // the rest of a commit is everybody's
	}
	kind, name := cutScope(c.Target)
	switch kind {
	case "member":
		_, id := cutScope(l.holdScope(c.Target))
		if g := cmp.Or(l.members().of[id], st.operator["member:"+id].Place.Group); g != "" {
			refs = append(refs, schema.NewRef("groups", g))
		}
		return refs
	case "group":
		return []schema.Ref{schema.NewRef("groups", name)}
	case "app":
		return []schema.Ref{schema.NewRef("apps", name)}
	}
	name = bare(c.Target)
	if k, err := schema.ParseKey(name); err == nil {
		return l.definitionsOf(k)
	}
	if _, ok := l.group(name); ok {
		return []schema.Ref{schema.NewRef("groups", name)}
	}
	if st.fleet != nil && hasApp(st.fleet, name) {
		refs = append(refs, schema.NewRef("apps", name))
	}
	for _, app := range st.rollouts[l.partitionNamed(name)].Apps { // what moves with it
		refs = append(refs, schema.NewRef("apps", app))
	}
	if ref, ok := schema.ConsulOf(name); ok {
		refs = append(refs, ref)
	}
	return refs
}
