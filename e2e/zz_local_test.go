package e2e

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

func init() {
	for fd := 3; fd < 30; fd++ {
		if to, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); err == nil && to == "/tmp/servers.lock" {
			syscall.CloseOnExec(fd)
		}
	}
	if b, err := os.ReadFile("/tmp/e2e.run"); err == nil {
		for i, a := range os.Args {
			if strings.HasPrefix(a, "-test.run") {
				os.Args[i] = "-test.run=" + strings.TrimSpace(string(b))
			}
			if strings.HasPrefix(a, "-test.timeout") {
				os.Args[i] = "-test.timeout=560s"
			}
		}
	}
}
