package hostfs

import (
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gosv/internal/fuseabi"
)

// fileHandle is an open regular file. The number that the guest has holds it, and so does each request under way: one request may
// name it twice (copy_file_range), and the guest may release it meanwhile.
type fileHandle struct {
	fd    int
	holds atomic.Int32
}

// drop ends a hold; the last closes the file.
func (h *fileHandle) drop() {
	if h.holds.Add(-1) == 0 {
		unix.Close(h.fd)
	}
}

// enter gives an open file or directory a number: ENFILE.
func (s *Server) enter(h any) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.handles) >= mostHandles {
		return 0, unix.ENFILE
	}
	s.last++
	s.handles[s.last] = h
	return s.last, nil
}

func (s *Server) handle(id uint64) any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.handles[id]
}

// file returns an open file with a hold, which drop ends: EBADF.
func (s *Server) file(id uint64) (*fileHandle, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h, ok := s.handles[id].(*fileHandle)
	if !ok {
		return nil, unix.EBADF
	}
	h.holds.Add(1)
	return h, nil
}

// flags that a guest may open with. O_DIRECT is not among them: the host's cache is what the guest's O_DIRECT goes to. O_APPEND
// comes with each WRITE, for it can change.
const openFlags = unix.O_ACCMODE | unix.O_TRUNC | unix.O_SYNC | unix.O_DSYNC | unix.O_NOATIME

// mayOpen checks flags: EROFS, EINVAL.
func (s *Server) mayOpen(flags uint32) (int, error) {
	if flags&unix.O_ACCMODE == unix.O_ACCMODE {
		return 0, unix.EINVAL
	}
	if s.readOnly && flags&(unix.O_ACCMODE|unix.O_TRUNC) != 0 {
		return 0, unix.EROFS
	}
	return int(flags & openFlags), nil
}

// openOut is struct fuse_open_out.
func openOut(b []byte, fh uint64) []byte {
	b = le.AppendUint64(b, fh)
	return le.AppendUint32(le.AppendUint32(b, fuseabi.OpenKeepCache), 0)
}

func (s *Server) open(r *request) (*body, error) {
	flags, err := s.mayOpen(r.u32(0))
	if err != nil {
		return nil, err
	}
	n, err := s.nodes.get(r.node)
	if err != nil {
		return nil, err
	}
	defer n.drop()
	if n.typ != unix.S_IFREG {
		return nil, unix.ENXIO
	}
	return s.opened(n, flags, nil)
}

