package nomad

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/nomad/api"

	"locktide.dev/drivers/access"
	"locktide.dev/schema"
)

const (
	inFlight    = 8                // calls at once
	callTimeout = 30 * time.Second // of one call
)

// failureOf says what an error means for the next step. sent: a write that
// may have had its effect.
func failureOf(err error, write bool) *schema.Failure {
	var known *schema.Failure
	if errors.As(err, &known) {
		return known
	}
	if message, next, ok := access.Explain(err); ok {
		return &schema.Failure{Kind: schema.FailUnavailable, Message: message, Next: next}
	}
	var unexpected api.UnexpectedResponseError
	if errors.As(err, &unexpected) && unexpected.HasStatusCode() {
		return answered(unexpected.StatusCode(), strings.TrimSpace(unexpected.Body()))
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return &schema.Failure{Kind: schema.FailUnavailable, Message: "the server does not answer: " + op.Err.Error()}
	}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return &schema.Failure{Kind: schema.FailUnavailable, Message: dns.Error()}
	}
	text := "the connection broke: " + err.Error()
	if errors.Is(err, context.DeadlineExceeded) {
		text = "no answer in time"
	}
	if write {
		return &schema.Failure{Kind: schema.FailUnclear, Message: text, Next: "the effect is unknown; it is read again"}
	}
	return &schema.Failure{Kind: schema.FailUnavailable, Message: text}
}

func answered(status int, body string) *schema.Failure {
	f := &schema.Failure{Kind: schema.FailInvalid, Message: body}
	switch {
	case strings.Contains(body, "Enforcing job modify index"):
		f.Kind = schema.FailConflict
	case status == http.StatusForbidden || strings.Contains(body, "Permission denied") || strings.Contains(body, "ACL token not found"):
		f.Kind, f.Next = schema.FailDenied, "give the token the privileges of the operating guide; locktide doctor names what lacks"
	case status == http.StatusTooManyRequests:
		f.Kind = schema.FailThrottled
	case status == http.StatusConflict:
		f.Kind = schema.FailConflict
	case strings.Contains(body, "No path to region"):
		f.Kind, f.Next = schema.FailUnavailable, "set region to the servers' own, or leave it out"
	case strings.Contains(body, "in nonexistent namespace"):
		f.Next = "create it: nomad namespace apply NAME"
	case strings.Contains(body, "in nonexistent node pool"):
		f.Next = "create it: nomad node pool init, nomad node pool apply; or start a client in it"
	case status >= 500 && refusal(body):
	case status >= 500:
		f.Kind = schema.FailUnavailable
	}
	if f.Message == "" {
		f.Message = "the server answered " + strconv.Itoa(status)
	}
	return f
}

// refusal tells a 500 that judges the content, as Nomad gives for jobs that
// do not validate, from one of a server in trouble.
func refusal(body string) bool {
	for _, s := range []string{"errors occurred:", "error occurred:", "validation failed", "can't ", "cannot ", "not found", "invalid", "nonexistent", "does not exist"} {
		if strings.Contains(body, s) {
			return true
		}
	}
	return false
}

func conflict(format string, args ...any) *schema.Failure {
	return &schema.Failure{Kind: schema.FailConflict, Message: fmt.Sprintf(format, args...)}
}

func invalid(format string, args ...any) *schema.Failure {
	return &schema.Failure{Kind: schema.FailInvalid, Message: fmt.Sprintf(format, args...)}
}

// missing says whether err is a 404.
func missing(err error) bool {
	var unexpected api.UnexpectedResponseError
	return errors.As(err, &unexpected) && unexpected.StatusCode() == http.StatusNotFound
}

func query(ctx context.Context, namespace string) *api.QueryOptions {
	return (&api.QueryOptions{Namespace: namespace}).WithContext(ctx)
}

func writing(ctx context.Context, namespace string) *api.WriteOptions {
	return (&api.WriteOptions{Namespace: namespace}).WithContext(ctx)
}

// checkVersion reads the servers' versions once.
func (d *Driver) checkVersion(ctx context.Context) error {
	d.checked.Lock()
	defer d.checked.Unlock()
	if d.version != "" {
		return nil
	}
	var members api.ServerMembers
	if _, err := d.api.Raw().Query("/v1/agent/members", &members, query(ctx, "")); err != nil {
		return fmt.Errorf("nomad %s: could not ask %s for its version: %w", d.config.Name, d.config.Address, failureOf(err, false))
	}
	oldest := ""
	for _, m := range members.Members {
		if v := m.Tags["build"]; v != "" && (oldest == "" || access.Older(v, oldest)) {
			oldest = v
		}
	}
	if oldest == "" {
		return fmt.Errorf("nomad %s: %s named no server version", d.config.Name, d.config.Address)
	}
	if access.Older(oldest, MinVersion) {
		return &schema.Failure{Kind: schema.FailInvalid, Message: fmt.Sprintf("nomad %s: a server runs Nomad %s, at least %s is needed", d.config.Name, oldest, MinVersion), Next: "upgrade the servers"}
	}
	if !access.SameMinor(oldest, TestedVersion) {
		d.log.Warn("Locktide was tested with another Nomad", "running", oldest, "tested", TestedVersion)
	}
	d.version = oldest
	return nil
}

// each runs f for 0..n-1, inFlight at once in the whole driver. F must not
// call each.
func (d *Driver) each(n int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		d.slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-d.slots }()
			f(i)
		})
	}
	wg.Wait()
}
