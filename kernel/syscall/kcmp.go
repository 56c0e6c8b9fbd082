package syscall

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/task"
	"gosv/kernel/vfs"
)

// What kcmp(2) compares.
const (
	kcmpFile = iota
	kcmpVM
	kcmpFiles
	kcmpFS
	kcmpSighand
	kcmpIO
	kcmpSysvsem
)

var kcmpNames = []flagName{
	{kcmpFile, "KCMP_FILE"}, {kcmpVM, "KCMP_VM"}, {kcmpFiles, "KCMP_FILES"}, {kcmpFS, "KCMP_FS"},
	{kcmpSighand, "KCMP_SIGHAND"}, {kcmpIO, "KCMP_IO"}, {kcmpSysvsem, "KCMP_SYSVSEM"},
}

// kcmpOther is the result for two that differ: objects of the kernel have no order here.
const kcmpOther = 3

// sysKcmp is kcmp(2): EBADF, EINVAL, EPERM, ESRCH.
func sysKcmp(t *task.Task, pid1, pid2, what int32, idx1, idx2 uint64) (uint64, error) {
	a, b := t.Kernel().Task(pid1), t.Kernel().Task(pid2)
	if a == nil || b == nil {
		return 0, unix.ESRCH
	}
	for _, o := range []*task.Task{a, b} {
		if err := t.MayAccess(o.Process()); err != nil {
			return 0, err
		}
	}
	same := false
	switch what {
	case kcmpFile:
		f, err := fileOf(a, idx1)
		if err != nil {
			return 0, err
		}
		defer f.DecRef()
		g, err := fileOf(b, idx2)
		if err != nil {
			return 0, err
		}
		defer g.DecRef()
		same = f == g
	case kcmpVM, kcmpFiles, kcmpFS, kcmpSighand:
		same = a.Shares(b, map[int32]uint64{kcmpVM: unix.CLONE_VM, kcmpFiles: unix.CLONE_FILES, kcmpFS: unix.CLONE_FS, kcmpSighand: unix.CLONE_SIGHAND}[what])
	case kcmpIO, kcmpSysvsem: // each process has its own
		same = a.Process() == b.Process()
	default: // KCMP_EPOLL_TFD too
		return 0, unix.EINVAL
	}
	if same {
		return 0, nil
	}
	return kcmpOther, nil
}

// fileOf returns the open file of a descriptor of another task, with a reference: EBADF.
func fileOf(o *task.Task, fd uint64) (*vfs.File, error) {
	files := o.FilesOf()
	if files == nil || fd > 1<<31-1 {
		return nil, unix.EBADF
	}
	return files.Get(int(fd))
}
