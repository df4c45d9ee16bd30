package foreign

import (
	"maps"
	"path/filepath"
	"slices"
	"strconv"

	crossplane "github.com/nginxinc/nginx-go-crossplane"
)

// circle gives the FILE:LINE of an include that leads back to its own file.
func (f *files) circle(dir string) string {
	type include struct{ at, of string }
	all := map[string][]include{}
	for _, path := range slices.Sorted(maps.Keys(f.seen)) {
		one, err := crossplane.Parse(path, &crossplane.ParseOptions{SingleFile: true, CombineConfigs: true, SkipDirectiveContextCheck: true, Open: f.open, Glob: f.glob})
		if err != nil || len(one.Config) == 0 {
			continue
		}
		walk(one.Config[0].Parsed, func(d *crossplane.Directive) {
			if d.Directive != "include" || len(d.Args) == 0 {
				return
			}
			pattern := d.Args[0]
			if !filepath.IsAbs(pattern) {
				pattern = filepath.Join(dir, pattern)
			}
			found, err := f.glob(pattern)
			if err != nil {
				return
			}
			for _, name := range found {
				all[path] = append(all[path], include{path + ":" + strconv.Itoa(d.Line), name})
			}
		})
	}
	const open, done = 1, 2
	state := map[string]int{}
	var visit func(path string) string
	visit = func(path string) string {
		state[path] = open
		for _, i := range all[path] {
			if state[i.of] == open {
				return i.at
			}
			if state[i.of] == 0 {
				if where := visit(i.of); where != "" {
					return where
				}
			}
		}
		state[path] = done
		return ""
	}
	for _, path := range slices.Sorted(maps.Keys(all)) {
		if state[path] == 0 {
			if where := visit(path); where != "" {
				return where
			}
		}
	}
	return ""
}

func walk(block crossplane.Directives, each func(*crossplane.Directive)) {
	for _, d := range block {
		each(d)
		walk(d.Block, each)
	}
}
