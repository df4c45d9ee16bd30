package reconciler

import (
	"regexp"
	"strings"

	"locktide.dev/schema"
)

// pullForms are how forges write a pull request into the subject of the
// commit by which it is merged: GitHub, Gitea and Forgejo, squashed ones,
// Bitbucket, Azure DevOps, GitLab.
var pullForms = []*regexp.Regexp{
	regexp.MustCompile(`^Merge pull request (#[0-9]+) from `),
	regexp.MustCompile(`^Merge pull request '.*' \((#[0-9]+)\) from `),
	regexp.MustCompile(`\(pull request (#[0-9]+)\)$`),
	regexp.MustCompile(`^Merged PR ([0-9]+): `),
	regexp.MustCompile(`\(([#!][0-9]+)\)$`),
}

// bodyForms are how forges and their users name it below the subject, each on
// a line of its own: GitLab's merges, trailers (Gitea, Forgejo, Node.js).
var bodyForms = []*regexp.Regexp{
	regexp.MustCompile(`(?m)^See merge request \S*(![0-9]+)\s*$`),
	regexp.MustCompile(`(?mi)^(?:pull-request|merge-request|pr-url|pr|reviewed-on):\s*\S*?([#!][0-9]+|(?:pull|pulls|pull-requests|merge_requests)/[0-9]+)\s*$`),
	regexp.MustCompile(`(?m)\(([#!][0-9]+)\)\s*$`),
}

// pullRequest gives the pull request that a commit's message names, or "". A
// body that names several tells nothing.
func pullRequest(subject, body string) string {
	for _, form := range pullForms {
		if m := form.FindStringSubmatch(subject); m != nil {
			return pullNumber(m[1])
		}
	}
	for _, form := range bodyForms {
		found := map[string]bool{}
		for _, m := range form.FindAllStringSubmatch(body, -1) {
			found[pullNumber(m[1])] = true
		}
		if len(found) > 0 {
			return only(found)
		}
	}
	return ""
}

// only gives the element of a set of one, or "".
func only(set map[string]bool) string {
	if len(set) != 1 {
		return ""
	}
	for s := range set {
		return s
	}
	return ""
}

// pullNumber writes a number as the forge does: GitLab !12, others #12.
func pullNumber(s string) string {
	if strings.HasPrefix(s, "#") || strings.HasPrefix(s, "!") {
		return s
	}
	mark := "#"
	if strings.HasPrefix(s, "merge_requests/") {
		mark = "!"
	}
	return mark + s[strings.LastIndexByte(s, '/')+1:]
}

// UnknownWriter stands for the author of a change of which nobody is known.
const UnknownWriter = "unknown writer"

// attributed gives entries in which every change that came with a commit says
// its author and pull request, and every other one who wrote it.
func attributed(all []schema.HistoryEntry) []schema.HistoryEntry {
	commits := map[string]schema.HistoryEntry{}
	for _, h := range all {
		if h.Commit != "" && h.Author != "" && (h.Pull != "" || commits[h.Commit].Commit == "") {
			commits[h.Commit] = h
		}
	}
	out := make([]schema.HistoryEntry, len(all))
	for i, h := range all {
		if c, ok := commits[h.Commit]; ok && h.Commit != "" {
			h.Author, h.Pull = orElse(h.Author, c.Author), orElse(h.Pull, c.Pull)
		}
		if h.Writer == "foreign" && h.Author == "" || h.Writer == "" {
			h.Author = UnknownWriter
		}
		out[i] = h
	}
	return out
}
