// Command locktide reconciles a fleet on Nomad, Consul and nginx with the
// definitions in a Git repository.
package main

import (
	"context"
	"os"

	"locktide.dev/cmd/internal/app"
)

// version is set by the build (-ldflags "-X main.version=...").
var version = "devel"

func main() {
	os.Exit(app.Main(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr, version))
}
