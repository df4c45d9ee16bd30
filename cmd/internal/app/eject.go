package app

import (
	"context"
	"os"
	"strings"

	"locktide.dev/cmd/internal/cli"
	"locktide.dev/drivers/nomad"
	"locktide.dev/schema"
)

// Eject implements cli.Engine.
func (*engine) Eject(ctx context.Context, o cli.EjectOptions) (string, error) {
	address := o.Address
	if address == "" {
		address = os.Getenv("NOMAD_ADDR")
	}
	if address == "" {
		address = "http://127.0.0.1:4646"
	}
	job := strings.NewReplacer(".", "--", "/", "--").Replace(strings.TrimPrefix(o.Target, "groups/"))
	if ns := o.Namespace; ns != "" && ns != "default" {
		job += "@" + ns
	}
	d, err := nomad.Config{Name: "eject", Address: address, TokenFile: o.TokenFile, Owner: o.Owner}.Open(ctx, nomad.Options{})
	if err != nil {
		return "", err
	}
	if err := d.Eject(ctx, schema.Key{Kind: nomad.KindJob, Instance: "eject", Name: job}); err != nil {
		return "", cli.Fail("name the group or its Nomad job id, the fleet with --owner, and Nomad with --nomad or NOMAD_ADDR", "%v", err)
	}
	return job + " is yours: its own update and restart blocks are back, nothing was restarted.\nTo give it back: locktide adopt " + o.Target, nil
}
