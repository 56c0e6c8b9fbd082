package vmm

import (
	"io"
	"net"
	"sync"

	"gosv/internal/frames"
)

// PortExec is the port by which the host has further programs run in a machine; internal/frames has its protocol.
const PortExec = "gosv.exec"

// maxQueued bounds what waits for a client, in bytes: more than credit allows a well-behaved guest to send.
const maxQueued = 2*frames.Window + 8*frames.MaxPayload

// Relay carries sessions between clients, each with a connection of its own and one session numbered 0, and
// a machine's exec port. It holds up no session for another.
type Relay struct {
	port io.ReadWriter

	write sync.Mutex // one frame at a time goes to the port

	mu      sync.Mutex
	last    uint32                  // +checklocks:mu
	clients map[uint32]*relayClient // +checklocks:mu
	ended   bool                    // +checklocks:mu
}

// relayClient is a client, and what waits for it.
type relayClient struct {
	conn net.Conn
	more *sync.Cond // on mu

	mu    sync.Mutex
	queue []byte // +checklocks:mu
	ended bool   // +checklocks:mu
}

// NewRelay returns a relay that serves the port until that ends.
func NewRelay(port io.ReadWriter) *Relay {
	r := &Relay{port: port, clients: map[uint32]*relayClient{}}
	go r.fromGuest()
	return r
}

// fromGuest hands on what the guest sends. Frames of sessions that are none are dropped.
func (r *Relay) fromGuest() {
	var d frames.Decoder
	b := make([]byte, 64<<10)
	for {
		n, err := r.port.Read(b)
		if n > 0 && d.Feed(b[:n], r.deliver) != nil || err != nil {
			break
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	for _, c := range r.clients {
		c.end()
	}
}

func (r *Relay) deliver(f frames.Frame) {
	last := f.Kind == frames.Exit || f.Kind == frames.Failed
	r.mu.Lock()
	c := r.clients[f.Session]
	if last {
		delete(r.clients, f.Session)
	}
	r.mu.Unlock()
	if c == nil {
		return
	}
	f.Session = 0
	c.put(f)
	if last {
		c.end()
	}
}

// Serve serves one client until it has gone or its program has ended, and closes the connection.
func (r *Relay) Serve(conn net.Conn) {
	defer conn.Close()
	c := &relayClient{conn: conn}
	c.more = sync.NewCond(&c.mu)
	r.mu.Lock()
	if r.ended {
		r.mu.Unlock()
		return
	}
	r.last++
	id := r.last
	r.clients[id] = c
	r.mu.Unlock()
	go r.fromClient(id, c)
	c.send()
}

// fromClient hands on what the client sends, and its end.
func (r *Relay) fromClient(id uint32, c *relayClient) {
	var d frames.Decoder
	b := make([]byte, 64<<10)
	for {
		n, err := c.conn.Read(b)
		if n > 0 && d.Feed(b[:n], func(f frames.Frame) { r.toGuest(id, f) }) != nil || err != nil {
			break
		}
	}
	r.toGuest(id, frames.Frame{Kind: frames.Hangup})
	c.end()
}

func (r *Relay) toGuest(id uint32, f frames.Frame) {
	f.Session = id
	r.write.Lock()
	defer r.write.Unlock()
	_, _ = r.port.Write(frames.Append(nil, f)) // the reader notices the end of the port
}

// put queues a frame. A guest that sends more than it may loses the client.
func (c *relayClient) put(f frames.Frame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) > maxQueued {
		c.ended, c.queue = true, nil
	}
	if !c.ended {
		c.queue = frames.Append(c.queue, f)
	}
	c.more.Signal()
}

// end has the connection closed when all that waits is sent.
func (c *relayClient) end() {
	c.mu.Lock()
	c.ended = true
	c.more.Signal()
	c.mu.Unlock()
}

// send writes what waits until the end.
func (c *relayClient) send() {
	for {
		c.mu.Lock()
		for len(c.queue) == 0 && !c.ended {
			c.more.Wait()
		}
		b := c.queue
		c.queue = nil
		c.mu.Unlock()
		if len(b) == 0 {
			return
		}
		if _, err := c.conn.Write(b); err != nil {
			return
		}
	}
}
