package gitsource

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"sync"
)

// maxObject bounds what is read of a mirror at once.
const maxObject = 256 << 20

// mirror reads objects of a repository on disk through one `git cat-file`,
// which is started when it is needed.
type mirror struct {
	git git
	dir string

	mu  sync.Mutex
	cmd *exec.Cmd // nil: none runs
	in  io.WriteCloser
	out *bufio.Reader
}

func (m *mirror) object(id string) (string, []byte, error) {
	if !isID(id) {
		return "", nil, errMissing
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	kind, content, err := m.ask(id)
	if err != nil && !errors.Is(err, errMissing) {
		m.end() // what it says next is not known
	}
	return kind, content, err
}

func (m *mirror) ask(id string) (string, []byte, error) {
	if err := m.start(); err != nil {
		return "", nil, err
	}
	if _, err := io.WriteString(m.in, id+"\n"); err != nil {
		return "", nil, err
	}
	line, err := m.out.ReadString('\n')
	if err != nil {
		return "", nil, fmt.Errorf("%w in the mirror: git cat-file ended", errDamaged)
	}
	fields := strings.Fields(line)
	if len(fields) != 3 {
		return "", nil, errMissing
	}
	size, err := strconv.Atoi(fields[2])
	if err != nil || size < 0 || size > maxObject {
		return "", nil, fmt.Errorf("it is larger than %d MiB", maxObject>>20)
	}
	content := make([]byte, size+1) // and a line end
	if _, err := io.ReadFull(m.out, content); err != nil {
		return "", nil, fmt.Errorf("%w in the mirror: git cat-file ended", errDamaged)
	}
	return fields[1], content[:size], nil
}

func (m *mirror) start() error {
	if m.cmd != nil {
		return nil
	}
	cmd, err := m.git.command(context.Background(), "--git-dir="+m.dir, "cat-file", "--batch")
	if err != nil {
		return err
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	m.cmd, m.in, m.out = cmd, in, bufio.NewReaderSize(out, 64<<10)
	return nil
}

// stop ends the process; a later read starts another.
func (m *mirror) stop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.end()
}

func (m *mirror) end() {
	if m.cmd == nil {
		return
	}
	_ = m.in.Close()
	_ = m.cmd.Cancel()
	_ = m.cmd.Wait() // it was killed
	m.cmd = nil
}
