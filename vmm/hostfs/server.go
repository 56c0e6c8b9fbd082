// Package hostfs serves a directory of the host to a guest as a FUSE file system (linux/fuse.h), for a virtio file system
// device: it answers one message after the other, as Handle is given them.
//
// The guest is hostile. It can name files only by what Lookup gave it, one component at a time: names with slashes, "." and
// ".." are refused, symbolic links are never followed (their text goes to the guest), and everything is opened beneath its parent (openat2(2),
// RESOLVE_BENEATH). What is no regular file or directory is never opened. File systems that show the host's kernel (proc, sysfs and their
// like) appear as empty directories, wherever they are mounted, and single files of them cannot be opened. A server that is read-only refuses each
// change itself. All counts and lengths that the guest causes are bounded.
//
// The server has the rights of its process, and no more. As root it gives new files to the user whom the
// guest names; else they are its own.
//
// Lock order: table.mu and Server.mu are leaves; dirHandle.mu is held while a directory is read.
package hostfs

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"gosv/internal/fuseabi"
)

// Config says what is served, and how.
type Config struct {
	Dir      string
	Only     string // the one entry of Dir that there is to see; "" for all
	ReadOnly bool
	// Valid is how long the guest may believe what it was told, without asking.
	Valid time.Duration
}

// Server serves one directory.
type Server struct {
	readOnly bool
	only     string
	valid    time.Duration
	root     *node // never forgotten
	rootFD   int   // readable
	umask    uint32
	owner    bool // new files are given to whom the guest names
	nodes    table
	devs     devices

	mu      sync.Mutex
	handles map[uint64]any // *fileHandle, *dirHandle; guarded by mu
	last    uint64         // handle given last; guarded by mu
}

// Most that a guest can make the server keep.
const (
	mostNodes   = 1 << 19
	mostHandles = 1 << 16
)

// New opens the directory.
func New(c Config) (*Server, error) {
	if _, err := os.Stat("/proc/self/fd"); err != nil {
		return nil, fmt.Errorf("sharing a directory needs /proc: %w", err)
	}
	fd, err := unix.Open(c.Dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: c.Dir, Err: err}
	}
	path, err := unix.Open(c.Dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		unix.Close(fd)
		return nil, &os.PathError{Op: "open", Path: c.Dir, Err: err}
	}
	s := &Server{readOnly: c.ReadOnly, only: c.Only, valid: c.Valid, rootFD: fd, umask: umask(), owner: os.Geteuid() == 0, handles: map[uint64]any{}}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if err == nil && showsKernel(path) {
		err = errors.New("that file system shows the kernel of this machine, and is not shared")
	}
	if err != nil {
		unix.Close(fd)
		unix.Close(path)
		return nil, &os.PathError{Op: "share", Path: c.Dir, Err: err}
	}
	s.devs.index(st.Dev)
	s.root = s.nodes.init(path, &st)
	return s, nil
}

// Close closes all files. No Handle may be under way.
func (s *Server) Close() {
	s.reset()
	s.nodes.clear()
	s.root.drop()
	unix.Close(s.rootFD)
}

// reset closes the handles.
func (s *Server) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range s.handles {
		switch h := h.(type) {
		case *fileHandle:
			h.drop()
		case *dirHandle:
			h.close()
		}
	}
	clear(s.handles)
}

// umask returns the process's file mode creation mask, which umask(2) would change for a moment.
func umask() uint32 {
	b, _ := os.ReadFile("/proc/self/status") // without it, the usual mask
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "Umask:"); ok {
			if n, err := strconv.ParseUint(strings.TrimSpace(v), 8, 32); err == nil {
				return uint32(n)
			}
		}
	}
	return 0o022
}

// request is a message, taken apart.
type request struct {
	op       uint32
	unique   uint64
	node     uint64
	uid, gid uint32
	args     []byte   // a copy: the guest may change its own
	data     [][]byte // what lies behind the arguments that the operation has, in the guest's memory
	room     int      // bytes that the reply may have behind its header
	out      [][]byte // for that, in the guest's memory
}

const (
	inHeader  = 40
	outHeader = 16
	// mostArgs is how much of a message is looked at: two names, or an extended attribute.
	mostArgs = 72 << 10
)

