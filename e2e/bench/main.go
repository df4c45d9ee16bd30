// Command bench measures Locktide and prints a table: the pure parts, the
// engine on a backend in memory, and the engine on a real Nomad beside the same
// register calls made by a plain HTTP client in the same run. It ends with a
// status other than 0 when something did not converge before its deadline.
//
//	go run ./e2e/bench [-groups 100] [-engine memory,nomad] [-only regexp]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// part is one section of the table.
type part struct {
	name   string
	engine string // that it needs; empty: none
	run    func(ctx context.Context, dir string, t *table) error
}

func parts(groups int) []part {
	var out []part
	for _, n := range []int{100, 1000} {
		out = append(out, part{fmt.Sprintf("pure/%d", n), "", func(ctx context.Context, _ string, t *table) error { return pure(ctx, n, t) }})
	}
	for _, n := range []int{100, 1000} {
		out = append(out, part{fmt.Sprintf("memory/%d", n), "memory", func(ctx context.Context, dir string, t *table) error { return onMemory(ctx, dir, n, t) }})
	}
	return append(out, part{fmt.Sprintf("nomad/%d", groups), "nomad", func(ctx context.Context, dir string, t *table) error { return onNomad(ctx, dir, groups, t) }})
}

func main() {
	groups := flag.Int("groups", 100, "groups on the real Nomad")
	engines := flag.String("engine", "memory,nomad", "engines to measure, comma-separated")
	only := flag.String("only", "", "regular expression of parts to run, such as pure or memory/100")
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if err := run(ctx, *groups, *engines, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, groups int, engines, only string) error {
	if groups < 1 || groups > 1000 {
		return fmt.Errorf("-groups %d: want 1 to 1000", groups)
	}
	chosen, err := regexp.Compile(only)
	if err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	fmt.Printf("%s, %s %s/%s, %d processors\n", time.Now().UTC().Format("2006-01-02 15:04 MST"), runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	var failed []error
	ran := 0
	for _, p := range parts(groups) {
		if !chosen.MatchString(p.name) || (p.engine != "" && !slices.Contains(strings.Split(engines, ","), p.engine)) {
			continue
		}
		ran++
		fmt.Printf("\n%s\n", p.name)
		if err := one(ctx, p); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", p.name, err))
		}
	}
	if ran == 0 {
		return errors.New("no part was chosen")
	}
	return errors.Join(failed...)
}

// one runs a part in a directory of its own and prints what it measured.
func one(ctx context.Context, p part) (err error) {
	dir, err := os.MkdirTemp("", "locktide-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	var t table
	err = p.run(ctx, dir, &t)
	return errors.Join(err, t.print(os.Stdout))
}
