package ramfs

import (
	"strings"

	"golang.org/x/sys/unix"

	"gosv/kernel/mem"
	"gosv/kernel/vfs"
	"gosv/machine"
)

// HugeType returns what makes instances of hugetlbfs for mount(2): files in large pages, which programs map
// (Documentation/admin-guide/mm/hugetlbpage.rst in Linux's source).
func HugeType(pool *mem.Pool, now func() int64) vfs.Type {
	return vfs.Type{Name: "hugetlbfs", New: func(r *vfs.MountRequest) (*vfs.FS, error) {
		o, err := parseHuge(r.Options, pool)
		if err != nil {
			return nil, r.Fail(err, "bad options "+r.Options)
		}
		return New(pool, now, o), nil
	}}
}

// parseHuge reads the mount options of hugetlbfs: EINVAL. A size in percent is a part of the pool.
func parseHuge(data string, pool *mem.Pool) (o Options, err error) {
	o = Options{Type: "hugetlbfs", Mode: 0o755, Huge: true}
	total := pool.Huge().Stats().Total * mem.HugeFrames
	for word := range strings.SplitSeq(data, ",") {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "":
		case "pagesize":
			var n int64
			if n, err = parseCount(value); n != machine.HugeSize {
				err = unix.EINVAL
			}
		case "size":
			o.Pages, err = parseSize(value, total)
			if o.Pages &^= mem.HugeFrames - 1; o.Pages == 0 {
				err = unix.EINVAL // no limit, to the rest of this package
			}
		case "nr_inodes", "mode", "uid", "gid":
			err = o.root(key, value)
			o.Mode &= 0o1777
		default: // min_size too
			err = unix.EINVAL
		}
		if err != nil {
			return o, unix.EINVAL
		}
	}
	return o, nil
}

// newCache returns the cache of a new file.
func (r *instance) newCache() *mem.Cache {
	if r.huge {
		return mem.NewHuge(r.pool)
	}
	return mem.NewShmem(r.pool)
}

// statHuge is Statfs of hugetlbfs: 0 blocks without a limit, as on Linux.
func (r *instance) statHuge(s *unix.Statfs_t) {
	s.Type, s.Bsize = unix.HUGETLBFS_MAGIC, machine.HugeSize
	if most := r.maxPages.Load(); most != 0 {
		s.Blocks = uint64(most / mem.HugeFrames)
		s.Bfree = uint64(max(most-r.pages.Load(), 0) / mem.HugeFrames)
		s.Bavail = s.Bfree
	}
	if most := r.maxInodes.Load(); most != 0 {
		s.Files = uint64(most)
		s.Ffree = uint64(max(most-r.inodes.Load(), 0))
	}
}
