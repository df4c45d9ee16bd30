package schema

import "time"

// Forecast says what a commit would do: who changes when, in which batches,
// if everything goes well. Times count from its start.
type Forecast struct {
	Commit     string              `json:"commit,omitempty"`
	Partitions []PartitionForecast `json:"partitions"` // in the order in which they begin
	Awaits     []Await             `json:"awaits,omitempty"`
	Notes      []Finding           `json:"notes,omitempty"`
	Members    int                 `json:"members"` // members that are replaced or placed anew
	Batches    int                 `json:"batches"` // dispatches that take or place members
	Took       time.Duration       `json:"took"`
	Assumes    []string            `json:"assumes"` // what the times rest on
}

// PartitionForecast is one partition's way.
type PartitionForecast struct {
	ID     string         `json:"id"`
	Wave   int            `json:"wave"` // 1 begins first; those of a wave begin together
	Begins time.Duration  `json:"begins"`
	Ends   time.Duration  `json:"ends"`
	Steps  []ForecastStep `json:"steps"`
	Stuck  *Reason        `json:"stuck,omitempty"` // why it would not end
}

// ForecastStep is one write.
type ForecastStep struct {
	At      time.Duration `json:"at"`
	Key     Key           `json:"key"`
	Group   string        `json:"group,omitempty"`
	Verb    Verb          `json:"verb"`
	Batch   int           `json:"batch,omitempty"`   // of its group, from 1
	Members []string      `json:"members,omitempty"` // whom the backend takes: index, node
	Surge   int           `json:"surge,omitempty"`   // members added before others are taken
	Serving int           `json:"serving,omitempty"` // members in rotation right before
	Of      int           `json:"of,omitempty"`      // desired members
	Why     string        `json:"why,omitempty"`
}
