package worker_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"locktide.dev/render/worker"
)

// service does what a question asks for.
func service(question []byte) ([]byte, error) {
	switch string(question) {
	case "hang":
		select {}
	case "grow":
		var all [][]byte
		for {
			b := make([]byte, 16<<20)
			for i := range b {
				b[i] = 1
			}
			all = append(all, b)
			if len(all) > 1<<20 {
				return nil, nil
			}
		}
	case "crash":
		panic("bug")
	case "fail":
		return nil, errors.New("no such thing")
	}
	return append([]byte("you said "), question...), nil
}

// A question that does not end, grows or crashes has an error of its own; the
// next one is answered.
func TestCallIsBounded(t *testing.T) {
	p := pool(t, worker.Config{Deadline: 5 * time.Second, MemoryMiB: 200, Size: 1})
	for question, want := range map[string]string{"hang": "was ended after", "grow": "memory", "crash": "bug", "fail": "no such thing"} {
		if _, err := p.Call(context.Background(), []byte(question)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", question, err, want)
		}
		if got, err := p.Call(context.Background(), []byte("x")); err != nil || string(got) != "you said x" {
			t.Errorf("after %s: got %q, %v", question, got, err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if _, err := p.Call(ctx, []byte("hang")); err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("interrupted: got %v", err)
	}
}
