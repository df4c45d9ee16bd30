package main

import (
	"fmt"
	"syscall"
	"time"

	"locktide.dev/render/worker"
)

// cpu is the processor time that this process has used.
func cpu() (time.Duration, error) {
	used, _, err := usage(syscall.RUSAGE_SELF)
	return used, err
}

// usage gives the processor time of this process or of its children that have
// ended, and the most memory that it, or one of them, had resident.
func usage(who int) (used time.Duration, mebi int64, err error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(who, &u); err != nil {
		return 0, 0, fmt.Errorf("cannot read CPU time: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), u.Maxrss >> 10, nil
}

// usages says what f takes of the processors, here and in a pool's evaluators,
// which are ended for it.
func usages(pool *worker.Pool, f func() error) (string, error) {
	pool.Close()
	before, err := processors()
	if err != nil {
		return "", err
	}
	if err := f(); err != nil {
		return "", err
	}
	pool.Close()
	after, err := processors()
	return fmt.Sprintf("CPU %s here and %s in the evaluators", short(after[0]-before[0]), short(after[1]-before[1])), err
}

// processors gives the processor time of this process and of its children that
// have ended.
func processors() (out [2]time.Duration, err error) {
	if out[0], _, err = usage(syscall.RUSAGE_SELF); err == nil {
		out[1], _, err = usage(syscall.RUSAGE_CHILDREN)
	}
	return out, err
}
