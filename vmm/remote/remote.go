// Package remote lets the gosv commands of a user act on a machine that another
// gosv process of theirs runs. A connection to that process's control socket
// (vmm/registry) carries one request, a line of JSON, and its answer, another; after
// an exec request has been granted it carries frames (internal/frames), which vmm.Relay serves.
//
// The socket lies in a folder that only the user can enter: who connects may do all that the user may.
package remote

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"
)

// Handler acts on a machine.
type Handler interface {
	// Signal sends the machine's program a signal.
	Signal(n syscall.Signal)
	// Kill ends the machine at once.
	Kill()
	// Exec serves a session with a further program and closes the connection.
	Exec(conn net.Conn)
}

type request struct {
	Op     string         `json:"op"` // signal, kill, exec
	Signal syscall.Signal `json:"signal,omitempty"`
}

type answer struct {
	Error string `json:"error,omitempty"`
}

const (
	maxLine = 4096
	// patience is how long either side waits for the other's line.
	patience = 5 * time.Second
)

// Serve serves the socket until it is closed.
func Serve(l net.Listener, h Handler) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go serve(conn, h)
	}
}

func serve(conn net.Conn, h Handler) {
	var r request
	err := receive(conn, &r)
	if err == nil && r.Op != "signal" && r.Op != "kill" && r.Op != "exec" {
		err = fmt.Errorf("unknown request %q", r.Op)
	}
	if err == nil && r.Op == "signal" && (r.Signal < 1 || r.Signal > 64) {
		err = fmt.Errorf("there is no signal %d", int(r.Signal))
	}
	if err != nil {
		_ = send(conn, answer{Error: err.Error()})
		conn.Close()
		return
	}
	switch r.Op {
	case "signal":
		h.Signal(r.Signal)
	case "kill":
		h.Kill()
	}
	err = send(conn, answer{})
	if r.Op == "exec" && err == nil {
		h.Exec(conn)
		return
	}
	conn.Close()
}

// Signal asks for a signal to the program, and closes the connection.
func Signal(conn net.Conn, n syscall.Signal) error {
	defer conn.Close()
	return ask(conn, request{Op: "signal", Signal: n})
}

// Kill asks for the machine's end, and closes the connection.
func Kill(conn net.Conn) error {
	defer conn.Close()
	return ask(conn, request{Op: "kill"})
}

// Exec asks for a session; on success the connection is one for vmm.Exec.
func Exec(conn net.Conn) error {
	err := ask(conn, request{Op: "exec"})
	if err != nil {
		conn.Close()
	}
	return err
}

func ask(conn net.Conn, r request) error {
	if err := send(conn, r); err != nil {
		return err
	}
	var a answer
	if err := receive(conn, &a); err != nil {
		return fmt.Errorf("the machine's process does not answer: %w", err)
	}
	if a.Error != "" {
		return errors.New(a.Error)
	}
	return nil
}

func send(conn net.Conn, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_ = conn.SetWriteDeadline(time.Now().Add(patience))
	_, err = conn.Write(append(b, '\n'))
	_ = conn.SetWriteDeadline(time.Time{})
	return err
}

// receive reads one line, byte by byte: what follows it is not ours.
func receive(conn net.Conn, v any) error {
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	defer conn.SetReadDeadline(time.Time{})
	var line []byte
	var b [1]byte
	for {
		if _, err := conn.Read(b[:]); err != nil {
			return err
		}
		if b[0] == '\n' {
			return json.Unmarshal(line, v)
		}
		if line = append(line, b[0]); len(line) > maxLine {
			return errors.New("the line is too long")
		}
	}
}
