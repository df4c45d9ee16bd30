package app

import (
	"context"

	"locktide.dev/cmd/internal/cli"
	"locktide.dev/drivers/nomad"
)

// Eject implements cli.Engine.
func (*engine) Eject(ctx context.Context, o cli.EjectOptions) (string, error) {
	return nomad.Eject(ctx, nomad.EjectOptions{Target: o.Target, Address: o.Address, Namespace: o.Namespace, TokenFile: o.TokenFile})
}
