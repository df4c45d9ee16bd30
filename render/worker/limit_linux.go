package worker

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"syscall"
)

// maxAddress bounds the address space of a child: a Go program needs more than
// its memory of it.
const maxAddress = 4 << 30

// limitProcess bounds what the kernel gives this process: address space, no
// files of its own to write, no core dump. A limit that cannot be set is no
// reason not to work: the parent watches the memory as well.
func limitProcess() {
	for _, l := range []struct {
		what int
		max  uint64
	}{{syscall.RLIMIT_AS, maxAddress}, {syscall.RLIMIT_FSIZE, 0}, {syscall.RLIMIT_CORE, 0}} {
		if err := syscall.Setrlimit(l.what, &syscall.Rlimit{Cur: l.max, Max: l.max}); err != nil {
			fmt.Fprintln(os.Stderr, "cannot limit the evaluator:", err)
		}
	}
}

// memoryOf gives the memory of a process in bytes; 0 if it cannot be told.
func memoryOf(pid int) int64 {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	fields := bytes.Fields(raw)
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}
