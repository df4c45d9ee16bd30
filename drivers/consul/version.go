package consul

import (
	"context"
	"fmt"

	"locktide.dev/drivers/access"
)

// Versions of Consul: older than MinVersion is refused; the driver's tests
// run on TestedVersion.
const (
	MinVersion    = "1.16.0"
	TestedVersion = "1.22.3"
)

// Version gives the version of the oldest server, empty until one answered.
func (d *Driver) Version() string {
	d.versionMu.Lock()
	defer d.versionMu.Unlock()
	return d.version
}

// checkVersion reads, once, what the servers say of themselves in the catalog,
// which needs no more rights than health does. Only a version that is too old
// is an error; what else goes wrong, the reading itself tells.
func (d *Driver) checkVersion(ctx context.Context) error {
	d.versionMu.Lock()
	defer d.versionMu.Unlock()
	if d.version != "" {
		return nil
	}
	oldest := ""
	if servers, _, err := d.client.Catalog().Service("consul", "", d.read(ctx)); err == nil {
		for _, s := range servers {
			if v := s.ServiceMeta["version"]; v != "" && (oldest == "" || access.Older(v, oldest)) {
				oldest = v
			}
		}
	}
	if oldest != "" && access.Older(oldest, MinVersion) {
		return fmt.Errorf("consul instance %s: a server runs Consul %s, at least %s is needed: upgrade the servers", d.config.Name, oldest, MinVersion)
	}
	d.version = oldest
	return nil
}
