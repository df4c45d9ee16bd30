package devstack

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Marks in the environment of every agent; Nomad hands them on to its tasks.
const (
	envOwner = "LOCKTIDE_DEVSTACK"     // process id of the owner
	envStack = "LOCKTIDE_DEVSTACK_DIR" // directory of the stack
)

// tempPrefix, the owner's process id and a random end make a temporary directory's name.
const tempPrefix = "locktide-devstack-"

// Sweep kills the servers and tasks, and removes the temporary directories,
// whose owner is gone. It returns the number of directories removed. Starting a
// stack sweeps first, so a killed test leaves nothing for long.
func Sweep() (int, error) {
	err := killAll(func(env map[string]string) bool {
		owner, err := strconv.Atoi(env[envOwner])
		return err == nil && !alive(owner)
	})
	dirs, globErr := filepath.Glob(filepath.Join(os.TempDir(), tempPrefix+"*"))
	errs := []error{err, globErr}
	removed := 0
	for _, dir := range dirs {
		digits, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), tempPrefix), "-")
		owner, err := strconv.Atoi(digits)
		if err != nil || alive(owner) {
			continue
		}
		if err := removeTree(dir); err != nil {
			errs = append(errs, err)
			continue
		}
		removed++
	}
	return removed, errors.Join(errs...)
}

// belongs tells whether a process with this environment is part of the stack in
// dir: an agent, Nomad's executor, or a task, which Nomad tells its directory.
func belongs(env map[string]string, dir string) bool {
	return env[envStack] == dir || strings.HasPrefix(env["NOMAD_ALLOC_DIR"], dir+string(filepath.Separator))
}

// killAll kills every process with a matching environment, and those that they
// start meanwhile, and returns when none is left.
func killAll(match func(env map[string]string) bool) error {
	deadline := time.Now().Add(30 * time.Second)
	for {
		pids, err := processes(match)
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("devstack: cannot kill process %d of an ended stack: %w", pid, err)
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("devstack: processes %v of an ended stack survive SIGKILL", pids)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func alive(pid int) bool {
	return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}

// removeTree removes dir with what Nomad mounted in it. Another sweeper may be
// at the same directory.
func removeTree(dir string) error {
	if err := unmountUnder(dir); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("devstack: cannot remove the directory of an ended stack: %w", err)
	}
	return nil
}
