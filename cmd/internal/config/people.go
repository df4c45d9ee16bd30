package config

import (
	"fmt"
	"regexp"
)

// Person is somebody with an API token of their own.
type Person struct {
	TokenFile string   `yaml:"token_file"`
	Roles     []string `yaml:"roles"`  // as stages name them in approve
	Emails    []string `yaml:"emails"` // that their commits bear
	Teams     []string `yaml:"teams"`  // whose objects alone they may command; none: all
}

var personName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)

// people checks that each has a token that no other has.
func (c *Config) people() error {
	taken := map[string]string{}
	for _, name := range sorted(c.People) {
		p := c.People[name]
		switch other, twice := taken[p.TokenFile]; {
		case !personName.MatchString(name):
			return fmt.Errorf("people.%s: want a name of a-z, 0-9, '.', '_' and '-'", name)
		case p.TokenFile == "":
			return fmt.Errorf("people.%s.token_file: missing: a file of mode 0600 that holds a random word of theirs", name)
		case p.TokenFile == c.TokenFile:
			return fmt.Errorf("people.%s.token_file: it is the daemon's own: write a token of theirs", name)
		case twice:
			return fmt.Errorf("people.%s.token_file: it is that of %s", name, other)
		}
		taken[p.TokenFile] = name
	}
	return nil
}
