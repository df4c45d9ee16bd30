package render

import (
	"encoding/json"
	"errors"
	"fmt"

	"locktide.dev/render/wire"
	"locktide.dev/schema"
)

// AppendAnswer appends an answer to b, for another process.
func AppendAnswer(b []byte, a Answer) []byte {
	w := wire.NewWriter(b)
	found := []byte(nil)
	if len(a.Found) > 0 {
		found = schema.MustCanonical(a.Found)
	}
	w.Blob(found)
	w.Flag(a.Library)
	w.Texts(a.Reads)
	w.Nodes(a.Roots)
	return w.Bytes()
}

// ReadAnswer reads an answer that fills b.
func ReadAnswer(b []byte) (a Answer, err error) {
	r := wire.NewReader(b)
	if found := r.Blob(); len(found) > 0 {
		if err := json.Unmarshal(found, &a.Found); err != nil {
			return Answer{}, fmt.Errorf("cannot read an answer: findings: %w", err)
		}
	}
	a.Library = r.Flag()
	a.Reads = r.Texts()
	a.Roots = r.Nodes()
	if err := r.End(); err != nil {
		return Answer{}, fmt.Errorf("cannot read an answer: %w", err)
	}
	return a, nil
}

// AppendUnit appends a kept unit to b.
func AppendUnit(b []byte, k KeptUnit) []byte {
	w := wire.NewWriter(b)
	w.Text(k.Task.Name)
	w.Text(k.Task.Package)
	w.Texts(k.Task.Files)
	w.Texts(k.Hashes)
	w.Texts(k.Reads)
	w.Text(k.Stamp)
	w.Flag(k.Library)
	w.Blob(k.Roots)
	w.Number(uint64(len(k.Defs)))
	for _, d := range k.Defs {
		w.Text(string(d.Ref))
		w.Position(d.At)
		w.Blob(d.Value)
	}
	return w.Bytes()
}

// ReadUnit reads a kept unit that fills b, and shares its bytes.
func ReadUnit(b []byte) (k KeptUnit, err error) {
	r := wire.NewReader(b)
	k.Task = Task{Name: r.Text(), Package: r.Text(), Files: r.Texts()}
	k.Hashes, k.Reads, k.Stamp = r.Texts(), r.Texts(), r.Text()
	k.Library = r.Flag()
	if roots := r.Blob(); len(roots) > 0 {
		k.Roots = roots
	}
	for range r.Count() {
		k.Defs = append(k.Defs, KeptDef{schema.Ref(r.Text()), r.Position(), r.Blob()})
	}
	err = r.End()
	if err == nil && (len(k.Task.Files) == 0 || k.Task.Name == "" || len(k.Hashes) != len(k.Task.Files)) {
		err = errors.New("a task has no files")
	}
	if err != nil {
		return KeptUnit{}, fmt.Errorf("cannot read a kept unit: %w", err)
	}
	return k, nil
}

// AppendDefinition appends a kept definition to b.
func AppendDefinition(b []byte, k KeptDefinition) []byte {
	w := wire.NewWriter(b)
	w.Text(string(k.Ref))
	w.Text(k.Stamp)
	w.Number(uint64(len(k.Outputs)))
	for _, o := range k.Outputs {
		w.Text(string(o.Ref))
		w.Position(o.At)
		w.Text(o.Unit)
		w.Text(o.Place)
		w.Texts(o.After)
		w.Blob(o.Value)
	}
	return w.Bytes()
}

// ReadDefinition reads a kept definition that fills b, and shares its bytes.
func ReadDefinition(b []byte) (k KeptDefinition, err error) {
	r := wire.NewReader(b)
	k.Ref, k.Stamp = schema.Ref(r.Text()), r.Text()
	for range r.Count() {
		k.Outputs = append(k.Outputs, KeptOutput{schema.Ref(r.Text()), r.Position(), r.Text(), r.Text(), r.Texts(), r.Blob()})
	}
	if err := r.End(); err != nil {
		return KeptDefinition{}, fmt.Errorf("cannot read a kept definition: %w", err)
	}
	return k, nil
}
