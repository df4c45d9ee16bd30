package schema

import "strings"

// Match says whether s fits pattern, in which * stands for any characters. It
// takes at most len(pattern) x len(s) steps, whatever the pattern.
func Match(pattern, s string) bool {
	p, i := 0, 0
	star, from := -1, 0 // the last * and what it has taken so far
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, from = p, i
			p++
		case p < len(pattern) && pattern[p] == s[i]:
			p++
			i++
		case star >= 0:
			from++
			p, i = star+1, from
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}
