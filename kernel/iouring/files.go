package iouring

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/task"
	"gosv/kernel/vfs"
)

// maxFiles is how many files may be registered.
const maxFiles = 1 << 15

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
