package devstack

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// Servers listen below the kernel's ephemeral ports, which any outgoing
// connection may take while a server is down, and apart from the ports that
// Nomad gives to tasks.
const (
	firstPort = 10000
	lastPort  = 19999

	firstTaskPort = 20000
	lastTaskPort  = 31999
	taskPorts     = 500 // of one Nomad client
)

// FreePort returns a loopback port that nobody listens on, TCP or UDP.
func FreePort() (int, error) {
	ports, err := FreePorts(1)
	if err != nil {
		return 0, err
	}
	return ports[0], nil
}

// FreePorts returns n different loopback ports that nobody listens on, TCP or
// UDP. They are drawn at random, so two callers hardly ever meet.
func FreePorts(n int) ([]int, error) {
	ports := make([]int, 0, n)
	for _, i := range rand.Perm(lastPort - firstPort + 1) {
		if len(ports) == n {
			return ports, nil
		}
		if port := firstPort + i; isFree(port) {
			ports = append(ports, port)
		}
	}
	return nil, fmt.Errorf("devstack: fewer than %d free ports in %d-%d", n, firstPort, lastPort)
}

func isFree(port int) bool {
	addr := loopback(port)
	tcp, err := net.Listen("tcp", addr)
	if err != nil {
		return false
	}
	udp, err := net.ListenPacket("udp", addr)
	if err != nil {
		return errors.Join(err, tcp.Close()) == nil
	}
	return errors.Join(tcp.Close(), udp.Close()) == nil
}

// claimTaskPorts reserves a range of ports for the tasks of one Nomad client
// against every other stack on this machine: whoever listens on the port below
// the range has it, until the listener is closed.
func claimTaskPorts() (first, last int, claim net.Listener, err error) {
	for _, i := range rand.Perm((lastTaskPort - firstTaskPort + 1) / taskPorts) {
		base := firstTaskPort + i*taskPorts
		if claim, err = net.Listen("tcp", loopback(base)); err == nil {
			return base + 1, base + taskPorts - 1, claim, nil
		}
	}
	return 0, 0, nil, fmt.Errorf("devstack: all port ranges for tasks in %d-%d are taken: %w", firstTaskPort, lastTaskPort, err)
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
