package procfs

import (
	"math"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gosv/kernel/epoll"
	"gosv/kernel/mm"
	"gosv/kernel/pipe"
	"gosv/kernel/share"
	"gosv/kernel/vfs"
	"gosv/machine"
)

// Limits of the whole machine, which root may change.

// showNumber shows a number.
func showNumber(get func(v *view) int64) func(*view, *out) error {
	return func(v *view, b *out) error {
		b.num(get(v)).nl()
		return nil
	}
}

// storeNumber takes a number: EINVAL, and the errors of set.
func storeNumber(set func(v *view, n int) error) func(*view, string) error {
	return func(v *view, s string) error {
		n, err := parse(s)
		if err != nil {
			return err
		}
		return set(v, n)
	}
}

// maxFiles is vfs.MaxFiles, or the largest number when there is no limit.
func maxFiles(*view) int64 {
	if n := vfs.MaxFiles(); n != 0 {
		return n
	}
	return math.MaxInt64
}

func setMaxFiles(_ *view, n int) error { return vfs.SetMaxFiles(int64(n)) }

// showFiles tells how many files are open, 0 that are allocated and free, and how many may be.
func showFiles(v *view, b *out) error {
	b.num(vfs.OpenFiles()).str("\t0\t").num(maxFiles(v)).nl()
	return nil
}

// number32 is a row of a number that root may set, from least on.
func number32(path string, n *atomic.Int32, least int) row {
	return row{path: path, mode: rw, show: showNumber(func(*view) int64 { return int64(n.Load()) }), store: storeNumber(func(_ *view, v int) error {
		if v < least || v > math.MaxInt32/2 {
			return unix.EINVAL
		}
		n.Store(int32(v))
		return nil
	})}
}

// setPipeSize sets pipe.MaxSize, up to the next power of two pages.
func setPipeSize(_ *view, n int) error {
	if n < 0 || n > 1<<30 {
		return unix.EINVAL
	}
	size := machine.PageSize
	for size < n {
		size *= 2
	}
	pipe.MaxSize.Store(int32(size))
	return nil
}

func maxAreas(*view) int64             { return int64(mm.MaxAreas()) }
func setMaxAreas(v *view, n int) error { return mm.SetMaxAreas(n, v.Pool) }

// dropCaches gives up what the kernel keeps though nobody uses it: 1, the pages of files; 2, names and inodes; 3, both. 4 changes
// only what Linux logs.
func dropCaches(v *view, n int) error {
	if n < 1 || n > 4 {
		return unix.EINVAL
	}
	if n&2 != 0 {
		vfs.Shrink()
	}
	if n&1 != 0 {
		v.Pool.Reclaim(math.MaxInt)
	}
	return nil
}

func mountMax(v *view) int64             { return int64(v.Namespace.MountMax()) }
func setMountMax(v *view, n int) error   { return v.Namespace.SetMountMax(n) }
func maxThreads(v *view) int64           { return int64(v.Kernel.MaxThreads()) }
func setMaxThreads(v *view, n int) error { return v.Kernel.SetMaxThreads(n) }

// Linux counts the interests of each user, here they are all users'.
func maxInterests(*view) int64 { return share.Interests.Most() / epoll.InterestCost }

func setMaxInterests(_ *view, n int) error {
	if n < 0 || n > math.MaxInt64/epoll.InterestCost {
		return unix.EINVAL
	}
	share.Interests.SetMost(int64(n) * epoll.InterestCost)
	return nil
}
