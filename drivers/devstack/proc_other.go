//go:build !linux

package devstack

import "syscall"

// dieWithParent has no counterpart outside Linux: only Stop ends the servers there.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// processes finds none: the environment of a process is not readable here.
func processes(func(env map[string]string) bool) ([]int, error) { return nil, nil }

// unmountUnder has nothing to do: Nomad mounts nothing for its tasks here.
func unmountUnder(string) error { return nil }
