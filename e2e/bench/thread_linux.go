package main

import (
	"fmt"
	"syscall"
	"time"
)

// threadTime is the processor time that the calling thread has used.
func threadTime() (time.Duration, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_THREAD, &u); err != nil {
		return 0, fmt.Errorf("cannot read the thread's CPU time: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}
