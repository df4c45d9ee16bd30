// Package rotation decides who serves: the level-triggered, fail-static path
// from members and bits to proxies.
package rotation

import (
	"time"

	"locktide.dev/schema"
)

// Limits of fail-static behaviour; zero values mean the defaults.
type Limits struct {
	FlipShare int           // percent of a group that may lose health in one interval; default 30
	Confirm   time.Duration // age after which a second reading confirms a mass loss; default 10 s
}

// Decide gives the group's members in rotation.
func Decide(group string, members []schema.Member, bits schema.Bits, last schema.Serving, fresh bool, lim Limits) schema.Serving {
	return last
}
