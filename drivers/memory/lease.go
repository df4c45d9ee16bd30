package memory

import (
	"context"
	"sync"
	"time"
)

// LeaseServer is what several holders share.
type LeaseServer struct {
	mu     sync.Mutex
	holder string
	epoch  uint64
	until  time.Time
	brake  string
	away   bool
}

// Lease is one holder's handle; it implements drivers.Lease.
type Lease struct {
	Server *LeaseServer
	Holder string
	Now    func() time.Time
	Length time.Duration

	held   bool
	before uint64
}

// SetAway makes the server unreachable.
func (s *LeaseServer) SetAway(away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = away
}

// Acquire implements drivers.Lease.
func (l *Lease) Acquire(context.Context) (epoch uint64, held bool, holder string, err error) {
	s := l.Server
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		return 0, false, "", context.DeadlineExceeded
	}
	now := l.Now()
	if s.holder != l.Holder && s.holder != "" && now.Before(s.until) {
		l.held = false
		return s.epoch, false, s.holder, nil
	}
	if s.holder != l.Holder || !l.held { // a new reign, also after our own restart
		s.holder, l.held, l.before = l.Holder, true, s.epoch
		s.epoch++
	}
	s.until = now.Add(l.TTL())
	return s.epoch, true, s.holder, nil
}

// Before implements drivers.Lease.
func (l *Lease) Before() uint64 {
	l.Server.mu.Lock()
	defer l.Server.mu.Unlock()
	return l.before
}

// Release implements drivers.Lease.
func (l *Lease) Release(context.Context) error {
	l.Server.mu.Lock()
	defer l.Server.mu.Unlock()
	if l.Server.holder == l.Holder {
		l.Server.holder, l.held = "", false
	}
	return nil
}

// TTL implements drivers.Lease.
func (l *Lease) TTL() time.Duration {
	if l.Length == 0 {
		return 15 * time.Second
	}
	return l.Length
}

// Brake implements drivers.Lease.
func (l *Lease) Brake(context.Context) (string, error) {
	l.Server.mu.Lock()
	defer l.Server.mu.Unlock()
	return l.Server.brake, nil
}

// SetBrake implements drivers.Lease.
func (l *Lease) SetBrake(_ context.Context, reason string) error {
	l.Server.mu.Lock()
	defer l.Server.mu.Unlock()
	l.Server.brake = reason
	return nil
}
