//go:build !linux

package main

import "time"

// threadTime is that of the whole process: an upper bound.
func threadTime() (time.Duration, error) { return cpu() }
