package abi

import "golang.org/x/sys/unix"

// Sizes of the structures for files.
const (
	SizeofStat       = 144
	SizeofStatx      = 256
	SizeofStatfs     = 120
	SizeofIovec      = 16
	SizeofPollFd     = 8
	SizeofEpollEvent = 12
	SizeofFlock      = 32
	SizeofOpenHow    = 24
	SizeofFOwnerEx   = 8
)

// PutStat writes struct stat.
func PutStat(b []byte, s *unix.Stat_t) {
	b = b[:SizeofStat]
	clear(b[:SizeofStat])
	put64(b, 0, s.Dev)
	put64(b, 8, s.Ino)
	put64(b, 16, s.Nlink)
	put32(b, 24, s.Mode)
	put32(b, 28, s.Uid)
	put32(b, 32, s.Gid)
	put64(b, 40, s.Rdev)
	put64(b, 48, uint64(s.Size))
	put64(b, 56, uint64(s.Blksize))
	put64(b, 64, uint64(s.Blocks))
	PutTimespec(b[72:], s.Atim)
	PutTimespec(b[88:], s.Mtim)
	PutTimespec(b[104:], s.Ctim)
}

// GetStat reads struct stat.
func GetStat(b []byte) unix.Stat_t {
	b = b[:SizeofStat]
	return unix.Stat_t{
		Dev: get64(b, 0), Ino: get64(b, 8), Nlink: get64(b, 16), Mode: get32(b, 24),
		Uid: get32(b, 28), Gid: get32(b, 32), Rdev: get64(b, 40), Size: int64(get64(b, 48)),
		Blksize: int64(get64(b, 56)), Blocks: int64(get64(b, 64)),
		Atim: GetTimespec(b[72:]), Mtim: GetTimespec(b[88:]), Ctim: GetTimespec(b[104:]),
	}
}

// PutStatx writes struct statx.
func PutStatx(b []byte, s *unix.Statx_t) {
	b = b[:SizeofStatx]
	clear(b[:SizeofStatx])
	put32(b, 0, s.Mask)
	put32(b, 4, s.Blksize)
	put64(b, 8, s.Attributes)
	put32(b, 16, s.Nlink)
	put32(b, 20, s.Uid)
	put32(b, 24, s.Gid)
	le.PutUint16(b[28:], s.Mode)
	put64(b, 32, s.Ino)
	put64(b, 40, s.Size)
	put64(b, 48, s.Blocks)
	put64(b, 56, s.Attributes_mask)
	for i, t := range [...]unix.StatxTimestamp{s.Atime, s.Btime, s.Ctime, s.Mtime} {
		put64(b, 64+16*i, uint64(t.Sec))
		put32(b, 72+16*i, t.Nsec)
	}
	put32(b, 128, s.Rdev_major)
	put32(b, 132, s.Rdev_minor)
	put32(b, 136, s.Dev_major)
	put32(b, 140, s.Dev_minor)
	put64(b, 144, s.Mnt_id)
	put32(b, 152, s.Dio_mem_align)
	put32(b, 156, s.Dio_offset_align)
}

// PutStatfs writes struct statfs.
func PutStatfs(b []byte, s *unix.Statfs_t) {
	b = b[:SizeofStatfs]
	clear(b[:SizeofStatfs])
	put64(b, 0, uint64(s.Type))
	put64(b, 8, uint64(s.Bsize))
	put64(b, 16, s.Blocks)
	put64(b, 24, s.Bfree)
	put64(b, 32, s.Bavail)
	put64(b, 40, s.Files)
	put64(b, 48, s.Ffree)
	put32(b, 56, uint32(s.Fsid.Val[0]))
	put32(b, 60, uint32(s.Fsid.Val[1]))
	put64(b, 64, uint64(s.Namelen))
	put64(b, 72, uint64(s.Frsize))
	put64(b, 80, uint64(s.Flags))
}

// Iovec is struct iovec: Len bytes at user address Base.
type Iovec struct{ Base, Len uint64 }

// GetIovec reads struct iovec.
func GetIovec(b []byte) Iovec { return Iovec{get64(b, 0), get64(b, 8)} }

// GetPollFd reads struct pollfd.
func GetPollFd(b []byte) unix.PollFd {
	b = b[:SizeofPollFd]
	return unix.PollFd{Fd: int32(get32(b, 0)), Events: int16(le.Uint16(b[4:])), Revents: int16(le.Uint16(b[6:]))}
}

// PutPollFd writes struct pollfd.
func PutPollFd(b []byte, p unix.PollFd) {
	b = b[:SizeofPollFd]
	put32(b, 0, uint32(p.Fd))
	le.PutUint16(b[4:], uint16(p.Events))
	le.PutUint16(b[6:], uint16(p.Revents))
}

// EpollEvent is struct epoll_event, packed on x86-64.
type EpollEvent struct {
	Events uint32
	Data   uint64
}

// GetEpollEvent reads struct epoll_event.
func GetEpollEvent(b []byte) EpollEvent { return EpollEvent{get32(b, 0), get64(b, 4)} }

// PutEpollEvent writes struct epoll_event.
func PutEpollEvent(b []byte, e EpollEvent) {
	b = b[:SizeofEpollEvent]
	put32(b, 0, e.Events)
	put64(b, 4, e.Data)
}

// GetFlock reads struct flock.
func GetFlock(b []byte) unix.Flock_t {
	b = b[:SizeofFlock]
	return unix.Flock_t{
		Type: int16(le.Uint16(b)), Whence: int16(le.Uint16(b[2:])),
		Start: int64(get64(b, 8)), Len: int64(get64(b, 16)), Pid: int32(get32(b, 24)),
	}
}

// PutFlock writes struct flock.
func PutFlock(b []byte, l unix.Flock_t) {
	b = b[:SizeofFlock]
	clear(b[:SizeofFlock])
	le.PutUint16(b, uint16(l.Type))
	le.PutUint16(b[2:], uint16(l.Whence))
	put64(b, 8, uint64(l.Start))
	put64(b, 16, uint64(l.Len))
	put32(b, 24, uint32(l.Pid))
}

// GetOpenHow reads struct open_how.
func GetOpenHow(b []byte) unix.OpenHow {
	b = b[:SizeofOpenHow]
	return unix.OpenHow{Flags: get64(b, 0), Mode: get64(b, 8), Resolve: get64(b, 16)}
}

// FOwnerEx is struct f_owner_ex.
type FOwnerEx struct{ Type, PID int32 }

// GetFOwnerEx reads struct f_owner_ex.
func GetFOwnerEx(b []byte) FOwnerEx { return FOwnerEx{int32(get32(b, 0)), int32(get32(b, 4))} }

// PutFOwnerEx writes struct f_owner_ex.
func PutFOwnerEx(b []byte, o FOwnerEx) {
	b = b[:SizeofFOwnerEx]
	put32(b, 0, uint32(o.Type))
	put32(b, 4, uint32(o.PID))
}

// Events of poll(2) that golang.org/x/sys/unix lacks; the EPOLL constants have the same values.
const (
	POLLRDNORM = unix.EPOLLRDNORM
	POLLRDBAND = unix.EPOLLRDBAND
	POLLWRNORM = unix.EPOLLWRNORM
	POLLWRBAND = unix.EPOLLWRBAND
)
