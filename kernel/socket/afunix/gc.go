package afunix

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gosv/kernel/socket"
	"gosv/kernel/vfs"
)

// Files that lie in a message which nobody has read yet are in flight (unix(7), SCM_RIGHTS). A socket in
// flight may lie in its own queue, by itself or through others; then no descriptor leads to it any more and no
// reference count falls to zero. Such sockets are found as Linux does it: a socket whose references are all from
// messages is a candidate, and a candidate that lies in the queue of no other than candidates is lost, unless one that is
// not lost has it in its queue.
//
// Files that hold others, io_uring's rings with their registered files, are part of such circles: what one in flight holds counts as
// what lies in a queue does.
//
// flights.mu is taken before sock.mu. Whoever takes files out of a queue takes flights.mu before he gives them
// to anyone, so a file does not get users unseen while the search runs.

// flights counts the files in flight.
type flights struct {
	mu     sync.Mutex
	files  map[*vfs.File]int // sockets and holders in flight, how often; guarded by mu
	byUser map[uint32]int    // files in flight by the sender's user; guarded by mu
	total  int               // files in flight; guarded by mu

	doomedMu sync.Mutex
	doomed   []*vfs.File // to be closed; guarded by doomedMu
	closing  bool        // somebody closes them; guarded by doomedMu
	any      atomic.Bool // a socket or holder is in flight
}

// A Holder is the FileOps of a file that holds others open.
type Holder interface {
	// Held lists them, without references. It may be called with the locks of this package held.
	Held() []*vfs.File
}

// circular reports whether f may be part of a circle: a socket of this family, or a holder.
func circular(f *vfs.File) bool {
	_, ok := f.Ops().(Holder)
	return ok || sockOf(f) != nil
}

// sockOf returns the socket of this family that f is, nil for others.
func sockOf(f *vfs.File) *sock {
	if s, err := socket.Of(f); err == nil {
		k, _ := s.Ops().(*sock)
		return k
	}
	return nil
}

// launch counts files that are about to be sent: ETOOMANYREFS when their user has more than RLIMIT_NOFILE in flight
// already, or, whoever sends them, all have more than as many files as may be open (see vfs.MaxFiles): one file may be in flight many times.
func (fl *flights) launch(m *socket.Message, files []*vfs.File) error {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	u := m.Cred.UID
	if fl.byUser[u] > m.MaxFiles && !m.Cred.Capable(unix.CAP_SYS_RESOURCE) && !m.Cred.Capable(unix.CAP_SYS_ADMIN) {
		return unix.ETOOMANYREFS
	}
	if most := vfs.MaxFiles(); most != 0 && int64(fl.total+len(files)) > most {
		return unix.ETOOMANYREFS
	}
	fl.total += len(files)
	if fl.files == nil {
		fl.files, fl.byUser = make(map[*vfs.File]int), make(map[uint32]int)
	}
	fl.byUser[u] += len(files)
	for _, f := range files {
		if circular(f) {
			fl.files[f]++
			fl.any.Store(true)
		}
	}
	return nil
}

// land ends the flight of files that user sent.
func (fl *flights) land(user uint32, files []*vfs.File) {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	fl.total -= len(files)
	if fl.byUser[user] -= len(files); fl.byUser[user] == 0 {
		delete(fl.byUser, user)
	}
	for _, f := range files {
		if circular(f) {
			if fl.files[f]--; fl.files[f] == 0 {
				delete(fl.files, f)
			}
		}
	}
	fl.any.Store(len(fl.files) > 0)
}

// takeRights gives the files of a packet to the caller.
func (n *Network) takeRights(p *packet) []*vfs.File {
	files := p.rights
	if files != nil {
		p.rights = nil
		n.flights.land(p.user, files)
	}
	return files
}

// closeAll closes files. Closing a socket may find more of them in its queue: those go on a list, so that a long
// chain needs no deep stack. Another goroutine that is at it already closes them in our place.
func (n *Network) closeAll(files []*vfs.File) {
	fl := &n.flights
	fl.doomedMu.Lock()
	fl.doomed = append(fl.doomed, files...)
	if fl.closing {
		fl.doomedMu.Unlock()
		return
	}
	fl.closing = true
	for len(fl.doomed) > 0 {
		list := fl.doomed
		fl.doomed = nil
		fl.doomedMu.Unlock()
		for _, f := range list {
			f.DecRef()
		}
		fl.doomedMu.Lock()
	}
	fl.closing = false
	fl.doomedMu.Unlock()
}

// collect ends the sockets that only messages in their own queues lead to. It is called when a socket was closed.
func (n *Network) collect() {
	fl := &n.flights
	fl.mu.Lock()
	var rights []*packet
	if len(fl.files) > 0 {
		rights = n.search()
	}
	fl.mu.Unlock()
	for _, p := range rights {
		n.free(p)
	}
}

// candidate is a file that perhaps is lost.
type candidate struct {
	known  int         // references from messages, and from holders in flight
	inside int         // of them, those from candidates
	holds  []*vfs.File // what lies in its queue, or what it holds; a snapshot
	alive  bool
}

// search takes the messages with files out of the queues of lost sockets; flights.mu is held.
func (n *Network) search() (rights []*packet) {
	list := n.candidates()
	for _, c := range list {
		for _, held := range c.holds {
			if h := list[held]; h != nil {
				h.inside++
			}
		}
	}
	var alive []*candidate
	for _, c := range list {
		if c.inside < c.known {
			c.alive = true
			alive = append(alive, c)
		}
	}
	for len(alive) > 0 {
		c := alive[len(alive)-1]
		alive = alive[:len(alive)-1]
		for _, held := range c.holds {
			if h := list[held]; h != nil && !h.alive {
				h.alive = true
				alive = append(alive, h)
			}
		}
	}
	for f, c := range list {
		if k := sockOf(f); k != nil && !c.alive {
			rights = append(rights, k.takeRightsPackets()...)
		}
	}
	return rights
}

// candidates returns the files that have no references but those from messages and from holders in flight; flights.mu is held.
func (n *Network) candidates() map[*vfs.File]*candidate {
	list := make(map[*vfs.File]*candidate)
	held := make(map[*vfs.File][]*vfs.File)
	for f, count := range n.flights.files {
		list[f] = &candidate{known: count}
		if h, ok := f.Ops().(Holder); ok {
			held[f] = h.Held()
		}
	}
	for _, files := range held {
		for _, f := range files {
			if c := list[f]; c != nil {
				c.known++
			} else if circular(f) {
				list[f] = &candidate{known: 1}
			}
		}
	}
	for f, c := range list {
		if f.Refs() != c.known {
			delete(list, f)
		} else if c.holds = held[f]; c.holds == nil {
			if k := sockOf(f); k != nil {
				c.holds = k.inQueue()
			}
		}
	}
	return list
}

// inQueue returns the files that lie in k's queue, and in those of connections that wait there.
func (k *sock) inQueue() (held []*vfs.File) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for p := k.queue.head; p != nil; p = p.next {
		if p.conn != nil { // a younger socket: its number is higher
			held = append(held, p.conn.inQueue()...)
		}
		held = append(held, p.rights...)
	}
	return held
}

// takeRightsPackets takes the packets with files out of k's queue.
func (k *sock) takeRightsPackets() (list []*packet) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var keep queue
	for k.queue.head != nil {
		p := k.queue.pop()
		if p.conn != nil {
			list = append(list, p.conn.takeRightsPackets()...)
		}
		if p.rights != nil {
			list = append(list, p)
		} else {
			keep.push(p)
		}
	}
	k.queue = keep
	return list
}
