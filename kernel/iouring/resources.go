package iouring

import (
	"sync"

	"golang.org/x/sys/unix"

	"gosv/kernel/task"
	"gosv/kernel/vfs"
)

// The most that may be registered.
const (
	maxFiles   = 1 << 15
	maxBuffers = 1 << 14
	maxGroups  = 1 << 16
	maxGroup   = 1 << 16
)

// resources are what io_uring_register(2) and IORING_OP_PROVIDE_BUFFERS give a ring.
type resources struct {
	mu      sync.Mutex
	files   []*vfs.File       // nil: none registered; guarded by mu
	from    uint32            // the range that a direct descriptor is taken from; guarded by mu
	to      uint32            // guarded by mu
	buffers []Range           // guarded by mu
	groups  map[uint16]*group // guarded by mu
}

func (s *resources) release() {
	s.mu.Lock()
	files := s.files
	s.files, s.buffers, s.groups = nil, nil, nil
	s.mu.Unlock()
	for _, f := range files {
		if f != nil {
			f.DecRef()
		}
	}
}

// file returns a file with a reference: EBADF.
func (s *resources) file(t *task.Task, fd int32, fixed bool) (*vfs.File, error) {
	if !fixed {
		f, err := t.Files.Get(int(fd))
		if err == nil && f.PathOnly() {
			f.DecRef()
			return nil, unix.EBADF
		}
		return f, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if uint32(fd) >= uint32(len(s.files)) || s.files[fd] == nil {
		return nil, unix.EBADF
	}
	s.files[fd].IncRef()
	return s.files[fd], nil
}

// Held lists the registered files, for the search for circles of files in flight (afunix.Holder).
func (r *Ring) Held() (list []*vfs.File) {
	s := &r.res
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.files {
		if f != nil {
			list = append(list, f)
		}
	}
	return list
}

// File returns a registered file with a reference: EBADF.
func (r *Ring) File(slot int32) (*vfs.File, error) { return r.res.file(nil, slot, true) }

// RegisterFiles makes files, whose references it takes over when it succeeds, the registered ones; nil is a free slot. EBUSY, EMFILE.
func (r *Ring) RegisterFiles(files []*vfs.File) error {
	s := &r.res
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.files != nil:
		return unix.EBUSY
	case len(files) > maxFiles:
		return unix.EMFILE
	}
	s.files, s.from, s.to = files, 0, uint32(len(files))
	return nil
}

// UnregisterFiles undoes RegisterFiles: ENXIO.
func (r *Ring) UnregisterFiles() error {
	s := &r.res
	s.mu.Lock()
	files := s.files
	s.files = nil
	s.mu.Unlock()
	if files == nil {
		return unix.ENXIO
	}
	for _, f := range files {
		if f != nil {
			f.DecRef()
		}
	}
	return nil
}

// SetAllocRange says which slots InstallFile may choose: EINVAL, EOVERFLOW.
func (r *Ring) SetAllocRange(off, n uint32) error {
	s := &r.res
	s.mu.Lock()
	defer s.mu.Unlock()
	if off+n < off {
		return unix.EOVERFLOW
	}
	if off+n > uint32(len(s.files)) {
		return unix.EINVAL
	}
	s.from, s.to = off, off+n
	return nil
}

// CheckSlots sees to it that there are the n slots from slot on: ENXIO, EOVERFLOW, EINVAL.
func (r *Ring) CheckSlots(slot, n uint32) error {
	s := &r.res
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.files == nil:
		return unix.ENXIO
	case slot+n < slot:
		return unix.EOVERFLOW
	case slot+n > uint32(len(s.files)):
		return unix.EINVAL
	}
	return nil
}

// SetFile puts f, whose reference it takes over, or nothing into a slot: ENXIO, EINVAL.
func (r *Ring) SetFile(slot uint32, f *vfs.File) error {
	s := &r.res
	s.mu.Lock()
	if s.files == nil {
		s.mu.Unlock()
		return unix.ENXIO
	}
	if slot >= uint32(len(s.files)) {
		s.mu.Unlock()
		return unix.EINVAL
	}
	old := s.files[slot]
	s.files[slot] = f
	s.mu.Unlock()
	if old != nil {
		old.DecRef()
	}
	return nil
}

