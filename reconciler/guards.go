package reconciler

// guards are the loop's own protections, each of which a test takes away to
// see which property notices. The zero value has all of them; nothing outside
// of tests sets one.
type guards struct {
	noComplete   bool // deletions come from incomplete commits, too
	noLease      bool // writes without the lease
	noJournal    bool // writes that the journal does not hold
	noBlind      bool // groups that cannot be judged are judged, by readings of any age
	noRotation   bool // whoever runs is taken for in rotation
	noHolds      bool // rotation does not heed operators
	noFloor      bool // holds and drains may empty a group
	noBrakes     bool // brakes are forgotten
	noWaits      bool // waits, bakes and gates are set aside
	noQuarantine bool // what failed is tried again
	noCrowd      bool // any number of releases in one group
	noSnapshot   bool // a rollout brings what Git says by now
	noFailures   bool // members that fail are taken for well
	noSpacing    bool // rollouts take members of one group right after each other
}
