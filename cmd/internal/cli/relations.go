package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"locktide.dev/reconciler/relations"
	"locktide.dev/schema"
)

// ask reads what the daemon knows of relations.
func (s *shared) ask(ctx context.Context, ref, to string, out any) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	parts := strings.Split(ref, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	query := url.Values{}
	if to != "" {
		query.Set("to", to)
	}
	return c.get(ctx, "/v1/relations/"+strings.Join(parts, "/"), query, out)
}

// related lists the objects of a kind, or in a role, that belong to ref.
func (s *shared) related(ctx context.Context, ref, to string) error {
	var a relations.Answer
	if err := s.ask(ctx, ref, to, &a); err != nil {
		return err
	}
	if s.wantsJSON() {
		return s.json(a)
	}
	if len(a.Found) == 0 {
		fmt.Fprintf(s.Out, "%s has no %s\n", a.Of, a.To)
	}
	s.list(a.Found)
	return nil
}

func (s *shared) list(refs []schema.Ref) {
	for _, ref := range refs {
		fmt.Fprintln(s.Out, ref)
	}
}

// overview shows the names of a kind, or how much is related to an object.
func (s *shared) overview(ctx context.Context, ref string) error {
	var raw json.RawMessage
	if err := s.ask(ctx, ref, "", &raw); err != nil {
		return err
	}
	if s.wantsJSON() {
		return s.json(raw)
	}
	var names []schema.Ref
	if json.Unmarshal(raw, &names) == nil {
		s.list(names)
		return nil
	}
	var o relations.Overview
	if err := json.Unmarshal(raw, &o); err != nil {
		return fmt.Errorf("cannot read the daemon's answer: %w", err)
	}
	fmt.Fprint(s.Out, s.paint(bold, string(o.Of)))
	if o.Owner != "" {
		fmt.Fprintf(s.Out, "  owner %s", o.Owner)
	}
	if o.Contact != "" {
		fmt.Fprintf(s.Out, ", contact %s", o.Contact)
	}
	if o.Defined.File != "" {
		fmt.Fprintf(s.Out, "  (%s)", o.Defined)
	}
	fmt.Fprintln(s.Out)
	rows := [][]string{{"RELATED", "COUNT", "LIST"}}
	for _, to := range slices.Concat(relations.Kinds, relations.Roles) {
		if n := o.Counts[to]; n > 0 {
			rows = append(rows, []string{to, strconv.Itoa(n), fmt.Sprintf("locktide get %s %s", o.Of, to)})
		}
	}
	s.table(rows)
	return nil
}