// Handle answers one message: it reads readable, writes the reply to writable, and returns its length. Calls run side by side.
func (s *Server) Handle(readable, writable [][]byte) uint32 {
	var head [inHeader]byte
	if gather(head[:], readable) < inHeader {
		return 0
	}
	r := &request{op: le.Uint32(head[4:]), unique: le.Uint64(head[8:]), node: le.Uint64(head[16:]), uid: le.Uint32(head[24:]), gid: le.Uint32(head[28:])}
	total := length(readable)
	if uint64(le.Uint32(head[:])) > uint64(total) || le.Uint32(head[:]) < inHeader {
		return s.reply(r, writable, nil, unix.EINVAL)
	}
	body := cut(readable, inHeader, int(le.Uint32(head[:]))-inHeader)
	fixed := mostArgs
	if r.op == fuseabi.OpWrite {
		fixed = fuseabi.WriteInSize
	}
	r.args = make([]byte, min(length(body), fixed))
	gather(r.args, body)
	r.data = cut(body, len(r.args), math.MaxInt)
	if total := length(writable); total >= outHeader {
		r.out = cut(writable, outHeader, math.MaxInt)
		r.room = total - outHeader
	}
	switch r.op {
	case fuseabi.OpForget, fuseabi.OpBatchForget:
		s.forget(r)
		return 0
	}
	b, err := s.do(r)
	return s.reply(r, writable, b, err)
}

// body is the reply to a request behind its header: bytes, or how many were put into the guest's memory already.
type body struct {
	bytes []byte
	put   int
}

func (s *Server) reply(r *request, writable [][]byte, b *body, err error) uint32 {
	var e unix.Errno
	switch {
	case err == nil:
	case !errors.As(err, &e):
		e = unix.EIO
	}
	if length(writable) < outHeader {
		return 0
	}
	n := 0
	if e == 0 && b != nil {
		if n = len(b.bytes) + b.put; n > r.room {
			n, e = 0, unix.EIO
		}
	}
	if e != 0 {
		n = 0
	}
	head := le.AppendUint32(nil, uint32(outHeader+n))
	head = le.AppendUint32(head, uint32(-int32(e)))
	head = le.AppendUint64(head, r.unique)
	if n > 0 {
		head = append(head, b.bytes...)
	}
	scatter(writable, head)
	return uint32(outHeader + n)
}

// length returns the number of bytes in pieces.
func length(list [][]byte) (n int) {
	for _, b := range list {
		n += len(b)
	}
	return n
}

// gather copies from pieces and returns how many bytes there were.
func gather(dst []byte, list [][]byte) (n int) {
	for _, b := range list {
		n += copy(dst[n:], b)
	}
	return n
}

// scatter copies src into pieces.
func scatter(list [][]byte, src []byte) {
	for _, b := range list {
		src = src[copy(b, src):]
	}
}

// cut returns at most n bytes of pieces behind the first off.
func cut(list [][]byte, off, n int) (part [][]byte) {
	for _, b := range list {
		if off >= len(b) {
			off -= len(b)
			continue
		}
		b = b[off:]
		off = 0
		b = b[:min(len(b), n)]
		if n -= len(b); len(b) > 0 {
			part = append(part, b)
		}
	}
	return part
}

// names cuts the arguments behind off into n names, each with its NUL.
func (r *request) names(off, n int) ([]string, error) {
	if off > len(r.args) {
		return nil, unix.EINVAL
	}
	rest := string(r.args[off:])
	var list []string
	for range n {
		name, behind, ok := strings.Cut(rest, "\x00")
		if !ok {
			return nil, unix.EINVAL
		}
		list, rest = append(list, name), behind
	}
	return list, nil
}

// entryNames is names, all of which must be those of directory entries.
func (r *request) entryNames(off, n int) ([]string, error) {
	list, err := r.names(off, n)
	if err != nil {
		return nil, err
	}
	for _, name := range list {
		switch {
		case len(name) > nameMax:
			return nil, unix.ENAMETOOLONG
		case name == "" || name == "." || name == ".." || strings.IndexByte(name, '/') >= 0:
			return nil, unix.EINVAL
		}
	}
	return list, nil
}

const nameMax = 255

func (r *request) u32(off int) uint32 { return le.Uint32(r.args[off:]) }
func (r *request) u64(off int) uint64 { return le.Uint64(r.args[off:]) }

// operation answers one kind of request. least is how long its arguments are at least; changes says that
// it is none for a read-only server.
type operation struct {
	least   int
	changes bool
	do      func(s *Server, r *request) (*body, error)
}

// do answers a request.
func (s *Server) do(r *request) (*body, error) {
	o, ok := operations[r.op]
	switch {
	case !ok:
		return nil, unix.ENOSYS
	case len(r.args) < o.least:
		return nil, unix.EINVAL
	case o.changes && s.readOnly:
		return nil, unix.EROFS
	}
	return o.do(s, r)
}
