package devstack

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// dieWithParent makes the kernel kill the child when the thread that starts it ends.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

// processes returns the ids of the other processes with a matching environment.
// One that ends meanwhile, is a zombie, or belongs to another user has none.
func processes(match func(env map[string]string) bool) ([]int, error) {
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("devstack: cannot list processes: %w", err)
	}
	var pids []int
	for _, dir := range dirs {
		pid, err := strconv.Atoi(dir.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		text, err := os.ReadFile(filepath.Join("/proc", dir.Name(), "environ"))
		if err != nil {
			continue
		}
		env := make(map[string]string)
		for _, pair := range bytes.Split(text, []byte{0}) {
			name, value, _ := strings.Cut(string(pair), "=")
			env[name] = value
		}
		if match(env) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// unmountUnder detaches the file systems mounted below dir, such as the secrets
// directories of Nomad's tasks.
func unmountUnder(dir string) error {
	text, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return fmt.Errorf("devstack: cannot list mounts: %w", err)
	}
	var errs []error
	for _, line := range strings.Split(string(text), "\n") {
		fields := strings.Fields(line)
		if len(fields) < 2 || !strings.HasPrefix(fields[1], dir+"/") {
			continue
		}
		err := syscall.Unmount(fields[1], 2) // MNT_DETACH
		if err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOENT) {
			errs = append(errs, fmt.Errorf("devstack: cannot unmount %s: %w", fields[1], err))
		}
	}
	return errors.Join(errs...)
}
