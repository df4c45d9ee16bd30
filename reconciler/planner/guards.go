package planner

// guards are the planner's protections, one flag each, so that a test can take
// each away and see that a property breaks.
type guards struct {
	complete, readable, frozen, tombstone, cap, hour, blast, order, dangling, superseded, needs, adoptable, observe bool

	equal, notes, approvals, sorted bool
}

var allGuards = guards{true, true, true, true, true, true, true, true, true, true, true, true, true, true, true, true, true}
