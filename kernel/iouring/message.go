package iouring

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/vfs"
)

// SendFile is IORING_OP_MSG_RING with IORING_MSG_SEND_FD: it registers f, whose reference it takes over, in a slot, or in any that is free: which, 0
// for a slot that was named, and tells r's program with a completion if told is set. ENXIO, EINVAL, ENFILE, EBADFD; EOVERFLOW when the file has come and
// the completion has not.
func (r *Ring) SendFile(f *vfs.File, slot uint32, free bool, userData uint64, res int32, told bool) (n uint32, err error) {
	if r.Disabled() {
		f.DecRef()
		return 0, unix.EBADFD
	}
	if free {
		n, err = r.InstallFile(f)
	} else {
		err = r.SetFile(slot, f)
	}
	if err != nil {
		f.DecRef()
		return 0, err
	}
	if told {
		err = r.Post(userData, res)
	}
	return n, err
}

// Post is the completion that IORING_OP_MSG_RING sends: EOVERFLOW, EBADFD while the ring is disabled.
func (r *Ring) Post(userData uint64, res int32) error {
	if r.Disabled() {
		return unix.EBADFD
	}
	if !r.post(cqe{userData: userData, res: res}, false, true) {
		return unix.EOVERFLOW
	}
	return nil
}
