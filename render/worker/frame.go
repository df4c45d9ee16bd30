// Package worker evaluates definitions in child processes of the same program,
// because an evaluation can neither be cancelled nor bounded: a child has no
// environment, reads files only by asking its parent for what is in the
// commit's tree, and is killed and replaced when a unit takes too long, too
// much memory, or crashes. Such a unit is an error of that unit only.
package worker

import (
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
)

// Kinds of frames. The parent begins with tree, for each tree, and task; the
// child asks for files until it answers.
const (
	frameTree   = 't' // what was read before is of another tree
	frameTask   = 'k' // JSON of render.Task
	frameOpen   = 'o' // a path
	frameFile   = 'f' // content of a file
	frameFolder = 'd' // JSON of entries
	frameOther  = 'x' // mode of what is neither, as JSON
	frameNone   = 'n' // why it cannot be opened
	frameAnswer = 'a' // wire form of render.Answer
	frameCall   = 'c' // a question to the program's own service; answered by frameAnswer
	frameBroken = 'b' // why the child cannot work at all
)

// maxFrame bounds what one side takes from the other.
const maxFrame = 64 << 20

// entry is one line of a folder.
type entry struct {
	Name string
	Mode fs.FileMode
}

func writeFrame(w io.Writer, kind byte, payload []byte) error {
	if len(payload) > maxFrame {
		return fmt.Errorf("a frame of %d bytes is too long", len(payload))
	}
	head := binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(payload)))
	if _, err := w.Write(append(head, payload...)); err != nil {
		return err
	}
	return nil
}

func readFrame(r io.Reader) (kind byte, payload []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxFrame {
		return 0, nil, fmt.Errorf("a frame of %d bytes is too long", n)
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(r, payload)
	return head[0], payload, err
}
