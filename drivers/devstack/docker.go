package devstack

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// DockerEngine is a Docker engine of our own: it has its own data, touches
// neither firewall nor bridges, and knows only the images that it was given.
type DockerEngine struct {
	Server *Server // Address is unix:///...

	stack  stack
	client *http.Client
}

// Docker starts an engine, with the dockerd on PATH and as root. Containers
// can only use the host's network. Stop it in the end.
func Docker(ctx context.Context) (_ *DockerEngine, err error) {
	ctx, cancel := withLimit(ctx)
	defer cancel()
	program, err := exec.LookPath("dockerd")
	if err != nil {
		return nil, fmt.Errorf("devstack: cannot find dockerd: %w; install docker.io", err)
	}
	d := &DockerEngine{}
	if d.stack, err = newStack(""); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Stop())
		}
	}()
	socket := filepath.Join(d.stack.dir, "docker.sock")
	d.client = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	d.Server = &Server{Name: "docker", Address: "unix://" + socket, program: program, args: func(data string) []string {
		return []string{"--host=unix://" + socket, "--data-root=" + data, "--exec-root=" + filepath.Join(d.stack.dir, "exec"),
			"--pidfile=" + filepath.Join(d.stack.dir, "docker.pid"), "--storage-driver=vfs", "--bridge=none", "--iptables=false",
			"--ip6tables=false", "--ip-forward=false"}
	}}
	d.Server.ready = func(ctx context.Context) error {
		return d.call(ctx, http.MethodGet, "/_ping", nil)
	}
	if err := d.stack.add(ctx, d.Server, "", ""); err != nil {
		return nil, err
	}
	return d, nil
}

// Try runs a command of an image in a container, as far as its start, and
// removes it: an engine that answers may still be unable to run one.
func (d *DockerEngine) Try(ctx context.Context, image, command string) error {
	const name = "/containers/devstack-try"
	body := fmt.Sprintf(`{"Image":%q,"Cmd":[%q],"HostConfig":{"NetworkMode":"host"}}`, image, command)
	if err := d.call(ctx, http.MethodPost, "/containers/create?name=devstack-try", strings.NewReader(body)); err != nil {
		return fmt.Errorf("devstack: cannot make a container: %w", err)
	}
	err := d.call(ctx, http.MethodPost, name+"/start", nil)
	if err = errors.Join(err, d.call(ctx, http.MethodDelete, name+"?force=true", nil)); err != nil {
		return fmt.Errorf("devstack: cannot run a container: %w", err)
	}
	return nil
}

// Image makes an image from one static program, which becomes /name in it.
func (d *DockerEngine) Image(ctx context.Context, image, tag, program, name string) error {
	binary, err := os.ReadFile(program)
	if err != nil {
		return fmt.Errorf("devstack: cannot read the program of image %s: %w", image, err)
	}
	var body bytes.Buffer
	w := tar.NewWriter(&body)
	err = w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(binary))})
	if err == nil {
		_, err = w.Write(binary)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return fmt.Errorf("devstack: cannot pack image %s: %w", image, err)
	}
	return d.call(ctx, http.MethodPost, "/images/create?fromSrc=-&repo="+url.QueryEscape(image)+"&tag="+url.QueryEscape(tag), &body)
}

// Stop ends the engine and what runs in it, and removes its data.
func (d *DockerEngine) Stop() error { return d.stack.stop() }

func (d *DockerEngine) call(ctx context.Context, method, path string, body io.Reader) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://docker"+path, body)
	if err != nil {
		return err
	}
	switch body.(type) {
	case *bytes.Buffer:
		req.Header.Set("Content-Type", "application/x-tar")
	case *strings.Reader:
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, bytes.TrimSpace(text))
	}
	return err
}
