package reconciler

import (
	"regexp"

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

// pullRequest gives the pull request that a commit's subject names, or "".
func pullRequest(subject string) string {
	for _, form := range pullForms {
		if m := form.FindStringSubmatch(subject); m != nil {
			if m[1][0] >= '0' && m[1][0] <= '9' {
				return "#" + m[1]
			}
			return m[1]
		}
	}
	return ""
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
