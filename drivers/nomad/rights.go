package nomad

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"strings"

	"github.com/hashicorp/nomad/api"

	"locktide.dev/drivers"
	"locktide.dev/schema"
)

// explained adds to a refusal what the token lacks: Nomad itself only says
// "Permission denied".
type explained struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (e explained) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := e.next.RoundTrip(r)
	if err != nil || resp.StatusCode != http.StatusForbidden {
		return resp, err
	}
	text, err := plainBody(resp)
	if closed := resp.Body.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return nil, err
	}
	if lacks := privilege(r); lacks != "" && bytes.Contains(text, []byte("Permission denied")) {
		text = append(bytes.TrimSpace(text), (": the token lacks " + lacks)...)
	}
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
	return resp, nil
}

// plainBody reads an answer that may be packed, as the client asks for it.
func plainBody(resp *http.Response) ([]byte, error) {
	body := io.Reader(resp.Body)
	if resp.Header.Get("Content-Encoding") == "gzip" {
		unpacked, err := gzip.NewReader(body)
		if err != nil {
			return nil, err
		}
		resp.Header.Del("Content-Encoding")
		body = unpacked
	}
	return io.ReadAll(io.LimitReader(body, 4096))
}

// privilege names what Nomad asks of the token of a request; empty: unknown.
func privilege(r *http.Request) string {
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	read := r.Method == http.MethodGet
	capability := ""
	switch first, rest, _ := strings.Cut(path, "/"); {
	case first == "var":
		verb := "write"
		if read {
			verb = "read"
		}
		return verb + ` for variables under "` + rest + `"` + in(r)
	case first == "nodes" || first == "agent" || first == "node" && read:
		return `node { policy = "read" }`
	case first == "node":
		return `node { policy = "write" }`
	case first == "jobs" && read:
		capability = "list-jobs"
	case first == "allocation" && !read:
		capability = "alloc-lifecycle"
	case read:
		capability = "read-job"
	default:
		capability = "submit-job"
	}
	return capability + in(r)
}

// in names the namespace of a request.
func in(r *http.Request) string {
	switch namespace := r.URL.Query().Get("namespace"); namespace {
	case "":
		return " in namespace default"
	case "*":
		return " in any namespace"
	default:
		return " in namespace " + namespace
	}
}

// unlistable gives the namespaces of wanted jobs that no list shows and that
// the token may not list: a list of all namespaces leaves those out without a
// word, so nothing in them is provably absent.
func (d *Driver) unlistable(ctx context.Context, wants []drivers.Want, stubs map[schema.Key]*api.JobListStub) map[string]error {
	out := map[string]error{}
	for _, w := range wants {
		_, namespace := splitName(w.Object.Key.Name)
		if _, asked := out[namespace]; asked || stubs[w.Object.Key] != nil {
			continue
		}
		_, _, err := d.api.Jobs().List(first(ctx, namespace))
		out[namespace] = err
	}
	return out
}

// unreadable is an error when a namespace that holds jobs of ours shows no
// instance at all, since the token may not read there.
func (d *Driver) unreadable(ctx context.Context, stubs map[schema.Key]*api.JobListStub, allocs []*api.AllocationListStub) error {
	seen := map[string]bool{}
	for _, a := range allocs {
		seen[a.Namespace] = true
	}
	for key, s := range stubs {
		_, namespace := splitName(key.Name)
		if _, known := d.memory.group(key); seen[namespace] || !known && s.Meta[markOwner] != d.config.Owner {
			continue
		}
		seen[namespace] = true
		if _, _, err := d.api.Allocations().List(first(ctx, namespace)); err != nil {
			return err
		}
	}
	return nil
}

// first asks for one item only.
func first(ctx context.Context, namespace string) *api.QueryOptions {
	q := query(ctx, namespace)
	q.PerPage = 1
	return q
}
