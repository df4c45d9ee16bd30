package consul

import (
	"encoding/base64"
	"encoding/json"
	"strings"

	"github.com/hashicorp/consul/api"

	"locktide.dev/schema"
)

// leftOut are Consul's kinds of entries of which none can be defined, with why.
var leftOut = map[string]string{
	api.InlineCertificate: "it holds a private key, which does not belong into a repository: name files of the gateway's host in a file-system-certificate, or leave it to whoever writes it now",
	api.SamenessGroup:     "sameness groups are of Consul Enterprise, and stay with whoever writes them now",
	api.RateLimitIPConfig: "rate limits of the control plane are of Consul Enterprise, and stay with whoever writes them now",
}

const secretHeld = "it holds a private key, which does not belong into a repository: leave it to whoever writes it now"

// heldSecret says that an entry holds a private key, as text or in a set of
// keys that tokens are verified by; "": it holds none.
func heldSecret(e entry) string {
	if schema.HoldsPrivateKey(schema.MustCanonical(map[string]any(e))) {
		return secretHeld
	}
	set, _ := e["JSONWebKeySet"].(map[string]any)
	local, _ := set["Local"].(map[string]any)
	encoded, _ := local["JWKS"].(string)
	raw, err := base64.StdEncoding.DecodeString(encoded)
	var keys struct{ Keys []map[string]any }
	if err != nil || json.Unmarshal(raw, &keys) != nil {
		return ""
	}
	for _, k := range keys.Keys {
		if k["d"] != nil || k["k"] != nil { // of a pair, or a key that both sides share
			return secretHeld
		}
	}
	return ""
}

// filled writes what Consul itself fills in where nothing is said, so that an
// entry is the same before and after it was written.
func filled(k schema.Kind, e entry) {
	switch k {
	case KindJWT:
		if zero(e["ClockSkewSeconds"]) {
			e["ClockSkewSeconds"] = float64(30)
		}
	case KindGateway:
		eachMap(e["Listeners"], func(listener map[string]any) {
			if protocol, ok := listener["Protocol"].(string); ok {
				listener["Protocol"] = strings.ToLower(protocol)
			}
		})
	case KindTCPRoute, KindHTTPRoute:
		eachMap(e["Parents"], func(parent map[string]any) {
			if zero(parent["Kind"]) {
				parent["Kind"] = api.APIGateway
			}
		})
		eachMap(e["Rules"], func(rule map[string]any) {
			eachMap(rule["Services"], func(service map[string]any) {
				if zero(service["Weight"]) {
					service["Weight"] = float64(1)
				}
			})
			eachMap(rule["Matches"], func(match map[string]any) {
				if method, ok := match["Method"].(string); ok {
					match["Method"] = strings.ToUpper(method)
				}
				if path, _ := match["Path"].(map[string]any); zero(path["Match"]) {
					match["Path"] = map[string]any{"Match": "prefix", "Value": "/"}
				}
			})
		})
	}
}

func eachMap(list any, do func(map[string]any)) {
	all, _ := list.([]any)
	for _, one := range all {
		if m, ok := one.(map[string]any); ok {
			do(m)
		}
	}
}
