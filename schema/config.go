package schema

import "strings"

// DefaultConfigPrefix is the folder of Consul KV in which configuration of
// applications is published when a daemon configures none.
const DefaultConfigPrefix = "locktide"

// ConfigName gives the name of the object that publishes a group's
// configuration: "<app>/<digest>", or for live configuration
// "<app>/live.<stage>.<cell>". It is empty when the group has none. Groups of
// one app with equal configuration share the object.
func ConfigName(group string, g Group) string {
	if len(g.Config) == 0 {
		return ""
	}
	if g.Live {
		_, cell, _ := strings.Cut(group, "/")
		return g.App + "/live." + cell
	}
	digest := DigestOf(MustCanonical(g.Config))
	return g.App + "/" + strings.TrimPrefix(string(digest), "sha256:")
}

// ConfigPath gives the KV folder, without a slash at its end, that holds the
// keys of the configuration object with that name; the group's instances find
// it in LOCKTIDE_CONFIG. Empty prefix means DefaultConfigPrefix.
func ConfigPath(prefix, name string) string {
	if prefix == "" {
		prefix = DefaultConfigPrefix
	}
	return strings.Trim(prefix, "/") + "/" + name
}

// TaskImage gives the container image of a group's task: its own, else the
// app's for main and for what runs beside it by the same driver. The release
// is the tag of the app's image, and of an untagged one that main names.
// Empty: the task runs none.
func TaskImage(g Body, t Task, main bool, driver string) string {
	image := t.Image
	if image == "" && (main || t.Driver == driver) {
		if image = g.Image; image == "" || g.Release == "" {
			return ""
		}
		return image + ":" + g.Release
	}
	name := image[strings.LastIndexByte(image, '/')+1:]
	if main && image != "" && g.Release != "" && !strings.ContainsAny(name, ":@") {
		image += ":" + g.Release
	}
	return image
}
