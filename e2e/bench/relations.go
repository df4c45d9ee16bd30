package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// related has the daemon's own benchmark ask a full fleet's relations over its
// API, on one core, the clients included, while commits arrive.
func related(ctx context.Context, t *table) error {
	cmd := exec.CommandContext(ctx, "go", "test", "./cmd/internal/app", "-run", "^$", "-bench", "^BenchmarkRelations$", "-benchtime", "1x")
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("go test: %w: %s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] != "BenchmarkRelations" {
			continue
		}
		for i := 4; i+1 < len(fields); i += 2 {
			t.add("relations: "+fields[i+1], fields[i], "5,000 apps, 10,000 hosts, 50,000 members; aim 10,000 queries a minute, p99 50 ms")
		}
		return nil
	}
	return fmt.Errorf("go test measured nothing: %s", out)
}
