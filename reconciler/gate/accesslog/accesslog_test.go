package accesslog_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"locktide.dev/reconciler/gate/accesslog"
)

var start = time.Unix(1_800_000_000, 0)

func at(second int) string { return fmt.Sprintf("%d.250", start.Unix()+int64(second)) }

// request writes one line as nginx does with accesslog.Format.
func request(second int, addrs, statuses, times, uri string) string {
	return strings.Join([]string{at(second), "shop.example", "200", "0.500", "312", addrs, statuses, "GET", "/x", times, uri}, "\t") + "\n"
}

type log struct {
	t    *testing.T
	path string
}

func (l log) write(lines ...string) {
	l.t.Helper()
	f, err := os.OpenFile(l.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		l.t.Fatal(err)
	}
	_, err = f.WriteString(strings.Join(lines, ""))
	if err = errors.Join(err, f.Close()); err != nil {
		l.t.Fatal(err)
	}
}

func open(t *testing.T) (log, *accesslog.Reader) {
	t.Helper()
	l := log{t, filepath.Join(t.TempDir(), "access.log")}
	l.write()
	r := accesslog.New([]string{l.path})
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return l, r
}

// sum adds up what a window holds.
func sum(t *testing.T, r *accesslog.Reader, from, to int, fresh ...string) (accesslog.Tally, []accesslog.Second) {
	t.Helper()
	list, err := r.Window(t.Context(), start.Add(time.Duration(from)*time.Second), start.Add(time.Duration(to)*time.Second), fresh, []string{"10.0.0.9:80"})
	if err != nil {
		t.Fatal(err)
	}
	var all accesslog.Tally
	for _, s := range list {
		all.Add(s.New)
	}
	return all, list
}

func TestEachAttemptCountsForItsMember(t *testing.T) {
	l, r := open(t)
	l.write(
		request(1, "10.0.0.1:80", "200", "0.004", "/a?b=1"),
		request(1, "10.0.0.1:80, 10.0.0.2:80", "502, 200", "0.001, 0.030", "/b"),
		request(2, "10.0.0.1:80 : 10.0.0.2:80", "500 : 200", "2.000 : 0.001", "/c"),
		request(2, "10.0.0.1:80", "-", "-", "/d"),
		request(2, "", "", "", "/none"),
		request(3, "10.0.0.3:80", "500", "0.001", "/other"),
		request(3, "10.0.0.9:80", "200", "0.001", "/old"),
	)
	got, list := sum(t, r, 0, 10, "10.0.0.1:80")
	if got.N != 4 || got.Bad != 3 || got.Over(50) != 1 {
		t.Errorf("got %+v", got)
	}
	if len(list) != 3 || list[0].At != start.Unix()+1 || list[2].Old.N != 1 || list[2].New.N != 0 {
		t.Errorf("got %+v", list)
	}
	requests, err := r.Recent(t.Context(), start, []string{"10.0.0.1:80", "10.0.0.9:80"}, 9)
	if err != nil || strings.Join(requests, " ") != "/a?b=1 /old" {
		t.Errorf("got %q, %v", requests, err)
	}
}

// P5: what is from before the window, or from its first broken second, does not count.
func TestWindowIsWhollyAfterItsStart(t *testing.T) {
	l, r := open(t)
	for s := range 10 {
		l.write(request(s, "10.0.0.1:80", "200", "0.001", "/"))
	}
	list, err := r.Window(t.Context(), start.Add(3500*time.Millisecond), start.Add(6*time.Second), []string{"10.0.0.1:80"}, nil)
	if err != nil || len(list) != 2 || list[0].At != start.Unix()+4 {
		t.Errorf("got %+v, %v", list, err)
	}
}

func TestFollowsGrowthRotationAndTruncation(t *testing.T) {
	l, r := open(t)
	want := 0
	check := func(what string) {
		t.Helper()
		if got, _ := sum(t, r, 0, 100, "10.0.0.1:80"); got.N != want {
			t.Errorf("%s: %d, want %d", what, got.N, want)
		}
	}
	one := request(1, "10.0.0.1:80", "200", "0.001", "/")
	l.write(one, one)
	want = 2
	check("what was there before")
	l.write(one[:40])
	check("half a line")
	l.write(one[40:])
	want = 3
	check("the other half")
	l.write(one)
	if err := os.Rename(l.path, l.path+".1"); err != nil {
		t.Fatal(err)
	}
	want = 4
	check("moved away, not made again")
	l.write(one, one)
	want = 6
	check("rotated")
	if err := os.Truncate(l.path, 0); err != nil {
		t.Fatal(err)
	}
	l.write(one)
	want = 7
	check("truncated in place")
	l.write(strings.Repeat("x", 600<<10) + "\n" + one)
	want = 8
	check("after a line that is too long")
	if got, _ := sum(t, r, 0, 100, "10.0.0.7:80"); got.N != 0 {
		t.Errorf("another address: %+v", got)
	}
}

