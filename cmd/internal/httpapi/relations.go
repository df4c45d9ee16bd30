package httpapi

import (
	"errors"
	"net/http"
	"strings"

	"locktide.dev/reconciler/relations"
	"locktide.dev/schema"
)

// relations answers from memory: the names of a kind, an object with how much
// is related to it, or, with to=KIND or a role, what is.
func (a *api) relations(w http.ResponseWriter, req *http.Request) {
	index, ref, to := a.Fleet.Relations(), req.PathValue("ref"), req.URL.Query().Get("to")
	var out any
	var err error
	switch {
	case to != "":
		out, err = index.Related(schema.Ref(ref), to)
	case strings.Contains(ref, "/"):
		out, err = index.Overview(schema.Ref(ref))
	default:
		if out, err = index.Names(ref); err != nil {
			if overview, known := index.Overview(schema.Ref(ref)); known == nil { // an app's bare name
				out, err = overview, nil
			}
		}
	}
	if err != nil {
		unknown(w, err)
		return
	}
	answer(w, out)
}

// unknown answers that a query names nothing.
func unknown(w http.ResponseWriter, err error) {
	f := schema.Failure{Kind: schema.FailInvalid, Message: err.Error()}
	var u *relations.Unknown
	if errors.As(err, &u) {
		f.Next = u.Next
	}
	fail(w, http.StatusNotFound, f)
}
