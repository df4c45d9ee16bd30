package app

import "testing"

// Two containers may share a host name and a process id.
func TestNoTwoHoldersOfALeaseHaveOneName(t *testing.T) {
	if a, b := holderName(), holderName(); a == b {
		t.Errorf("both are %q", a)
	}
}
