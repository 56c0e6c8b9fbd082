// Package vhostuser is the back end's side of the vhost-user protocol (QEMU,
// docs/interop/vhost-user.rst): it serves the virtqueues of one virtual device from this process, in memory that the virtual
// machine monitor shares. What a request says is the Handler's business.
//
// Neither the guest nor the monitor is trusted: every address, length and index is checked against the shared
// regions before use. A guest that breaks virtio's rules (virtio 1.2 §2.7) stops its queue; a monitor that
// breaks the protocol ends the service. What the guest has in memory may change at any time, so what is looked at is copied first.
//
// memory.mu is held for reading while a request is served; queue.mu is a leaf.
package vhostuser

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Features of virtio and vhost-user (virtio 1.2 §6; bit 30 is vhost-user's own).
const (
	featureIndirect = 1 << 28
	featureProtocol = 1 << 30
	featureVersion1 = 1 << 32

	features = featureIndirect | featureProtocol | featureVersion1

	protocolMQ       = 1 << 0
	protocolReplyAck = 1 << 3

	protocolFeatures = protocolMQ | protocolReplyAck
)

// Requests of the monitor.
const (
	getFeatures         = 1
	setFeatures         = 2
	setOwner            = 3
	resetOwner          = 4
	setMemTable         = 5
	setVringNum         = 8
	setVringAddr        = 9
	setVringBase        = 10
	getVringBase        = 11
	setVringKick        = 12
	setVringCall        = 13
	setVringErr         = 14
	getProtocolFeatures = 15
	setProtocolFeatures = 16
	getQueueNum         = 17
	setVringEnable      = 18
)

const (
	headerSize = 12
	maxPayload = 4096
	maxFiles   = 8 // in one message
	maxRegions = 8

	version    = 1
	flagReply  = 1 << 2
	flagAck    = 1 << 3
	noFile     = 1 << 8 // in the payload of SET_VRING_KICK and its like
	queueIndex = 0xff
)

var le = binary.LittleEndian

// Handler serves a request: a chain of buffers that the guest made available in a queue. It reads from readable, and writes to
// writable; it returns how many bytes it wrote. Calls run side by side. The memory is the guest's until it returns.
type Handler func(queue int, readable, writable [][]byte) uint32

// Backend serves one device.
type Backend struct {
	handle  Handler
	conn    *net.UnixConn
	mem     memory
	workers chan struct{} // a place for each request under way

	// What follows is the business of the goroutine that reads messages.
	queues []*queue
	acks   bool // REPLY_ACK was negotiated
}

// workers is how many requests are served side by side.
const workers = 16

// Serve serves the device with n queues that the monitor at the other end of conn has, until that hangs up (nil) or breaks the
// protocol. It closes conn.
func Serve(conn *net.UnixConn, n int, handle Handler) error {
	b := &Backend{handle: handle, conn: conn, workers: make(chan struct{}, workers)}
	for i := range n {
		b.queues = append(b.queues, &queue{b: b, index: i})
	}
	err := b.serve()
	conn.Close()
	for _, q := range b.queues {
		q.stop()
	}
	for range workers { // all requests are done
		b.workers <- struct{}{}
	}
	b.mem.clear()
	if errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// message is one request, with the files that came along.
type message struct {
	request, flags uint32
	payload        []byte
	files          []*os.File
}

func (m *message) close() {
	for _, f := range m.files {
		if f != nil {
			f.Close()
		}
	}
}

// take returns the file that came along, which is the caller's then; nil when there is none.
func (m *message) take() *os.File {
	if len(m.files) == 0 {
		return nil
	}
	f := m.files[0]
	m.files[0] = nil
	return f
}

func (m *message) u32(i int) uint32 { return le.Uint32(m.payload[4*i:]) }
func (m *message) u64(i int) uint64 { return le.Uint64(m.payload[8*i:]) }

func (b *Backend) serve() error {
	for {
		m, err := b.read()
		if err != nil {
			return err
		}
		reply, err := b.do(m)
		m.close()
		if err != nil {
			return fmt.Errorf("vhost-user request %d: %w", m.request, err)
		}
		if reply == nil && m.flags&flagAck != 0 && b.acks {
			reply = make([]byte, 8)
		}
		if reply != nil {
			if err := b.reply(m.request, reply); err != nil {
				return err
			}
		}
	}
}

// read reads the next message.
func (b *Backend) read() (*message, error) {
	var head [headerSize]byte
	oob := make([]byte, unix.CmsgSpace(4*maxFiles))
	n, oobn, flags, _, err := b.conn.ReadMsgUnix(head[:], oob)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, io.EOF
	}
	m := &message{}
	if m.files, err = files(oob[:oobn]); err != nil || flags&unix.MSG_CTRUNC != 0 {
		m.close()
		return nil, errors.New("vhost-user: too many files, or none that can be used")
	}
	if _, err := io.ReadFull(b.conn, head[n:]); err != nil {
		m.close()
		return nil, err
	}
	m.request, m.flags = le.Uint32(head[:]), le.Uint32(head[4:])
	size := le.Uint32(head[8:])
	if size > maxPayload || m.flags&3 != version {
		m.close()
		return nil, fmt.Errorf("vhost-user: a message of %d bytes with flags %#x", size, m.flags)
	}
	m.payload = make([]byte, size)
	if _, err := io.ReadFull(b.conn, m.payload); err != nil {
		m.close()
		return nil, err
	}
	return m, nil
}

// files returns the files that control messages carry.
func files(oob []byte) (list []*os.File, err error) {
	if len(oob) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			return list, err
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			list = append(list, os.NewFile(uintptr(fd), "vhost-user"))
		}
	}
	return list, nil
}

