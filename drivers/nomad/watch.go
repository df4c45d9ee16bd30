package nomad

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hashicorp/nomad/api"

	"locktide.dev/schema"
)

// lifeSign is the longest silence of a healthy event stream, which beats
// every 30 s (measured: at 30 s of silence healthy streams were given up).
const lifeSign = 75 * time.Second

// Watch implements drivers.Watcher: one event stream for the whole region.
// The server keeps only its newest events and says nothing when some were
// lost, so every connection begins with a ring for "anything".
func (d *Driver) Watch(ctx context.Context, ring func(keys []schema.Key)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(lifeSign, func() { cancel(fmt.Errorf("no sign of life for %s", lifeSign)) })
	defer silence.Stop()
	q := query(ctx, "*")
	q.PerPage = 1
	_, meta, err := d.api.Jobs().List(q)
	if err != nil {
		return d.streamError(ctx, err)
	}
	last := meta.LastIndex
	q = query(ctx, "*")
	body, err := d.api.Raw().Response(fmt.Sprintf("/v1/event/stream?topic=Job&topic=Allocation&topic=Deployment&topic=Node&index=%d", last), q)
	if err != nil {
		return d.streamError(ctx, err)
	}
	defer body.Close()
	ring(nil)
	dec := json.NewDecoder(body)
	for {
		var e api.Events
		if err := dec.Decode(&e); err != nil {
			return d.streamError(ctx, err)
		}
		silence.Reset(lifeSign)
		if keys, any := d.keysOf(e.Events, last); any {
			ring(nil)
		} else if len(keys) > 0 {
			ring(keys)
		}
		last = max(last, e.Index)
	}
}

func (d *Driver) streamError(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("the server closed it")
	}
	return fmt.Errorf("nomad %s: event stream ended: %w", d.config.Name, err)
}

// keysOf gives the jobs that events are about; any for those of nodes.
func (d *Driver) keysOf(events []api.Event, seen uint64) (keys []schema.Key, any bool) {
	have := map[schema.Key]bool{}
	for _, e := range events {
		if e.Index <= seen || e.Type == "PlanResult" && e.Topic == api.TopicJob {
			continue
		}
		if e.Topic == api.TopicNode {
			any = true
			continue
		}
		part, ok := e.Payload[string(e.Topic)].(map[string]interface{})
		if !ok {
			any = true
			continue
		}
		id, _ := part["JobID"].(string)
		if e.Topic == api.TopicJob {
			id, _ = part["ID"].(string)
		}
		namespace, _ := part["Namespace"].(string)
		if id == "" {
			any = true
			continue
		}
		if key := d.config.key(parentOf(id), namespace); !have[key] {
			have[key] = true
			keys = append(keys, key)
		}
	}
	return keys, any
}
