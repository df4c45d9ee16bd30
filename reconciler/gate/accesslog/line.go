package accesslog

import (
	"bytes"
	"math/bits"
)

// Format is nginx's log_format for the columns that this package reads, with
// escape=json: no value can hold a tab or a newline.
const Format = `$msec\t$host\t$status\t$request_time\t$bytes_sent\t$upstream_addr\t$upstream_status\t$request_method\t$uri\t$upstream_response_time\t$request_uri`

// attempt is what one upstream did about a request: nginx tries the next one
// after a failure, and lists all of them.
type attempt struct {
	addr   []byte // host:port
	status int
	ms     int
}

// line is one request; its slices are parts of the text.
type line struct {
	second   int64 // when it ended, unix
	method   []byte
	uri      []byte
	addrs    []byte
	statuses []byte
	times    []byte
	took     []byte // of the whole request
}

// parse reads a line without its newline; ok says whether it has the columns.
// Older lines lack the last two: the attempts then took the request's time.
func parse(text []byte) (l line, ok bool) {
	var cols [11][]byte
	n := 0
	for n < len(cols)-1 {
		i := bytes.IndexByte(text, '\t')
		if i < 0 {
			break
		}
		cols[n], text = text[:i], text[i+1:]
		n++
	}
	cols[n] = text
	if n < 8 {
		return l, false
	}
	stamp := cols[0]
	if dot := bytes.IndexByte(stamp, '.'); dot >= 0 {
		stamp = stamp[:dot]
	}
	second, ok := number(stamp)
	if !ok {
		return l, false
	}
	if _, ok := number(cols[2]); !ok {
		return l, false
	}
	return line{second: second, took: cols[3], addrs: cols[5], statuses: cols[6], method: cols[7], times: cols[9], uri: cols[10]}, true
}

// next takes the first attempt off the line.
func (l *line) next() (a attempt, ok bool) {
	if len(l.addrs) == 0 {
		return a, false
	}
	var status, took []byte
	a.addr, l.addrs = cut(l.addrs)
	status, l.statuses = cut(l.statuses)
	took, l.times = cut(l.times)
	if len(took) == 0 {
		took = l.took
	}
	n, numeric := number(status)
	if !numeric {
		n = 502 // "-": the attempt gave no answer
	}
	a.status, a.ms = int(n), millis(took)
	return a, true
}

// cut splits at ", " (next attempt) or " : " (after an internal redirect).
func cut(list []byte) (first, rest []byte) {
	i := bytes.IndexByte(list, ' ')
	if i < 0 {
		return list, nil
	}
	first, rest = bytes.TrimRight(list[:i], ","), list[i+1:]
	return first, bytes.TrimPrefix(rest, []byte(": "))
}

func number(b []byte) (n int64, ok bool) {
	if len(b) == 0 || len(b) > 12 {
		return 0, false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// millis reads seconds with three decimals; what is no number counts as zero.
func millis(b []byte) int {
	whole, part := b, []byte(nil)
	if dot := bytes.IndexByte(b, '.'); dot >= 0 {
		whole, part = b[:dot], b[dot+1:]
	}
	s, ok := number(whole)
	if !ok {
		return 0
	}
	ms, scale := int64(0), int64(100)
	for _, c := range part[:min(len(part), 3)] {
		if c < '0' || c > '9' {
			return 0
		}
		ms += int64(c-'0') * scale
		scale /= 10
	}
	return int(min(s*1000+ms, 1<<30))
}

// Steps of a latency histogram: exact up to 8 ms, then eight per doubling.
const steps = 8

// step gives the histogram step of a latency.
func step(ms int) int {
	if ms < steps {
		return max(ms, 0)
	}
	exp := bits.Len(uint(ms)) - 4 // ms >> exp is in [8, 16)
	return steps*exp + (ms >> exp)
}

// Ceiling gives the largest latency of a step in milliseconds.
func Ceiling(s int) int {
	if s < 2*steps {
		return s
	}
	exp := s/steps - 1
	return (s%steps+steps+1)<<exp - 1
}
