// Package plain reads definitions in YAML and JSON.
package plain

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"locktide.dev/render/source"
	"locktide.dev/schema"
	"locktide.dev/schema/tree"
)

// Parse reads a .json, .yaml or .yml file: one value per YAML document.
func Parse(file string, src []byte) ([]*tree.Node, *tree.Error) {
	if strings.HasSuffix(file, ".json") {
		n, err := tree.ParseJSON(file, src)
		if err != nil {
			return nil, err
		}
		return []*tree.Node{n}, nil
	}
	dec := yaml.NewDecoder(bytes.NewReader(src))
	c := &converter{file: file}
	var out []*tree.Node
	for {
		var doc yaml.Node
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, syntax(file, err)
		}
		if len(doc.Content) == 0 || doc.Content[0].Tag == "!!null" {
			continue
		}
		n, fault := c.convert(doc.Content[0], 0)
		if fault != nil {
			return nil, fault
		}
		out = append(out, n)
	}
}

func syntax(file string, err error) *tree.Error {
	e := &tree.Error{At: schema.Position{File: file}, Code: "syntax", Message: strings.TrimPrefix(err.Error(), "yaml: ")}
	if m := regexp.MustCompile(`line (\d+)`).FindStringSubmatch(err.Error()); m != nil {
		if line, err := strconv.Atoi(m[1]); err == nil {
			e.At.Line = line
		}
	}
	return e
}

type converter struct {
	file  string
	nodes int
}

func (c *converter) at(y *yaml.Node) schema.Position {
	return schema.Position{File: c.file, Line: y.Line, Column: y.Column}
}

func (c *converter) fail(y *yaml.Node, code, format string, args ...any) *tree.Error {
	return &tree.Error{At: c.at(y), Code: code, Message: fmt.Sprintf(format, args...)}
}

func (c *converter) convert(y *yaml.Node, depth int) (*tree.Node, *tree.Error) {
	if c.nodes++; c.nodes > source.MaxNodes {
		return nil, c.fail(y, "too-big", "more than %d values after aliases: an alias bomb?", source.MaxNodes)
	}
	if depth > tree.MaxDepth {
		return nil, c.fail(y, "too-deep", "nested deeper than %d levels, or an alias that contains itself", tree.MaxDepth)
	}
	switch y.Kind {
	case yaml.AliasNode:
		return c.convert(y.Alias, depth+1)
	case yaml.SequenceNode:
		n := &tree.Node{Kind: tree.List, At: c.at(y)}
		for _, item := range y.Content {
			v, err := c.convert(item, depth+1)
			if err != nil {
				return nil, err
			}
			n.Items = append(n.Items, v)
		}
		return n, nil
	case yaml.MappingNode:
		return c.mapping(y, depth)
	}
	return c.scalar(y)
}

func (c *converter) scalar(y *yaml.Node) (*tree.Node, *tree.Error) {
	at := c.at(y)
	switch y.ShortTag() {
	case "!!null":
		return &tree.Node{Kind: tree.Null, At: at}, nil
	case "!!bool":
		return tree.NewBool(strings.EqualFold(y.Value, "true"), at), nil
	case "!!int":
		var i int64
		if err := y.Decode(&i); err != nil {
			return nil, c.fail(y, "type", "number %.40s is out of range", y.Value)
		}
		n, _ := tree.NewNumber(strconv.FormatInt(i, 10), at)
		return n, nil
	case "!!float":
		var f float64
		if err := y.Decode(&f); err == nil {
			if n, ok := tree.NewNumber(strconv.FormatFloat(f, 'g', -1, 64), at); ok {
				return n, nil
			}
		}
		return nil, c.fail(y, "type", "number %.40s cannot be used", y.Value)
	case "!!str", "!!timestamp":
		return tree.NewString(y.Value, at), nil
	}
	return nil, c.fail(y, "type", "tag %.40s is refused: write plain data", y.Tag)
}

func (c *converter) mapping(y *yaml.Node, depth int) (*tree.Node, *tree.Error) {
	n := tree.NewMap(c.at(y))
	var below []*yaml.Node
	for i := 0; i+1 < len(y.Content); i += 2 {
		k, v := y.Content[i], y.Content[i+1]
		if k.ShortTag() == "!!merge" {
			if v.Kind == yaml.SequenceNode {
				below = append(below, v.Content...)
			} else {
				below = append(below, v)
			}
			continue
		}
		if k.Kind != yaml.ScalarNode {
			return nil, c.fail(k, "syntax", "a key must be a plain word")
		}
		if old := n.Get(k.Value); old != nil {
			e := c.fail(k, "duplicate-key", "key %q is written twice, first at %s", k.Value, old.At)
			e.Related = []schema.Position{old.At}
			return nil, e
		}
		value, err := c.convert(v, depth+1)
		if err != nil {
			return nil, err
		}
		if value.Kind == tree.Map || value.Kind == tree.List {
			value.At = c.at(k)
		}
		n.Set(k.Value, value)
	}
	for _, m := range below {
		value, err := c.convert(m, depth+1)
		if err != nil {
			return nil, err
		}
		if value.Kind != tree.Map {
			return nil, c.fail(m, "syntax", "merge key wants a map")
		}
		for k, v := range value.Entries() {
			if n.Get(k) == nil {
				n.Set(k, v)
			}
		}
	}
	return n, nil
}
