package nginx_test

import (
	"errors"
	"syscall"
)

func mountSmall(dir string) error { return syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m,mode=755") }

// readOnly lays a read-only view over dir, or takes it away: nginx keeps the
// logs that it has open.
func readOnly(dir string, on bool) error {
	if !on {
		return syscall.Unmount(dir, syscall.MNT_DETACH)
	}
	return errors.Join(syscall.Mount(dir, dir, "", syscall.MS_BIND, ""),
		syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_BIND|syscall.MS_RDONLY, ""))
}

func unmount(dir string) error { return syscall.Unmount(dir, syscall.MNT_DETACH) }
