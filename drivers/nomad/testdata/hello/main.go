// Command hello tells over HTTP which release it is and what it sees at /.
package main

import (
	"fmt"
	"net/http"
	"os"
)

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		entries, err := os.ReadDir("/")
		fmt.Fprintln(w, os.Getenv("RELEASE"), len(entries), err)
	})
	fmt.Println(http.ListenAndServe(os.Getenv("NOMAD_ADDR_http"), nil))
	os.Exit(1)
}
