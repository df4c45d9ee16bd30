package schema

import "cmp"

// Cap bounds how many objects of a kind may be deleted, in one plan and in one
// hour, without an approval. The zero Cap has the defaults.
type Cap struct {
	Most    int `json:"most,omitempty"`    // default 5
	Percent int `json:"percent,omitempty"` // of the owned objects of the kind; default 10
}

// Of gives the bound where there are so many owned objects; at least 1.
func (c Cap) Of(owned int) int {
	return max(1, min(cmp.Or(c.Most, 5), owned*cmp.Or(c.Percent, 10)/100))
}
