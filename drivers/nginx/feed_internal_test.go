package nginx

import (
	"testing"

	"locktide.dev/schema"
)

// A route that is written while a new process feeds for the first time does not
// confirm what an earlier one fed: newer memberships would wait for that number.
func TestAnEarlierProcessConfirmsNothing(t *testing.T) {
	was := schema.Membership{Revision: 9, Groups: map[string]schema.Serving{}}
	d := &Driver{state: state{Revision: was.Revision, Members: was.Groups}} // as it was read from the disk
	written := d.base()                                                     // of the route
	d.pending = schema.Membership{Revision: 1, Groups: was.Groups}          // the first feed waits for it
	d.state = written
	d.confirmed()
	if got := d.revision(); got != 0 {
		t.Errorf("revision %d is in force before any was fed", got)
	}
	d.state = d.base()
	d.confirmed()
	if got := d.revision(); got != 1 {
		t.Errorf("revision %d is in force, 1 was fed", got)
	}
}
