package cli

import (
	"io"
	"os"
	"regexp"

	"golang.org/x/term"
)

// screen is a person's terminal. It shows text, line ends, tabs and colours:
// what a repository, a backend or somebody else wrote cannot steer it.
type screen struct{ to io.Writer }

// onScreen gives a stream as a screen, if it is a terminal.
func onScreen(stream io.Writer) io.Writer {
	if isTerminal(stream) {
		return screen{stream}
	}
	return stream
}

// isTerminal says whether a stream is a person's screen or keyboard.
func isTerminal(stream any) bool {
	if _, ok := stream.(screen); ok {
		return true
	}
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// control is a colour, or a character that is not shown but obeyed.
var control = regexp.MustCompile("\x1b\\[[0-9]{1,2}m|[\x00-\x08\x0b-\x1f\x7f\u0080-\u009f]")

func (s screen) Write(text []byte) (int, error) {
	_, err := s.to.Write(control.ReplaceAllFunc(text, func(found []byte) []byte {
		if len(found) > 2 { // a colour
			return found
		}
		return []byte("?")
	}))
	return len(text), err
}

// clear empties the screen.
func (s screen) clear() error {
	_, err := io.WriteString(s.to, "\x1b[H\x1b[2J")
	return err
}
