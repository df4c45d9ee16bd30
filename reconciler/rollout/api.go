package rollout

import (
	"time"

	"locktide.dev/schema"
)

// Start gives the rollout of a partition.
func Start(p schema.Partition, bodies Bodies, commit string, now time.Time) Rollout { return Rollout{} }

// Next decides.
func Next(r Rollout, s Seen, now time.Time) Step { return Step{Rollout: r} }

// Command applies continue, abort, retry, brake or resume.
func Command(r Rollout, verb string, now time.Time) (Rollout, error) { return r, nil }

// Supersede lets a newer commit take over.
func Supersede(old Rollout, p schema.Partition, bodies Bodies, commit string, now time.Time) Rollout {
	return old
}

// Back turns a rollout round.
func Back(r Rollout, goods schema.Snapshot, why schema.Verdict, now time.Time) Rollout { return r }

// Budget is a group's capacity.
type Budget struct{ N, Cap, Serving, Out, Free int }

// Capacity applies the one rule; live is the live desired count (0: unknown).
func Capacity(p schema.Paced, live int, members []schema.Member, held map[string]bool, back bool) Budget {
	return Budget{}
}

// Victims gives the first n members, by allocation name index, that are not on release.
func (b Budget) Victims(release schema.Digest, n int) []schema.Member { return nil }