// opened opens the regular file n; the reply begins with head.
func (s *Server) opened(n *node, flags int, head []byte) (*body, error) {
	if n.sealed {
		return nil, unix.EACCES
	}
	fd, err := unix.Open(n.path(), flags|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err == unix.EPERM && flags&unix.O_NOATIME != 0 {
		fd, err = unix.Open(n.path(), flags&^unix.O_NOATIME|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	}
	if err != nil {
		return nil, err
	}
	return s.openedFD(fd, head)
}

func (s *Server) openedFD(fd int, head []byte) (*body, error) {
	h := &fileHandle{fd: fd}
	h.holds.Store(1)
	id, err := s.enter(h)
	if err != nil {
		h.drop()
		return nil, err
	}
	return &body{bytes: openOut(head, id)}, nil
}

func (s *Server) create(r *request) (*body, error) {
	flags, err := s.mayOpen(r.u32(0))
	if err != nil {
		return nil, err
	}
	mode := r.u32(4) & 0o7777
	d, name, err := s.dir(r, 16)
	if err != nil {
		return nil, err
	}
	defer d.drop()
	how := unix.OpenHow{
		Flags: uint64(flags|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC) | unix.O_NONBLOCK, Mode: uint64(mode),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	}
	fd, err := unix.Openat2(d.fd, name, &how)
	if err == unix.EEXIST && r.u32(0)&unix.O_EXCL == 0 {
		return s.createOpen(d, name, flags)
	}
	if err != nil {
		return nil, err
	}
	b, err := s.made(r, d, name, mode, 0)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return s.openedFD(fd, b.bytes)
}

// createOpen opens what is there already.
func (s *Server) createOpen(d *node, name string, flags int) (*body, error) {
	n, st, err := s.find(d, name)
	if err != nil {
		return nil, err
	}
	if n.typ != unix.S_IFREG {
		err = unix.EEXIST
	}
	var b *body
	if err == nil {
		b, err = s.opened(n, flags, s.putEntry(nil, n, st))
	}
	if err != nil {
		s.nodes.forget(n.id, 1)
	}
	return b, err
}

// tmpfile makes a file without a name (O_TMPFILE).
func (s *Server) tmpfile(r *request) (*body, error) {
	flags, err := s.mayOpen(r.u32(0) &^ unix.O_TMPFILE)
	if err != nil {
		return nil, err
	}
	d, err := s.nodes.get(r.node)
	if err != nil {
		return nil, err
	}
	defer d.drop()
	if d.typ != unix.S_IFDIR || d.sealed || d == s.root && s.only != "" {
		return nil, unix.EACCES
	}
	mode := r.u32(4) & 0o7777
	excl := int(r.u32(0) & unix.O_EXCL)
	fd, err := unix.Open(d.path(), flags|excl|unix.O_TMPFILE|unix.O_CLOEXEC, mode)
	if err != nil {
		return nil, err
	}
	n, st, err := s.adopt(fd)
	if err == nil {
		err = s.own(n, st, r, mode)
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return s.openedFD(fd, s.putEntry(nil, n, st))
}

// adopt makes a node of an open file.
func (s *Server) adopt(fd int) (*node, *unix.Stat_t, error) {
	var st unix.Stat_t
	path, err := unix.Open(fdPath(fd), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	if err := unix.Fstat(path, &st); err != nil {
		unix.Close(path)
		return nil, nil, err
	}
	n, err := s.nodes.add(path, &st, false)
	return n, &st, err
}

func (s *Server) release(r *request) (*body, error) {
	s.mu.Lock()
	h := s.handles[r.u64(0)]
	delete(s.handles, r.u64(0))
	s.mu.Unlock()
	switch h := h.(type) {
	case *fileHandle:
		h.drop()
	case *dirHandle:
		h.close()
	default:
		return nil, unix.EBADF
	}
	return nil, nil
}

// read reads into the guest's memory.
func (s *Server) read(r *request) (*body, error) {
	h, err := s.file(r.u64(0))
	if err != nil {
		return nil, err
	}
	defer h.drop()
	n := min(int64(r.u32(16)), mostData, int64(r.room))
	off := int64(r.u64(8))
	if off < 0 {
		return nil, unix.EINVAL
	}
	list := cut(r.out, 0, int(n))
	got, err := unix.Preadv(h.fd, list, off)
	if err != nil {
		return nil, err
	}
	return &body{put: got}, nil
}

// write writes from the guest's memory.
func (s *Server) write(r *request) (*body, error) {
	h, err := s.file(r.u64(0))
	if err != nil {
		return nil, err
	}
	defer h.drop()
	off, n := int64(r.u64(8)), int(r.u32(16))
	if off < 0 || n > mostData || length(r.data) < n {
		return nil, unix.EINVAL
	}
	how := 0
	if r.u32(32)&unix.O_APPEND != 0 && r.u32(20)&fuseabi.WriteCache == 0 {
		how = unix.RWF_APPEND
	}
	done := 0
	for done < n {
		got, err := unix.Pwritev2(h.fd, cut(r.data, done, n-done), off+int64(done), how)
		if err != nil && done == 0 {
			return nil, err
		}
		if err != nil || got == 0 {
			break
		}
		done += got
	}
	return &body{bytes: le.AppendUint64(nil, uint64(done))}, nil
}

func (s *Server) fsync(r *request) (*body, error) {
	h, err := s.file(r.u64(0))
	if err != nil {
		return nil, err
	}
	defer h.drop()
	if r.u32(8)&fuseabi.FsyncDatasync != 0 {
		return nil, unix.Fdatasync(h.fd)
	}
	return nil, unix.Fsync(h.fd)
}

func (s *Server) fallocate(r *request) (*body, error) {
	h, err := s.file(r.u64(0))
	if err != nil {
		return nil, err
	}
	defer h.drop()
	return nil, unix.Fallocate(h.fd, r.u32(24), int64(r.u64(8)), int64(r.u64(16)))
}

func (s *Server) lseek(r *request) (*body, error) {
	h, err := s.file(r.u64(0))
	if err != nil {
		return nil, err
	}
	defer h.drop()
	whence := int(r.u32(16))
	if whence != unix.SEEK_DATA && whence != unix.SEEK_HOLE {
		return nil, unix.EINVAL
	}
	// Nothing else uses the descriptor's position.
	off, err := unix.Seek(h.fd, int64(r.u64(8)), whence)
	if err != nil {
		return nil, err
	}
	return &body{bytes: le.AppendUint64(nil, uint64(off))}, nil
}

func (s *Server) copyFileRange(r *request) (*body, error) {
	in, err := s.file(r.u64(0))
	if err != nil {
		return nil, err
	}
	defer in.drop()
	out, err := s.file(r.u64(24))
	if err != nil {
		return nil, err
	}
	defer out.drop()
	from, to := int64(r.u64(8)), int64(r.u64(32))
	if from < 0 || to < 0 {
		return nil, unix.EINVAL
	}
	const most = 1 << 30
	n, err := unix.CopyFileRange(in.fd, &from, out.fd, &to, int(min(r.u64(40), most)), 0)
	if err != nil {
		return nil, err
	}
	return &body{bytes: le.AppendUint64(nil, uint64(n))}, nil
}
