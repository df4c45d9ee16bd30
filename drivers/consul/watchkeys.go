package consul

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/hashicorp/consul/api"

	"locktide.dev/schema"
)

// keyRoots is how many folders at the top of KV hold a blocking query each for
// the raw keys in them. Where there are more, all are asked every two seconds.
const keyRoots = 8

// keyWatch follows raw keys and their marks, wherever they lie. Consul tells
// for any prefix when something under it was last written, without the values:
// what was not written is not read again. A change costs the prefixes on the
// way to it, and the reading of the few keys that lie beside it.
type keyWatch struct {
	d     *Driver
	names []string              // that have a mark, sorted
	seen  map[string]uint64     // when prefixes were last written, as they were last asked
	last  map[schema.Key]string // the picture
	roots []string              // prefixes that hold all keys and marks, the marks' own first
	under map[string][]string   // keys and marks under each of them, sorted
}

func (d *Driver) newKeyWatch() *keyWatch {
	k := &keyWatch{d: d, seen: map[string]uint64{}, last: map[schema.Key]string{}}
	k.arrange(nil)
	return k
}

func (k *keyWatch) marks() string { return k.d.config.Prefix + "/" + keyMarks }

// arrange takes the names of the keys to follow. Roots are the folders at the
// top of KV that hold some; where there are many, all of KV is one.
func (k *keyWatch) arrange(names []string) {
	k.names, k.roots, k.under = names, []string{k.marks()}, map[string][]string{}
	tops := map[string][]string{}
	for _, name := range names {
		top, _, _ := strings.Cut(name, "/")
		tops[top] = append(tops[top], name)
		k.under[k.marks()] = append(k.under[k.marks()], k.marks()+name)
	}
	if len(tops) > keyRoots {
		k.roots, k.under[""] = append(k.roots, ""), names
		return
	}
	for _, top := range sortedKeys(tops) {
		root := common(tops[top])
		k.roots, k.under[root] = append(k.roots, root), tops[top]
	}
}

// read waits until something may have been written, and gives the picture.
func (k *keyWatch) read(opts *api.QueryOptions) (map[schema.Key]string, *api.QueryMeta, error) {
	meta := &api.QueryMeta{KnownLeader: true}
	ctx := opts.Context()
	if err := k.wait(ctx); err != nil {
		return nil, meta, err
	}
	if len(k.seen) > 1000+4*len(k.names) { // most are of keys that are gone
		k.seen = map[string]uint64{}
	}
	moved := map[string]bool{}
	marked, err := k.written(ctx, k.marks(), 0)
	if err == nil && marked != k.seen[k.marks()] {
		err = k.list(ctx, moved)
	}
	for _, root := range k.roots {
		index := marked
		if root != k.marks() && err == nil {
			index, err = k.written(ctx, root, 0)
		}
		if err == nil {
			err = k.descend(ctx, root, index, k.under[root], moved)
		}
	}
	if err != nil {
		return nil, meta, err
	}
	read, err := k.d.rawKeys(ctx, sortedKeys(moved), false)
	if err != nil {
		return nil, meta, err
	}
	now := make(map[schema.Key]string, len(k.names))
	for _, name := range k.names {
		key := k.d.key(KindKey, name)
		if now[key] = k.last[key]; moved[name] {
			now[key] = string(read[name].version())
		}
	}
	k.last = now
	return now, meta, nil
}

// list reads which keys have a mark, and notes those that had none.
func (k *keyWatch) list(ctx context.Context, moved map[string]bool) error {
	names, err := k.d.markedKeys(ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, known := k.last[k.d.key(KindKey, name)]; !known {
			moved[name] = true
		}
	}
	k.arrange(names)
	return nil
}

// descend notes the names of keys under a prefix that may have been written,
// themselves or their marks. Index is when something under it was last written.
func (k *keyWatch) descend(ctx context.Context, prefix string, index uint64, under []string, moved map[string]bool) error {
	if index != 0 && index == k.seen[prefix] {
		return nil
	}
	k.seen[prefix] = index
	for len(under) > 0 {
		n := 1
		if rest := under[0][len(prefix):]; len(under) <= txnOps || rest == "" {
			moved[strings.TrimPrefix(under[0], k.marks())] = true
		} else {
			_, size := utf8.DecodeRuneInString(rest)
			next := under[0][:len(prefix)+size]
			if n = slices.IndexFunc(under, func(key string) bool { return !strings.HasPrefix(key, next) }); n < 0 {
				n = len(under)
			}
			below := common(under[:n])
			index, err := k.written(ctx, below, 0)
			if err == nil {
				err = k.descend(ctx, below, index, under[:n], moved)
			}
			if err != nil {
				return err
			}
		}
		under = under[n:]
	}
	return nil
}

// written gives when something under a prefix was last written, as soon as that
// is not at after; 0 when Consul does not let it be listed.
func (k *keyWatch) written(ctx context.Context, prefix string, after uint64) (uint64, error) {
	opts := k.d.read(ctx)
	opts.WaitIndex, opts.WaitTime = after, blockFor
	_, meta, err := k.d.client.KV().Keys(prefix, "/", opts)
	var status api.StatusError
	switch {
	case errors.As(err, &status) && status.Code == http.StatusForbidden:
		return 0, nil
	case err == nil && !meta.KnownLeader:
		err = errNoLeader
	}
	if err != nil {
		return 0, fmt.Errorf("cannot ask Consul KV when %s was written: %w", prefix, err)
	}
	return meta.LastIndex, nil
}

// wait returns when something was written under a root since it was last
// asked; after two seconds, when that cannot be waited for.
func (k *keyWatch) wait(ctx context.Context) error {
	blocks := true
	for _, root := range k.roots {
		blocks = blocks && root != "" && k.seen[root] != 0
	}
	switch {
	case len(k.seen) == 0:
		return nil
	case !blocks:
		return pause(ctx, pollKeys)
	}
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	woken := make(chan error, len(k.roots))
	var wg sync.WaitGroup
	for _, root := range k.roots {
		wg.Go(func() {
			_, err := k.written(waiting, root, k.seen[root])
			woken <- err
		})
	}
	err := <-woken
	cancel()
	wg.Wait()
	return err
}

// common gives what sorted keys begin with alike.
func common(keys []string) string {
	first, last := keys[0], keys[len(keys)-1]
	n := 0
	for n < len(first) && n < len(last) && first[n] == last[n] {
		n++
	}
	for n < len(first) && !utf8.RuneStart(first[n]) {
		n--
	}
	return first[:n]
}