func TestNotALogOfOurs(t *testing.T) {
	l, r := open(t)
	l.write(strings.Repeat("127.0.0.1 - - [10/Oct/2000:13:55:36 -0700] \"GET / HTTP/1.0\" 200 2326\n", 50))
	_, err := r.Window(t.Context(), start, start.Add(time.Hour), []string{"10.0.0.1:80"}, nil)
	if err == nil || !strings.Contains(err.Error(), "log_format") {
		t.Errorf("got %v", err)
	}
	if _, err := accesslog.New([]string{"/does/not/exist"}).Window(t.Context(), start, start, nil, nil); err == nil {
		t.Error("a log that is not there was read")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	l.write("more\n")
	if _, err := accesslog.New([]string{l.path}).Window(ctx, start, start, nil, nil); err == nil {
		t.Error("read without time")
	}
}

func TestStepsOfLatency(t *testing.T) {
	var tally accesslog.Tally
	last := -1
	for s := range 200 {
		if c := accesslog.Ceiling(s); c <= last {
			t.Fatalf("ceiling of step %d is %d, of the one before %d", s, c, last)
		} else {
			last = c
		}
	}
	l, r := open(t)
	for ms := range 1000 {
		l.write(request(1, "10.0.0.1:80", "200", fmt.Sprintf("%d.%03d", ms/1000, ms%1000), "/"))
	}
	tally, _ = sum(t, r, 0, 10, "10.0.0.1:80")
	for q, want := range map[float64]int{0.5: 500, 0.9: 900, 0.99: 990} {
		got := accesslog.Ceiling(tally.Step(q))
		if got < want || got > want*9/8+1 {
			t.Errorf("quantile %v is %d ms, want %d to %d", q, got, want, want*9/8+1)
		}
		if over := tally.Over(tally.Step(q)); over != 999-got && got < 999 {
			t.Errorf("over %d ms: %d", got, over)
		}
	}
}

func FuzzLines(f *testing.F) {
	f.Add(request(1, "10.0.0.1:80, 10.0.0.1:80", "502, 200", "-, 0.1", "/"))
	f.Add("\t\t\t\t\t\t\t\n")
	f.Fuzz(func(t *testing.T, text string) {
		l, r := open(t)
		l.write(text, "\n")
		list, err := r.Window(t.Context(), time.Unix(0, 0), start.Add(1e6*time.Hour), []string{"10.0.0.1:80"}, nil)
		if err != nil {
			return
		}
		for _, s := range list {
			if s.New.Bad > s.New.N || s.New.N > len(text) {
				t.Fatalf("%q: %+v", text, s)
			}
		}
	})
}

// L10: at least 140,000 lines per second on one core.
func BenchmarkRead(b *testing.B) {
	l := log{nil, filepath.Join(b.TempDir(), "access.log")}
	var text strings.Builder
	const lines = 100_000
	for i := range lines {
		text.WriteString(request(i/1000, fmt.Sprintf("10.0.%d.%d:80", i%40, i%250), "200", "0.0"+fmt.Sprint(10+i%80), fmt.Sprintf("/item/%d?page=%d", i%5000, i%7)))
	}
	if err := os.WriteFile(l.path, []byte(text.String()), 0o644); err != nil {
		b.Fatal(err)
	}
	var addrs []string
	for i := range 250 {
		addrs = append(addrs, fmt.Sprintf("10.0.%d.%d:80", i%40, i))
	}
	b.SetBytes(int64(text.Len() / lines))
	b.ResetTimer()
	for range b.N/lines + 1 {
		r := accesslog.New([]string{l.path})
		if _, err := r.Window(context.Background(), start, start.Add(time.Hour), addrs, nil); err != nil {
			b.Fatal(err)
		}
		if err := r.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64((b.N/lines+1)*lines)/b.Elapsed().Seconds(), "lines/s")
}

// The nginx driver, and what its docs tell others to write, log what is read here.
func TestFormatIsWhatNginxWrites(t *testing.T) {
	for file, want := range map[string]string{
		"../../../drivers/nginx/render.go": strings.ReplaceAll(accesslog.Format, `\t`, `\\t`),
		"../../../docs/proxy.md":           accesslog.Format,
	} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), "escape=json '"+want+"'") {
			t.Errorf("%s has another format than %s", file, accesslog.Format)
		}
	}
}