// CloseFile empties a slot that is in use: ENXIO, EINVAL, EBADF.
func (r *Ring) CloseFile(slot uint32) error {
	s := &r.res
	s.mu.Lock()
	var err error
	switch {
	case s.files == nil:
		err = unix.ENXIO
	case slot >= uint32(len(s.files)):
		err = unix.EINVAL
	case s.files[slot] == nil:
		err = unix.EBADF
	}
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return r.SetFile(slot, nil)
}

// InstallFile is SetFile for a free slot, which it returns: ENFILE.
func (r *Ring) InstallFile(f *vfs.File) (uint32, error) {
	s := &r.res
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := s.from; i < s.to && i < uint32(len(s.files)); i++ {
		if s.files[i] == nil {
			s.files[i] = f
			return i, nil
		}
	}
	return 0, unix.ENFILE
}

// RegisterBuffers is IORING_REGISTER_BUFFERS: EBUSY, EINVAL.
func (r *Ring) RegisterBuffers(list []Range) error {
	s := &r.res
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.buffers != nil:
		return unix.EBUSY
	case len(list) == 0 || len(list) > maxBuffers:
		return unix.EINVAL
	}
	s.buffers = list
	return nil
}

// UnregisterBuffers undoes RegisterBuffers: ENXIO.
func (r *Ring) UnregisterBuffers() error {
	s := &r.res
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.buffers == nil {
		return unix.ENXIO
	}
	s.buffers = nil
	return nil
}

// CheckBuffer sees to it that n bytes at addr lie in a registered buffer: EFAULT.
func (r *Ring) CheckBuffer(index uint16, addr, n uint64) error {
	s := &r.res
	s.mu.Lock()
	defer s.mu.Unlock()
	if int(index) >= len(s.buffers) {
		return unix.EFAULT
	}
	b := s.buffers[index]
	if addr < b.Addr || n > b.Len || addr-b.Addr > b.Len-n {
		return unix.EFAULT
	}
	return nil
}

// group is a group of provided buffers: a list, or a ring that the program fills.
type group struct {
	list []Buffer // of a ring: those that were given back

	ring    uint64 // address, 0 for a list
	entries uint32
	head    uint16
}

// A Buffer is a provided buffer.
type Buffer struct {
	Addr uint64
	Len  uint32
	ID   uint16
}

// Limit makes b n bytes long, if it is longer.
func (b *Buffer) Limit(n uint64) { b.Len = uint32(min(uint64(b.Len), n)) }

// Provide adds n buffers of length bytes each, one behind the other from addr on, with IDs from id on: ENOMEM, EINVAL.
func (r *Ring) Provide(gid uint16, addr uint64, length uint32, id uint16, n int) error {
	s := &r.res
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.groups[gid]
	if g == nil {
		if s.groups == nil {
			s.groups = make(map[uint16]*group)
		}
		g = &group{}
		s.groups[gid] = g
	}
	if g.ring != 0 {
		return unix.EINVAL
	}
	if len(g.list)+n > maxGroup {
		return unix.ENOMEM
	}
	for i := range n {
		g.list = append(g.list, Buffer{addr + uint64(i)*uint64(length), length, id + uint16(i)})
	}
	return nil
}

// Unprovide takes up to n buffers back and returns how many: ENOENT, EINVAL.
func (r *Ring) Unprovide(gid uint16, n int) (uint64, error) {
	s := &r.res
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.groups[gid]
	switch {
	case g == nil:
		return 0, unix.ENOENT
	case g.ring != 0:
		return 0, unix.EINVAL
	}
	n = min(n, len(g.list))
	if g.list = g.list[n:]; len(g.list) == 0 {
		delete(s.groups, gid)
	}
	return uint64(n), nil
}

