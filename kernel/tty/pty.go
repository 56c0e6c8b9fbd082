package tty

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
	"gosv/kernel/task"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/kernel/wait"
)

// Numbers of the devices (Documentation/admin-guide/devices.txt of Linux).
const (
	SlaveMajor = 136 // /dev/pts/N
	AuxMajor   = 5   // /dev/tty, /dev/console, /dev/ptmx

	TTYMinor     = 0
	ConsoleMinor = 1
	MasterMinor  = 2
)

// Pty is a pseudo-terminal (pty(7)): a Terminal, the slave, whose far side is an
// open file, the master. The master has no line discipline.
type Pty struct {
	Slave *Terminal
	Index int // of /dev/pts/N

	queue wait.Queue // of those who wait for the master

	// Guarded by Slave.mu.
	locked    bool // TIOCSPTLCK: the slave cannot be opened
	packet    bool // TIOCPKT
	status    byte // in packet mode: what to tell the master
	slaves    int  // open files of the slave
	slaveGone bool // there were some, and are none
	closed    bool // the master is
}

// pendingSize is how much the master may write beyond what the slave's line discipline takes.
const pendingSize = 8192

// NewPty returns a locked pseudo-terminal without a master.
func NewPty(jobs Jobs, index int) *Pty {
	p := &Pty{Slave: newTerminal(jobs, SlaveMajor, uint32(index)), Index: index, locked: true}
	p.Slave.pty = p
	return p
}

// master is the open master.
type master struct {
	vfs.FileDefaults
	*Pty
	release func()
	peer    func(c *cred.Cred, flags int) (*vfs.File, error)
}

// Master makes f, which is being opened, the master. peer opens the slave (TIOCGPTPEER), release
// is called when the master has closed.
func (p *Pty) Master(f *vfs.File, peer func(c *cred.Cred, flags int) (*vfs.File, error), release func()) vfs.FileOps {
	f.SetTerminal()
	return &master{Pty: p, release: release, peer: peer}
}

// Terminal implements task.TerminalFile: a master is nobody's controlling terminal.
func (m *master) Terminal() task.Terminal { return nil }

// MayWrite implements task.TerminalFile.
func (m *master) MayWrite(*task.Task) error { return nil }

// Release implements vfs.FileOps: the slave hangs up.
func (m *master) Release(*vfs.File) {
	m.Slave.hangUp(true)
	m.release()
}

// ReadBy implements task.TerminalFile.
func (m *master) ReadBy(tk *task.Task, f *vfs.File, dst uio.Sink) (int64, error) {
	for {
		n, err := m.Read(f, dst, 0)
		if err != unix.EAGAIN || f.Nonblock() {
			return n, err
		}
		if err := tk.WaitFor(f, readable, 0); err != nil {
			return 0, err
		}
	}
}

// Read implements vfs.FileOps: what the slave's programs wrote; EIO when it has been closed and all is read.
func (m *master) Read(_ *vfs.File, dst uio.Sink, _ int64) (n int64, err error) {
	t := m.Slave
	t.reader.Lock()
	defer t.reader.Unlock()
	if dst.Left() == 0 {
		return 0, nil
	}
	t.mu.Lock()
	packet, status := m.packet, m.status
	if packet && status != 0 {
		m.status = 0
		t.mu.Unlock()
		k, err := dst.Put([]byte{status})
		return int64(k), err
	}
	if t.out.len() == 0 {
		gone := m.slaveGone
		t.mu.Unlock()
		if gone {
			return 0, unix.EIO
		}
		return 0, unix.EAGAIN
	}
	t.mu.Unlock()
	if packet {
		k, err := dst.Put([]byte{unix.TIOCPKT_DATA})
		if n += int64(k); err != nil {
			return n, err
		}
	}
	for dst.Left() > 0 && err == nil {
		t.mu.Lock()
		k := copy(t.rbuf[:min(dst.Left(), len(t.rbuf))], t.out.bytes())
		t.out.drop(k)
		t.drained()
		t.unlock()
		if k == 0 {
			break
		}
		k, err = dst.Put(t.rbuf[:k])
		n += int64(k)
	}
	if n > 0 {
		err = nil
	}
	return n, err
}

// Write implements vfs.FileOps: it is input of the slave.
func (m *master) Write(_ *vfs.File, src uio.Source, _ int64) (n int64, err error) {
	t := m.Slave
	var buf [256]byte
	for src.Left() > 0 && err == nil {
		t.mu.Lock()
		room := pendingSize - t.pending.len()
		t.mu.Unlock()
		if room <= 0 {
			err = unix.EAGAIN
			break
		}
		var k int
		if k, err = src.Take(buf[:min(room, len(buf))]); k > 0 {
			t.mu.Lock()
			t.pending.put(buf[:k]...)
			t.unlock()
			n += int64(k)
		}
	}
	if n > 0 {
		err = nil
	}
	return n, err
}

// Poll implements vfs.FileOps.
func (m *master) Poll(_ *vfs.File, mask wait.Mask) (ready wait.Mask) {
	t := m.Slave
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.out.len() > 0 {
		ready |= readable
	}
	if m.packet && m.status != 0 {
		ready |= readable | unix.EPOLLPRI
	}
	if t.pending.len() < pendingSize {
		ready |= writable
	}
	if m.slaveGone {
		ready |= unix.EPOLLHUP
	}
	return ready & mask
}

// Register implements vfs.FileOps.
func (m *master) Register(_ *vfs.File, e *wait.Entry) { m.queue.Add(e) }

// Unregister implements vfs.FileOps.
func (m *master) Unregister(_ *vfs.File, e *wait.Entry) { m.queue.Remove(e) }
