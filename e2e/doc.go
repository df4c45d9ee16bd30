// Package e2e holds the black box tests: the real binary, `locktide serve`, on
// real Nomad, Consul, nginx and Git. It has no code of its own.
package e2e
