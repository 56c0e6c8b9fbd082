package afunix

import (
	"strconv"

	"golang.org/x/sys/unix"
)

// enter puts k on the list of all sockets, leave takes it off.
func (n *Network) enter(k *sock) {
	n.mu.Lock()
	n.last++
	k.id = n.last
	if k.next = n.all; k.next != nil {
		k.next.prev = k
	}
	n.all = k
	n.mu.Unlock()
}

func (n *Network) leave(k *sock) {
	n.mu.Lock()
	if k.prev != nil {
		k.prev.next = k.next
	} else if n.all == k {
		n.all = k.next
	}
	if k.next != nil {
		k.next.prev = k.prev
	}
	k.prev, k.next = nil, nil
	n.mu.Unlock()
}

// Info is what /proc/net/unix and ss(8) tell about a socket.
type Info struct {
	Type      int
	Refs      int
	State     int // as TCP has them: established 1, close 7, listen 10
	Ino, Peer uint64
	Queue     int    // packets or connections that wait
	Backlog   int    // of a listener
	Sent      int    // bytes that nobody read yet
	Shutdown  int    // 1: reads, 2: writes
	Name      []byte // as in sun_path, without the NUL of a path
	UID       uint32
}

// States of Info.
const (
	Established = 1
	Closed      = 7
	Listening   = 10
)

// List tells about all sockets of a network namespace.
func (n *Network) List(space uint64) []Info {
	n.mu.Lock()
	var list []*sock
	for k := n.all; k != nil; k = k.next {
		if k.space == space {
			list = append(list, k)
		}
	}
	n.mu.Unlock()
	infos := make([]Info, 0, len(list))
	for i := len(list) - 1; i >= 0; i-- {
		infos = append(infos, list[i].info())
	}
	return infos
}

func (k *sock) info() Info {
	k.mu.Lock()
	i := Info{Type: k.s.Type, Refs: 2, State: Closed, Queue: k.queue.n, Backlog: k.backlog, Sent: int(k.wmem.Load()), Shutdown: int(k.shut.Load())}
	switch k.state {
	case listening:
		i.State = Listening
	case connected:
		i.State = Established
	}
	if k.state != listening {
		i.Queue = k.queue.bytes
	}
	k.mu.Unlock()
	if f := k.s.File(); f != nil {
		i.Ino, i.UID = f.Inode().Ino, f.Inode().UID()
		i.Refs++
	}
	if p := k.peer.Load(); p != nil {
		if f := p.s.File(); f != nil {
			i.Peer = f.Inode().Ino
		}
		i.Refs++
	}
	if nm := k.name.Load(); nm != nil {
		i.Name = nm.addr[familySize:]
		if nm.key == "" && len(i.Name) > 0 && i.Name[0] != 0 {
			i.Name = i.Name[:len(i.Name)-1]
		}
	}
	return i
}

// Socket states as /proc/net/unix shows them (include/uapi/linux/net.h).
const (
	ssUnconnected   = 1
	ssConnecting    = 2
	ssConnected     = 3
	ssDisconnecting = 4
	acceptConn      = 1 << 16 // __SO_ACCEPTCON
)

// Proc is /proc/net/unix (proc(5)).
func (n *Network) Proc(space uint64) string {
	b := []byte("Num       RefCount Protocol Flags    Type St Inode Path\n")
	hex := func(v, width int) {
		s := strconv.FormatInt(int64(v), 16)
		for range width - len(s) {
			b = append(b, '0')
		}
		for _, c := range []byte(s) {
			if c >= 'a' {
				c -= 'a' - 'A'
			}
			b = append(b, c)
		}
		b = append(b, ' ')
	}
	for _, i := range n.List(space) {
		flags, st := 0, ssUnconnected
		switch {
		case i.Ino == 0 && i.State == Established:
			st = ssConnecting
		case i.Ino == 0:
			st = ssDisconnecting
		case i.State == Established:
			st = ssConnected
		case i.State == Listening:
			flags = acceptConn
		}
		b = append(b, "0000000000000000: "...)
		hex(i.Refs, 8)
		hex(0, 8)
		hex(flags, 8)
		hex(i.Type, 4)
		hex(st, 2)
		ino := strconv.FormatUint(i.Ino, 10)
		for range 5 - len(ino) {
			b = append(b, ' ')
		}
		b = append(b, ino...)
		if len(i.Name) > 0 {
			b = append(b, ' ')
			for _, c := range i.Name {
				if c == 0 {
					c = '@'
				}
				b = append(b, c)
			}
		}
		b = append(b, '\n')
	}
	return string(b)
}

// MaxQueue is net.unix.max_dgram_qlen, how many datagrams a new socket's queue takes, but one.
func (n *Network) MaxQueue() int { return int(n.qlen.Load()) }

// SetMaxQueue changes it: EINVAL when it is negative.
func (n *Network) SetMaxQueue(v int) error {
	if v < 0 || v > 1<<20 {
		return unix.EINVAL
	}
	n.qlen.Store(int32(v))
	return nil
}
