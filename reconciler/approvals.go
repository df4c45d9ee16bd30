package reconciler

import (
	"maps"
	"slices"
	"strings"

	"locktide.dev/schema"
)

// rebuilt compiles what is in force with a binary that is not the one that
// compiled head: what comes out differently awaits an approval, whatever the
// next commit says.
func (l *Loop) rebuilt() {
	st := &l.st
	if st.fleet == nil || st.meta.Version == l.cfg.Version {
		return
	}
	compiled := l.compile(st.fleet)
	if schema.AnyDenied(compiled.Findings) {
		return // its commit is refused when it is taken again
	}
	before := st.head
	l.setHead(compiled.Head)
	st.meta.Recompiled = l.changedSince(before, st.meta.Recompiled)
}

// changedSince adds to keys those whose head is another one than before.
func (l *Loop) changedSince(before schema.Head, keys map[schema.Key]bool) map[schema.Key]bool {
	out := map[schema.Key]bool{}
	maps.Copy(out, keys)
	for k := range l.st.head.Since(before, func(a, b schema.Wanted) bool { return a.Entry.Digest == b.Entry.Digest }) {
		out[k] = true
	}
	return out
}

// settled says whether the target is what Git says.
func (l *Loop) settled(k schema.Key) bool {
	head, inHead := l.st.head.Find(k)
	target, inTarget := l.st.target[k]
	return inHead == inTarget && head.Entry.Digest == target.Digest
}

// useUpApprovals drops what is no longer to be approved, and of approvals what
// was carried out or is no longer wanted: the same deletion months later is
// another one.
func (l *Loop) useUpApprovals() {
	st := &l.st
	for _, keys := range []map[schema.Key]bool{st.meta.ForcedKeys, st.meta.Recompiled} {
		for k := range keys {
			if l.settled(k) {
				delete(keys, k)
				st.dirty = true
			}
		}
	}
	if len(st.meta.Approved)+len(st.meta.Assents) == 0 {
		return
	}
	rolling := map[end]bool{}
	for _, r := range st.rollouts {
		for _, it := range slices.Concat(r.Items, r.Origin) {
			rolling[end{it.Key, it.To.Digest}] = true
		}
	}
	var kept [][]string
	for _, set := range st.meta.Approved {
		left := slices.DeleteFunc(slices.Clone(set), func(item string) bool { return !l.pending(item, rolling) })
		if len(left) > 0 {
			kept = append(kept, left)
		}
		st.dirty = st.dirty || len(left) != len(set)
	}
	st.meta.Approved = kept
	n := len(st.meta.Assents)
	st.meta.Assents = slices.DeleteFunc(slices.Clone(st.meta.Assents), func(a assent) bool {
		return !slices.ContainsFunc(a.Items, func(item string) bool { return l.pending(item, rolling) })
	})
	st.dirty = st.dirty || len(st.meta.Assents) != n
}

// pending says whether an approved item, "<verb> <key> <to digest>", is still
// to be carried out, or may be tried again. A commit's name (its brake was
// approved) is pending while the ledger knows the commit. Rolling are the ends of
// all rollouts.
func (l *Loop) pending(item string, rolling map[end]bool) bool {
	st := &l.st
	if !strings.Contains(item, " ") {
		known := st.ledger.Commits.Has(item)
		return known
	}
	k, to, ok := parseItem(item)
	return ok && (st.head.Get(k).Entry.Digest == to && !l.settled(k) || rolling[end{k, to}])
}

// parseItem reads an item of an awaited set.
func parseItem(item string) (k schema.Key, to schema.Digest, ok bool) {
	_, rest, isItem := strings.Cut(item, " ")
	if i := strings.LastIndex(rest, " sha256:"); i >= 0 {
		rest, to = rest[:i], schema.Digest(rest[i+1:])
	}
	k, err := schema.ParseKey(rest)
	return k, to, isItem && err == nil
}

// end is what a rollout brings an object to.
type end struct {
	key    schema.Key
	digest schema.Digest
}
