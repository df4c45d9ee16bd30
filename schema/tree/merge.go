package tree

// Merge lays over upon base: maps merge key by key, everything else replaces,
// and null removes what lies below. Keys named in patches hold merge patches
// (RFC 7396) for a later document, so nulls inside them are kept. What over
// brings is marked with layer. Neither argument is changed.
func Merge(base, over *Node, layer string, patches ...string) *Node {
	if over == nil {
		return base
	}
	return merge(base, over, layer, patches, false)
}

func merge(base, over *Node, layer string, patches []string, keep bool) *Node {
	if over.Kind != Map {
		return mark(over, layer)
	}
	out := NewMap(over.At)
	out.Layer = layer
	if base != nil && base.Kind == Map {
		out.Grow(len(base.Keys) + len(over.Keys))
		out.Keys, out.Items = append(out.Keys, base.Keys...), append(out.Items, base.Items...)
		out.index()
	} else {
		out.Grow(len(over.Keys))
	}
	for k, v := range over.Entries() {
		if v.Kind == Null && !keep {
			out.Delete(k)
			continue
		}
		below := out.Get(k)
		if below == nil && v.Kind != Map {
			out.Set(k, mark(v, layer))
			continue
		}
		nested := keep
		for _, p := range patches {
			nested = nested || p == k
		}
		out.Set(k, merge(below, v, layer, nil, nested))
	}
	return out
}

func mark(n *Node, layer string) *Node {
	if n.Layer == layer {
		return n
	}
	c := *n
	c.Layer = layer
	return &c
}
