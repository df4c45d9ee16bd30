// Command bench measures Locktide and prints a table: the pure parts, the
// engine on a backend in memory, and the engine on a real Nomad in turns with a
// plain HTTP client that makes the same calls. It ends with a status other than
// 0 when something did not converge before its deadline or wrote at rest.
//
//	go run ./e2e/bench [-groups 100,1000] [-rounds 3] [-engine memory,nomad] [-only regexp] [-cpuprofile file] [-memprofile file]
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
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"locktide.dev/fixtures"
	"locktide.dev/reconciler/footprint"
	"locktide.dev/render/worker"
)

// part is one section of the table.
type part struct {
	name   string
	engine string // that it needs; empty: none
	run    func(ctx context.Context, dir string, t *table) error
}

func parts(groups []int, rounds int) []part {
	var out []part
	for _, n := range []int{100, 1000} {
		out = append(out, part{fmt.Sprintf("pure/%d", n), "", func(ctx context.Context, _ string, t *table) error { return pure(ctx, n, t) }})
	}
	for _, size := range []fixtures.Synthetic{{Apps: 500, Members: 5, Hosts: 1000, Teams: 50}, fixtures.FullSize} {
		out = append(out, part{fmt.Sprintf("definitions/%d", size.Apps), "", func(ctx context.Context, dir string, t *table) error { return synthetic(ctx, dir, size, t) }})
		out = append(out, part{fmt.Sprintf("commits/%d", size.Apps), "memory", func(ctx context.Context, dir string, t *table) error {
			size.Members = 1
			return commits(ctx, dir, size, t)
		}})
	}
	for _, size := range []fixtures.Synthetic{{Apps: 500, Members: 5, Hosts: 1000, Teams: 50}, fixtures.FullSize} {
		out = append(out, part{fmt.Sprintf("policy/%d", size.Apps), "", func(ctx context.Context, _ string, t *table) error { return policies(ctx, size, t) }})
	}
	for _, n := range []int{1000, 10_000} {
		out = append(out, part{fmt.Sprintf("drift/%d", n), "", func(ctx context.Context, dir string, t *table) error { return drift(ctx, dir, n, t) }})
	}
	out = append(out, part{"relations/5000", "", func(ctx context.Context, _ string, t *table) error { return related(ctx, t) }})
	for _, n := range []int{100, 1000, 10_000} {
		out = append(out, part{fmt.Sprintf("memory/%d", n), "memory", func(ctx context.Context, dir string, t *table) error { return onMemory(ctx, dir, n, t) }})
	}
	for _, n := range []int{100, 1000, 10_000} {
		out = append(out, part{fmt.Sprintf("overhead/%d", n), "memory", func(ctx context.Context, dir string, t *table) error { return overhead(ctx, dir, n, t) }})
	}
	for _, n := range groups {
		out = append(out, part{fmt.Sprintf("nomad/%d", n), "nomad", func(ctx context.Context, dir string, t *table) error { return onNomad(ctx, dir, n, rounds, t) }})
	}
	return out
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == worker.Command { // a child that evaluates definitions
		if err := worker.Serve(os.Stdin, os.Stdout, nil); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	footprint.Bound(context.Background()) // as the daemon does
	if len(os.Args) == 5 && os.Args[1] == restartCommand {
		if err := measureRestart(context.Background(), os.Args[2], os.Args[3], os.Args[4]); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	groups := flag.String("groups", "100,1000", "groups on the real Nomad, comma-separated")
	rounds := flag.Int("rounds", 3, "rounds on the real Nomad, each on fresh servers")
	engines := flag.String("engine", "memory,nomad", "engines to measure, comma-separated")
	only := flag.String("only", "", "regular expression of parts to run, such as pure or memory/100")
	profile := flag.String("cpuprofile", "", "file for a profile of this process's CPU time")
	allocations := flag.String("memprofile", "", "file for a profile of what this process allocates (go tool pprof -sample_index=alloc_space)")
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	err := profiled(*profile, *allocations, func() error { return run(ctx, *groups, *rounds, *engines, *only) })
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// profiled runs f and writes profiles of its CPU time and of what it allocates
// to the files that are named.
func profiled(processor, allocations string, f func() error) (err error) {
	if processor != "" {
		file, err := os.Create(processor)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		if err := pprof.StartCPUProfile(file); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	if allocations == "" {
		return f()
	}
	file, err := os.Create(allocations)
	if err != nil {
		return err
	}
	return errors.Join(f(), pprof.Lookup("allocs").WriteTo(file, 0), file.Close())
}

func run(ctx context.Context, groups string, rounds int, engines, only string) error {
	var sizes []int
	for _, text := range strings.Split(groups, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 1000 {
			return fmt.Errorf("-groups %s: want numbers from 1 to 1000", groups)
		}
		sizes = append(sizes, n)
	}
	if rounds < 1 {
		return fmt.Errorf("-rounds %d: want at least 1", rounds)
	}
	chosen, err := regexp.Compile(only)
	if err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	fmt.Printf("%s, %s %s/%s, %d processors\n", time.Now().UTC().Format("2006-01-02 15:04 MST"), runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	var failed []error
	ran := 0
	for _, p := range parts(sizes, rounds) {
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