func (b *Backend) reply(request uint32, payload []byte) error {
	out := le.AppendUint32(nil, request)
	out = le.AppendUint32(out, version|flagReply)
	out = le.AppendUint32(out, uint32(len(payload)))
	_, err := b.conn.Write(append(out, payload...))
	return err
}

var (
	errShort    = errors.New("the payload is too short")
	errNoQueue  = errors.New("there is no such queue")
	errBadQueue = errors.New("bad size or place of a queue")
	errNoFile   = errors.New("a file is missing")
)

// sizes are the least payloads of requests.
var sizes = map[uint32]int{
	setFeatures: 8, setProtocolFeatures: 8, setMemTable: 8, setVringNum: 8, setVringAddr: 40, setVringBase: 8, getVringBase: 8,
	setVringKick: 8, setVringCall: 8, setVringErr: 8, setVringEnable: 8,
}

// do does what a message asks for, and returns the reply to those that have one.
func (b *Backend) do(m *message) ([]byte, error) {
	if len(m.payload) < sizes[m.request] {
		return nil, errShort
	}
	switch m.request {
	case getFeatures:
		return le.AppendUint64(nil, features), nil
	case setFeatures:
		if m.u64(0)&^features != 0 {
			return nil, errors.New("features that were not offered")
		}
	case getProtocolFeatures:
		return le.AppendUint64(nil, protocolFeatures), nil
	case setProtocolFeatures:
		b.acks = m.u64(0)&protocolReplyAck != 0
	case getQueueNum:
		return le.AppendUint64(nil, uint64(len(b.queues))), nil
	case setOwner, resetOwner:
	case setMemTable:
		return nil, b.memTable(m)
	case setVringNum, setVringAddr, setVringBase, getVringBase, setVringEnable:
		return b.ring(m)
	case setVringKick, setVringCall, setVringErr:
		return nil, b.events(m)
	default:
		return nil, errors.New("unknown")
	}
	return nil, nil
}

// memTable maps the regions of the guest's memory.
func (b *Backend) memTable(m *message) error {
	n := int(m.u32(0))
	if n > maxRegions || n > len(m.files) || len(m.payload) < 8+32*n {
		return errors.New("bad table of memory")
	}
	var list []region
	for i := range n {
		p := m.payload[8+32*i:]
		r := region{guest: le.Uint64(p), user: le.Uint64(p[16:])}
		size, off := le.Uint64(p[8:]), le.Uint64(p[24:])
		if size == 0 || size > 1<<46 || off > 1<<46 || r.guest+size < size || r.user+size < size {
			unmap(list)
			return errors.New("bad region of memory")
		}
		var err error
		if r.bytes, err = unix.Mmap(int(m.files[i].Fd()), int64(off), int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_NORESERVE); err != nil {
			unmap(list)
			return fmt.Errorf("mapping the guest's memory: %w", err)
		}
		list = append(list, r)
	}
	b.mem.set(list)
	return nil
}

// queueOf returns the queue that a request is about.
func (b *Backend) queueOf(i uint64) (*queue, error) {
	if i >= uint64(len(b.queues)) {
		return nil, errNoQueue
	}
	return b.queues[i], nil
}

// ring sets and reads the state of a queue.
func (b *Backend) ring(m *message) ([]byte, error) {
	q, err := b.queueOf(uint64(m.u32(0)))
	if err != nil {
		return nil, err
	}
	switch m.request {
	case getVringBase:
		q.stop()
		return le.AppendUint32(le.AppendUint32(nil, m.u32(0)), uint32(q.next)), nil
	case setVringEnable:
		return nil, nil // a queue that has a kick is in use
	}
	q.stop()
	switch m.request {
	case setVringNum:
		if n := m.u32(1); n == 0 || n > 1<<15 || n&(n-1) != 0 {
			return nil, errBadQueue
		}
		q.size = uint16(m.u32(1))
	case setVringBase:
		q.next = uint16(m.u32(1))
	case setVringAddr:
		q.descAt, q.usedAt, q.availAt = m.u64(1), m.u64(2), m.u64(3)
	}
	return nil, nil
}

// events takes the files by which the guest is heard and told.
func (b *Backend) events(m *message) error {
	q, err := b.queueOf(m.u64(0) & queueIndex)
	if err != nil {
		return err
	}
	f := m.take()
	if (f == nil) != (m.u64(0)&noFile != 0) {
		if f != nil {
			f.Close()
		}
		return errNoFile
	}
	switch m.request {
	case setVringKick:
		return q.start(f)
	case setVringCall:
		q.setCall(f)
	default:
		if f != nil {
			f.Close() // nobody is told of errors: the queue just stops
		}
	}
	return nil
}
