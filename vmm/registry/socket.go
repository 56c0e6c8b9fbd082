package registry

import (
	"errors"
	"fmt"
	"net"
	"os"
)

// Listen makes the machine's control socket.
func (m *Machine) Listen() (net.Listener, error) {
	var l net.Listener
	err := m.byDescriptor(func(name string) (err error) {
		l, err = net.Listen("unix", name)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	// Its name leads through a descriptor that is closed; the folder's removal takes it away.
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	return l, nil
}

// Dial connects with the process that runs the machine.
func (m *Machine) Dial() (conn net.Conn, err error) {
	if !m.running {
		return nil, errors.New(m.Name + " is not running")
	}
	err = m.byDescriptor(func(name string) (err error) {
		conn, err = net.Dial("unix", name)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s does not answer: %w", m.Name, err)
	}
	return conn, nil
}

// byDescriptor calls f with a short name of the socket: the address of one holds 107 bytes (unix(7)).
func (m *Machine) byDescriptor(f func(name string) error) error {
	dir, err := os.Open(m.dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	return f(fmt.Sprintf("/proc/self/fd/%d/control", dir.Fd()))
}
