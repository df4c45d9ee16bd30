package app

import (
	"os"
	"path/filepath"
	"testing"
)

// Two containers may share a host name and a process id.
func TestNoTwoHoldersOfALeaseHaveOneName(t *testing.T) {
	if a, b := holderName(""), holderName(""); a == b {
		t.Errorf("both are %q", a)
	}
	one, two := filepath.Join(t.TempDir(), "one.db"), filepath.Join(t.TempDir(), "two.db")
	for _, path := range []string{one, two} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if a, b := holderName(one), holderName(two); a == b {
		t.Errorf("with a journal each, both are %q", a)
	}
	copied := one + ".copy"
	if err := os.Link(one, copied); err != nil {
		t.Fatal(err)
	}
	if a, b := holderName(one), holderName(copied); a != b { // whoever opens the file has it alone, under any path
		t.Errorf("one journal has the names %q and %q", a, b)
	}
}