// RegisterGroup makes a ring of entries buffers at addr the group gid: EINVAL, EEXIST.
func (r *Ring) RegisterGroup(gid uint16, addr uint64, entries uint32) error {
	if addr == 0 || addr&4095 != 0 || entries == 0 || entries&(entries-1) != 0 || entries >= maxGroup {
		return unix.EINVAL
	}
	s := &r.res
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.groups[gid]; g != nil && (g.ring != 0 || len(g.list) > 0) {
		return unix.EEXIST
	}
	if s.groups == nil {
		s.groups = make(map[uint16]*group)
	}
	s.groups[gid] = &group{ring: addr, entries: entries}
	return nil
}

// UnregisterGroup undoes RegisterGroup: ENOENT, EINVAL.
func (r *Ring) UnregisterGroup(gid uint16) error {
	s := &r.res
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.groups[gid]
	switch {
	case g == nil:
		return unix.ENOENT
	case g.ring == 0:
		return unix.EINVAL
	}
	delete(s.groups, gid)
	return nil
}

// sizeofBuf is the size of a struct io_uring_buf; the tail lies in what the first has reserved.
const (
	sizeofBuf = 16
	bufTail   = 12
)

// Select takes a buffer of a group: ENOBUFS, EFAULT. Unselect gives it back.
func (r *Ring) Select(t *task.Task, gid uint16) (b Buffer, err error) {
	s := &r.res
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.groups[gid]
	if g == nil {
		return b, unix.ENOBUFS
	}
	if len(g.list) > 0 {
		b = g.list[0]
		g.list = g.list[1:]
		return b, nil
	}
	if g.ring == 0 {
		return b, unix.ENOBUFS
	}
	v, err := t.Mem().Load32(g.ring + bufTail)
	if err != nil {
		return b, err
	}
	if uint16(v>>16) == g.head {
		return b, unix.ENOBUFS
	}
	at := g.ring + sizeofBuf*uint64(uint32(g.head)&(g.entries-1))
	b.Addr, err = t.Mem().Load64(at)
	if err == nil {
		v, err = t.Mem().Load32(at + 8)
		b.Len = v
	}
	if err == nil {
		v, err = t.Mem().Load32(at + 12)
		b.ID = uint16(v)
	}
	if err == nil {
		g.head++
	}
	return b, err
}

// Unselect gives back what Select took. Another request may have taken the next one of a ring meanwhile.
func (r *Ring) Unselect(gid uint16, b Buffer) {
	s := &r.res
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.groups[gid]; g != nil && len(g.list) < maxGroup {
		g.list = append([]Buffer{b}, g.list...)
	}
}

// Restrictions are what IORING_REGISTER_RESTRICTIONS allows.
type Restrictions struct {
	Register         map[uint8]bool
	Ops              map[uint8]bool
	Allowed          uint8
	Required         uint8
	OpsUsed, RegUsed bool
}

// Restrict sets restrictions while the ring is disabled: EBADFD, EBUSY.
func (r *Ring) Restrict(l *Restrictions) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case !r.disabled:
		return unix.EBADFD
	case r.limits != nil:
		return unix.EBUSY
	}
	r.limits = l
	return nil
}

// Enable is IORING_REGISTER_ENABLE_RINGS: EBADFD.
func (r *Ring) Enable(t *task.Task) error {
	r.Own(t)
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.disabled {
		return unix.EBADFD
	}
	r.disabled = false
	return nil
}

// Disabled reports whether the ring waits for Enable.
func (r *Ring) Disabled() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.disabled
}

// MayRegister applies the restrictions to io_uring_register(2): EACCES.
func (r *Ring) MayRegister(op uint8) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.disabled && r.limits != nil && !r.limits.Register[op] {
		return unix.EACCES
	}
	return nil
}

// restricted applies the restrictions to a submission: EACCES.
func (r *Ring) restricted(s *SQE) error {
	r.mu.Lock()
	l := r.limits
	r.mu.Unlock()
	if l == nil {
		return nil
	}
	if !l.Ops[s.Opcode] || s.Flags&l.Required != l.Required || s.Flags&^(l.Allowed|l.Required) != 0 {
		return unix.EACCES
	}
	return nil
}
