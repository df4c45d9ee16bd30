package app

import (
	"context"
	"fmt"
	"os"
	"time"

	"locktide.dev/reconciler"
)

// folderSource gives a folder as the only revision, for plan and apply.
type folderSource struct{ folder string }

// fixed gives one revision.
type fixed struct{ revision reconciler.Revision }

// Latest implements reconciler.Source.
func (f fixed) Latest(context.Context) (reconciler.Revision, error) { return f.revision, nil }

// Latest implements reconciler.Source. The commit is the digest of the files.
func (s folderSource) Latest(context.Context) (reconciler.Revision, error) {
	if info, err := os.Stat(s.folder); err != nil || !info.IsDir() {
		return reconciler.Revision{}, fmt.Errorf("there is no folder %s", s.folder)
	}
	tree := os.DirFS(s.folder)
	id, err := digestOf(tree)
	if err != nil {
		return reconciler.Revision{}, err
	}
	return reconciler.Revision{Commit: id, Author: "local folder", Subject: s.folder, At: time.Now(), Tree: tree, FastForward: true}, nil
}
