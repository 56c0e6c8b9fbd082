package hostfs

import (
	"sync"

	"golang.org/x/sys/unix"

	"gosv/internal/fuseabi"
)

// dirHandle is an open directory.
type dirHandle struct {
	mu  sync.Mutex
	n   *node  // guarded by mu
	fd  int    // guarded by mu; -1 when closed or nothing is shown
	at  uint64 // where the next entries are; guarded by mu
	end bool   // closed; guarded by mu
}

func (h *dirHandle) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.end {
		return
	}
	h.end = true
	if h.fd >= 0 {
		unix.Close(h.fd)
		h.fd = -1
	}
	h.n.drop()
}

func (s *Server) opendir(r *request) (*body, error) {
	n, err := s.nodes.get(r.node)
	if err != nil {
		return nil, err
	}
	h := &dirHandle{n: n, fd: -1}
	switch {
	case n.typ != unix.S_IFDIR:
		err = unix.ENOTDIR
	case !n.sealed:
		h.fd, err = unix.Open(n.path(), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		n.drop()
		return nil, err
	}
	id, err := s.enter(h)
	if err != nil {
		h.close()
		return nil, err
	}
	return &body{bytes: openOut(nil, id)}, nil
}

const (
	hostDirent = 19 // struct linux_dirent64 before the name
	fuseDirent = 24
	// listSize is how much of a directory is read at a time: the smallest entry grows most.
	listSize = 16 << 10
)

// readdir lists a directory, with plus and attributes.
func (s *Server) readdir(r *request, plus bool) (*body, error) {
	h, ok := s.handle(r.u64(0)).(*dirHandle)
	if !ok {
		return nil, unix.EBADF
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.end {
		return nil, unix.EBADF
	}
	if h.fd < 0 {
		return nil, nil
	}
	room := min(int(min(r.u32(16), mostData)), r.room)
	if off := r.u64(8); off != h.at {
		if _, err := unix.Seek(h.fd, int64(off), 0); err != nil {
			return nil, err
		}
		h.at = off
	}
	var out []byte
	buf := make([]byte, listSize)
	for {
		n, err := unix.Getdents(h.fd, buf)
		if err != nil {
			return nil, err
		}
		full := false
		if out, full = s.entries(h, buf[:n], out, room, plus); n == 0 || full {
			break
		}
	}
	if len(out) == 0 {
		return nil, nil
	}
	return &body{bytes: out}, nil
}

// entries appends entries of the host to a listing as long as there is room. When there is none it goes back to the first
// that is missing.
func (s *Server) entries(h *dirHandle, list, out []byte, room int, plus bool) (_ []byte, full bool) {
	for len(list) >= hostDirent {
		size := int(le.Uint16(list[16:]))
		name := unix.ByteSliceToString(list[hostDirent:size])
		ino, next, typ := le.Uint64(list), le.Uint64(list[8:]), list[18]
		list = list[size:]
		if h.n == s.root && s.only != "" && name != s.only {
			h.at = next
			continue
		}
		need := (fuseDirent + len(name) + 7) &^ 7
		if plus {
			need += fuseabi.EntrySize
		}
		if len(out)+need > room {
			_, _ = unix.Seek(h.fd, int64(h.at), 0) // if that fails the next listing goes there, and says so
			return out, true
		}
		if plus {
			out = s.plusEntry(h, name, out)
		}
		out = le.AppendUint64(out, s.ino(h, ino))
		out = le.AppendUint64(out, next)
		out = le.AppendUint32(out, uint32(len(name)))
		out = le.AppendUint32(out, uint32(typ))
		out = append(out, name...)
		for len(out)%8 != 0 {
			out = append(out, 0)
		}
		h.at = next
	}
	return out, false
}

// ino is the inode number of an entry as putAttr gives it, but for places where something is mounted.
func (s *Server) ino(h *dirHandle, ino uint64) uint64 {
	const inoBits = 48
	return ino ^ s.devs.index(h.n.key.dev)<<inoBits
}

// plusEntry appends what a lookup of name gives; nothing is known of . and .., and of what went meanwhile.
func (s *Server) plusEntry(h *dirHandle, name string, out []byte) []byte {
	if name != "." && name != ".." {
		if n, st, err := s.find(h.n, name); err == nil {
			return s.putEntry(out, n, st)
		}
	}
	return append(out, make([]byte, fuseabi.EntrySize)...)
}

func (s *Server) fsyncdir(r *request) (*body, error) {
	h, ok := s.handle(r.u64(0)).(*dirHandle)
	if !ok {
		return nil, unix.EBADF
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fd < 0 {
		return nil, nil
	}
	return nil, unix.Fsync(h.fd)
}
