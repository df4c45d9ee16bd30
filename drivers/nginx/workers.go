package nginx

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// workers gives the process ids of a master's children; none where the system
// does not tell.
func workers(master int) []int {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%[1]d/task/%[1]d/children", master))
	if err != nil {
		return nil
	}
	var out []int
	for field := range strings.FieldsSeq(string(raw)) {
		if pid, err := strconv.Atoi(field); err == nil {
			out = append(out, pid)
		}
	}
	return out
}

// retire waits until every one of these workers is gone or says in its title
// that it shuts down, which it does just before it stops accepting; then a
// grace, which is all there is where the system does not tell.
func retire(ctx context.Context, old []int) error {
	for _, pid := range old {
		for accepts(pid) {
			if err := sleep(ctx, 5*time.Millisecond); err != nil {
				return fmt.Errorf("worker %d of the generation before still accepts: %w", pid, err)
			}
		}
	}
	return sleep(ctx, workerGrace)
}

func accepts(pid int) bool {
	title, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && bytes.Contains(title, []byte("worker process")) && !bytes.Contains(title, []byte("shutting down"))
}
