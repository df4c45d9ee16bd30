package gate

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"locktide.dev/schema"
)

const (
	attempts  = 3                      // of a probe that cannot connect or fails
	pause     = 300 * time.Millisecond // between them
	together  = 8                      // members probed at once
	bodyBytes = 64 << 10               // of an answer that is looked at
)

// probe asks every member and gives the worst answer: one that answers badly
// fails the gate, and so does one that cannot be reached after all attempts.
func (e *Evaluator) probe(ctx context.Context, a Ask) schema.Judgment {
	g := a.Question.Gate
	addrs, err := endpoints(a.Members, g.Port)
	if err != nil {
		return unknown("name the gate's port", "%v", err)
	}
	try, err := e.attempt(g)
	if err != nil {
		return unknown("correct the gate", "%v", err)
	}
	from := time.Now()
	bad := make([]error, len(addrs))
	each(len(addrs), func(i int) { bad[i] = persist(ctx, g, addrs[i], try) })
	j := schema.Judgment{Result: schema.GatePass, From: a.At, To: a.At.Add(time.Since(from)), Sample: len(addrs), Threshold: "every member answers as wanted",
		Why: fmt.Sprintf("all %d members answered as wanted", len(addrs))}
	passed := 0
	for i, err := range bad {
		switch {
		case err == nil:
			passed++
		case ctx.Err() != nil:
			return unknown("", "the time for the probe was over: %v", err)
		case j.Result == schema.GatePass:
			j.Result, j.Why = schema.GateFail, fmt.Sprintf("member %s at %s: %v", a.Members[i].ID, addrs[i], err)
		}
	}
	j.Figures = map[string]float64{"passed": float64(passed)}
	return j
}

// each calls f with 0 to n-1, a few at once.
func each(n int, f func(i int)) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, together)
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			f(i)
		})
	}
	wg.Wait()
}

// persist tries a few times: one lost packet is no verdict.
func persist(ctx context.Context, g schema.Gate, addr string, try func(context.Context, string) error) error {
	var err error
	for n := range attempts {
		if n > 0 {
			select {
			case <-ctx.Done():
				return errors.Join(err, ctx.Err())
			case <-time.After(pause):
			}
		}
		once, cancel := context.WithTimeout(ctx, cmp.Or(g.Timeout.Std(), defaultTimeout))
		err = try(once, addr)
		cancel()
		if err == nil {
			return nil
		}
	}
	return err
}

// attempt gives what one try of the gate is.
func (e *Evaluator) attempt(g schema.Gate) (func(context.Context, string) error, error) {
	switch g.Kind {
	case schema.GateTCP:
		return connect, nil
	case schema.GateGRPC:
		return func(ctx context.Context, addr string) error { return e.health(ctx, addr, g.Service) }, nil
	}
	body, err := regexp.Compile(g.Body)
	if err != nil {
		return nil, fmt.Errorf("body is no regular expression: %w", err)
	}
	return func(ctx context.Context, addr string) error { return e.get(ctx, addr, g, body) }, nil
}

func connect(ctx context.Context, addr string) error {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return c.Close()
}

func (e *Evaluator) get(ctx context.Context, addr string, g schema.Gate, body *regexp.Regexp) error {
	answer, err := e.fetch(ctx, addr, cmp.Or(g.Path, "/"), g.Header, bodyBytes)
	switch {
	case err != nil:
		return err
	case g.Status != 0 && answer.status != g.Status:
		return fmt.Errorf("status %d, want %d", answer.status, g.Status)
	case g.Status == 0 && (answer.status < 200 || answer.status > 299):
		return fmt.Errorf("status %d, want 200 to 299", answer.status)
	case g.Body != "" && !body.Match(answer.body):
		return fmt.Errorf("the answer %.80q does not match %q", answer.body, g.Body)
	}
	return nil
}

// answer is what a member said to one GET.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// fetch sends one GET to a member; of the body, at most limit bytes are read.
func (e *Evaluator) fetch(ctx context.Context, addr, path string, header map[string]string, limit int64) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+path, nil)
	if err != nil {
		return answer{}, err
	}
	if req.URL.Host != addr {
		return answer{}, fmt.Errorf("path %q would leave the member", path)
	}
	for k, v := range header {
		if strings.EqualFold(k, "Host") {
			req.Host = v
			continue
		}
		req.Header.Set(k, v)
	}
	res, err := e.plain.Do(req)
	if err != nil {
		return answer{}, err
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, limit))
	err = errors.Join(err, res.Body.Close())
	if err != nil {
		return answer{}, fmt.Errorf("cannot read the answer: %w", err)
	}
	return answer{status: res.StatusCode, header: res.Header, body: body}, nil
}

// Statuses of the gRPC health protocol, grpc.health.v1.HealthCheckResponse.
var servingStatus = [...]string{"UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"}

// health calls grpc.health.v1.Health/Check: one message each way, whose only
// fields are a name (1, text) and a status (1, number).
func (e *Evaluator) health(ctx context.Context, addr, service string) error {
	if len(service) > 127 {
		return fmt.Errorf("the service's name is longer than 127 bytes")
	}
	message := ""
	if service != "" {
		message = "\x0a" + string(rune(len(service))) + service
	}
	frame := append([]byte{0}, binary.BigEndian.AppendUint32(nil, uint32(len(message)))...)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/grpc.health.v1.Health/Check", strings.NewReader(string(frame)+message))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("TE", "trailers")
	res, err := e.h2.Do(req)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, bodyBytes))
	err = errors.Join(err, res.Body.Close())
	if err != nil {
		return fmt.Errorf("cannot read the answer: %w", err)
	}
	if code := cmp.Or(res.Trailer.Get("Grpc-Status"), res.Header.Get("Grpc-Status")); res.StatusCode != http.StatusOK || code != "0" {
		return fmt.Errorf("HTTP status %d, gRPC status %s %s", res.StatusCode, cmp.Or(code, "none"), cmp.Or(res.Trailer.Get("Grpc-Message"), res.Header.Get("Grpc-Message")))
	}
	return serving(body)
}

// serving reads one HealthCheckResponse.
func serving(body []byte) error {
	if len(body) < 5 || body[0] != 0 || int(binary.BigEndian.Uint32(body[1:5])) != len(body)-5 {
		return fmt.Errorf("the answer is no single uncompressed gRPC message")
	}
	status := 0
	switch message := body[5:]; {
	case len(message) == 0:
	case len(message) == 2 && message[0] == 0x08 && int(message[1]) < len(servingStatus):
		status = int(message[1])
	default:
		return fmt.Errorf("the answer is no HealthCheckResponse")
	}
	if servingStatus[status] != "SERVING" {
		return fmt.Errorf("it is %s", servingStatus[status])
	}
	return nil
}
