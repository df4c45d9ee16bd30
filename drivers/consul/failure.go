package consul

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/hashicorp/consul/api"

	"locktide.dev/drivers/access"
	"locktide.dev/schema"
)

const permissionsNext = "give the token of this instance the rights that docs/permissions.md lists"

// refusal is an error of which we know what it means for the next step.
type refusal struct {
	kind    schema.FailureKind
	message string
	next    string
}

// unread marks an error that came before any write: nothing can have changed.
type unread struct{ error }

func (u unread) Unwrap() error { return u.error }

func (r *refusal) Error() string { return r.message }

func conflict(format string, args ...any) error {
	return &refusal{kind: schema.FailConflict, message: fmt.Sprintf(format, args...)}
}

// others says whether what bears the mark of owner is somebody else's: of another
// fleet, or without a mark and not known to have been ours.
func (d *Driver) others(owner string, last *schema.Receipt) bool {
	return owner != d.config.Owner && (owner != "" || last == nil)
}

func foreign(key schema.Key) error {
	return &refusal{kind: schema.FailInvalid, message: fmt.Sprintf("%s exists in Consul and does not carry our mark", key),
		next: "locktide adopt " + key.String()}
}

// failure says what an error of a write means for the next step.
func failure(what schema.Key, err error) *schema.Failure {
	var own *refusal
	if errors.As(err, &own) {
		return &schema.Failure{Kind: own.kind, Message: own.message, Next: own.next}
	}
	f := &schema.Failure{Kind: schema.FailUnclear, Message: fmt.Sprintf("cannot write %s to Consul: %v", what, err)}
	var status api.StatusError
	var op *net.OpError
	switch {
	case errors.As(err, &status):
		f.Kind = kindOf(status.Code, status.Body)
	case errors.As(err, &op) && op.Op == "dial", errors.Is(err, errNoLeader):
		f.Kind = schema.FailUnavailable
	case strings.Contains(err.Error(), "Failed request: "): // of a transaction, without its status
		f.Kind = kindOf(0, err.Error())
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
	}
	if message, next, ok := access.Explain(err); ok {
		f.Kind, f.Message, f.Next = schema.FailUnavailable, fmt.Sprintf("cannot reach Consul for %s: %s", what, message), next
	}
	var before unread
	if errors.As(err, &before) && f.Kind == schema.FailUnclear {
		f.Kind = schema.FailUnavailable
	}
	if f.Kind == schema.FailDenied {
		f.Next = permissionsNext
	}
	return f
}

// explained puts what a failed connection is about before its error.
func explained(err error) error {
	if message, next, ok := access.Explain(err); ok {
		return fmt.Errorf("%s; %s: %w", message, next, err)
	}
	return err
}

// kindOf reads an HTTP status and its text. Consul answers 500 for validation
// errors of config entries, and 409 for transactions that lack permission.
func kindOf(code int, text string) schema.FailureKind {
	lower := strings.ToLower(text)
	switch {
	case code == 403, strings.Contains(lower, "permission denied"), strings.Contains(lower, "acl not found"):
		return schema.FailDenied
	case code == 429, strings.Contains(lower, "rate limit"):
		return schema.FailThrottled
	case code == 409:
		return schema.FailConflict
	case code == 400, code == 404, code == 413, strings.Contains(lower, "too many operations"), strings.Contains(lower, "too large"):
		return schema.FailInvalid
	case code == 502, code == 503, code == 504, strings.Contains(lower, "leader"), strings.Contains(lower, "shutting down"),
		strings.Contains(lower, "no path to datacenter"):
		return schema.FailUnavailable
	case strings.Contains(lower, "rpc error making call: eof"), strings.Contains(lower, "i/o timeout"),
		strings.Contains(lower, "raft"), strings.Contains(lower, "timed out"):
		return schema.FailUnclear
	case code == 500:
		return schema.FailInvalid
	}
	return schema.FailUnclear
}

// txnFailure turns the errors of a refused transaction into one error.
func txnFailure(errs api.TxnErrors) error {
	texts := make([]string, 0, len(errs))
	kind := schema.FailConflict
	for _, e := range errs {
		texts = append(texts, fmt.Sprintf("operation %d: %s", e.OpIndex, e.What))
		if kindOf(409, e.What) == schema.FailDenied {
			kind = schema.FailDenied
		}
	}
	return &refusal{kind: kind, message: "Consul refused the transaction: " + strings.Join(texts, "; ")}
}
