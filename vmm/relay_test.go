package vmm_test

import (
	"bytes"
	"crypto/rand"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"gosv/internal/frames"
	"gosv/vmm"
)

// agent is a guest's end of the exec port: each program is a cat(1) that ends with status 3.
type agent struct {
	port net.Conn
	cats map[uint32]*cat
}

type cat struct {
	waiting []byte
	credit  int
	ended   bool
}

func startAgent(port net.Conn) {
	a := &agent{port: port, cats: map[uint32]*cat{}}
	go func() {
		var d frames.Decoder
		b := make([]byte, 4096)
		for {
			n, err := port.Read(b)
			if err != nil || d.Feed(b[:n], a.take) != nil {
				return
			}
		}
	}()
}

func (a *agent) take(f frames.Frame) {
	c := a.cats[f.Session]
	if c == nil && f.Kind != frames.Start {
		return
	}
	switch f.Kind {
	case frames.Start:
		if !strings.HasPrefix(string(f.Payload), "arg=cat\x00") {
			a.port.Write(frames.Append(nil, frames.Frame{Session: f.Session, Kind: frames.Failed, Payload: []byte("\x7fnot \x1bthere")}))
			return
		}
		a.cats[f.Session] = &cat{credit: frames.Window}
		return
	case frames.Input:
		c.waiting = append(c.waiting, f.Payload...)
		if len(c.waiting) > frames.Window {
			panic("more input than the window")
		}
	case frames.InputEnd:
		c.ended = true
	case frames.Credit:
		_, n, _ := frames.ParseCredit(f.Payload)
		c.credit += n
	}
	if n := min(len(c.waiting), c.credit, frames.MaxPayload); n > 0 {
		a.port.Write(frames.Append(nil, frames.Frame{Session: f.Session, Kind: frames.Output, Payload: c.waiting[:n]}))
		a.port.Write(frames.AppendCredit(nil, f.Session, frames.Input, n))
		c.waiting, c.credit = c.waiting[n:], c.credit-n
	}
	if c.ended && len(c.waiting) == 0 {
		a.port.Write(frames.Append(nil, frames.Frame{Session: f.Session, Kind: frames.Exit, Payload: []byte{3}}))
	}
}

func newRelay(t *testing.T) (*vmm.Relay, net.Conn) {
	host, guest := net.Pipe()
	t.Cleanup(func() { host.Close() })
	startAgent(guest)
	return vmm.NewRelay(host), guest
}

func dial(r *vmm.Relay) net.Conn {
	client, server := net.Pipe()
	go r.Serve(server)
	return client
}

func TestExecThroughRelay(t *testing.T) {
	r, _ := newRelay(t)
	// One client that does not read at all must not hold up the others.
	stuck := dial(r)
	stuck.Write(frames.Append(nil, frames.Frame{Kind: frames.Start, Payload: []byte("arg=cat\x00")}))
	stuck.Write(frames.Append(nil, frames.Frame{Kind: frames.Input, Payload: make([]byte, frames.MaxPayload)}))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			data := make([]byte, 1<<20)
			rand.Read(data)
			var out bytes.Buffer
			e := vmm.Exec{Argv: []string{"cat"}, Stdin: bytes.NewReader(data), Stdout: &out, Stderr: io.Discard}
			result := e.Run(dial(r))
			if result.Status != 3 || result.Err != nil || !bytes.Equal(out.Bytes(), data) {
				t.Errorf("%v, %d bytes", result, out.Len())
			}
		})
	}
	wg.Wait()
}

func TestExecFails(t *testing.T) {
	r, guest := newRelay(t)
	e := vmm.Exec{Argv: []string{"dog"}, Stdout: io.Discard, Stderr: io.Discard}
	if result := e.Run(dial(r)); result.Status != 127 || result.Err.Error() != "not ?there" {
		t.Errorf("%v", result)
	}
	e.Argv = []string{strings.Repeat("x", frames.MaxPayload)}
	if result := e.Run(dial(r)); result.Status != 126 {
		t.Errorf("%v", result)
	}
	e.Argv = []string{"cat"}
	time.AfterFunc(50*time.Millisecond, func() { guest.Close() })
	in, _ := io.Pipe()
	e.Stdin = in
	if result := e.Run(dial(r)); result.Status != 125 || result.Err == nil {
		t.Errorf("after the machine's end: %v", result)
	}
}

// A guest that sends without credit, or no frames at all, harms nobody but itself.
func TestRelaySurvivesGuest(t *testing.T) {
	host, guest := net.Pipe()
	r := vmm.NewRelay(host)
	client := dial(r)
	go client.Write(frames.Append(nil, frames.Frame{Kind: frames.Start, Payload: []byte("arg=cat\x00")}))
	io.ReadFull(guest, make([]byte, 8+8))
	go io.Copy(io.Discard, guest)
	flood := frames.Append(nil, frames.Frame{Session: 1, Kind: frames.Output, Payload: make([]byte, frames.MaxPayload)})
	for range 100 { // never blocks
		guest.Write(flood)
		guest.Write(frames.Append(nil, frames.Frame{Session: 77, Kind: frames.Exit}))
	}
	guest.Write(bytes.Repeat([]byte{0xff}, 100))
	client.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, err := io.Copy(io.Discard, client); err != nil || n > 1<<20 {
		t.Errorf("%d bytes, %v", n, err)
	}
}
