package app

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// visitor asks a route through the proxy, each time on a fresh connection.
type visitor struct {
	url, host string
	client    *http.Client
}

func newVisitor(proxy, host, path string) *visitor {
	return &visitor{url: "http://" + proxy + path, host: host,
		client: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}}
}

// ask gives the answer's body; anything but 200 is an error.
func (v *visitor) ask(ctx context.Context) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, v.url, nil)
	if err != nil {
		return "", err
	}
	req.Host = v.host
	res, err := v.client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return "", err
	}
	text := strings.TrimSpace(string(body))
	if res.StatusCode != http.StatusOK {
		return text, fmt.Errorf("%s: %.120s", res.Status, text)
	}
	return text, nil
}

// load is constant traffic: four visitors, one request each every 20 ms.
type load struct {
	cancel context.CancelFunc
	group  sync.WaitGroup

	mu      sync.Mutex
	good    int
	bad     int
	first   []string       // the first failures
	answers map[string]int // by body
	slowest time.Duration
}

func startLoad(ctx context.Context, v *visitor) *load {
	ctx, cancel := context.WithCancel(ctx)
	l := &load{cancel: cancel, answers: map[string]int{}}
	for range 4 {
		l.group.Go(func() {
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
					l.count(ctx, v)
				}
			}
		})
	}
	return l
}

func (l *load) count(ctx context.Context, v *visitor) {
	start := time.Now()
	// A request that has begun is brought to its end, also when the load ends.
	body, err := v.ask(context.WithoutCancel(ctx))
	took := time.Since(start)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.slowest = max(l.slowest, took)
	if err != nil {
		l.bad++
		if len(l.first) < 5 {
			l.first = append(l.first, fmt.Sprintf("%s: %v", start.Format("15:04:05.000"), err))
		}
		return
	}
	l.good++
	l.answers[body]++
}

// stop ends the traffic; the figures are final then.
func (l *load) stop() {
	l.cancel()
	l.group.Wait()
}
