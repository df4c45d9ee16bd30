package app

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"locktide.dev/cmd/internal/config"
)

func TestConnectionsOfThisProcess(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	res, err := http.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	cfg := config.Config{Nomad: map[string]config.Nomad{"dc1": {Address: server.URL}}}
	if got := connectionChecks(t.Context(), cfg); len(got) != 1 || got[0].Says == "0 open" {
		t.Errorf("%+v", got)
	}
}
