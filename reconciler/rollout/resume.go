package rollout

import "time"

// Resumed gives a rollout for a process that begins at now. Times after now
// come from a clock that was set back since: waiting for them would only stand.
// What has no outcome may still be under way: the process before sent it.
func Resumed(r Rollout, now time.Time) Rollout {
	r = r.clone()
	clamp := func(limit time.Duration, times ...*time.Time) {
		for _, t := range times {
			if t.After(now.Add(limit)) {
				*t = now
			}
		}
	}
	clamp(0, &r.Started, &r.BrakedAt)
	for i := range r.Items {
		it := &r.Items[i]
		clamp(0, &it.StagedAt, &it.Fence, &it.FlightAt, &it.DriftAt, &it.AskedAt)
		clamp(2*backoffDenied, &it.NotUntil)
		if clamp(landing, &it.Landing); it.Ask != nil || it.Prior != "" {
			it.Landing = now.Add(landing)
		}
	}
	return r
}
