package cli

import (
	"bytes"
	"fmt"
	"testing"
)

// Names, messages and reasons may come from a commit: none of them moves the
// cursor, clears the screen or sets its title.
func TestAScreenIsNotSteered(t *testing.T) {
	for text, want := range map[string]string{
		"a\tb\n":                        "a\tb\n",
		"\x1b[31mred\x1b[0m":            "\x1b[31mred\x1b[0m",
		"Eve \x1b[2J\x1b]0;x\a <eve@x>": "Eve ?[2J?]0;x? <eve@x>",
		"\u009b2Jgrün\r\x7f":            "?2Jgrün??",
	} {
		var out bytes.Buffer
		if n, err := fmt.Fprint(screen{&out}, text); err != nil || n != len(text) || out.String() != want {
			t.Errorf("%q is shown as %q, want %q (%d, %v)", text, out.String(), want, n, err)
		}
	}
}
