package procfs

import (
	"math"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"gosv/kernel/vfs"
)

// maxFiles is vfs.MaxFiles, or the largest number when there is no limit.
func maxFiles() int64 {
	if n := vfs.MaxFiles(); n != 0 {
		return n
	}
	return math.MaxInt64
}

func showMaxFiles(_ *view, b *out) error {
	b.num(maxFiles()).nl()
	return nil
}

func storeMaxFiles(_ *view, s string) error {
	n, err := strconv.ParseInt(strings.Trim(s, " \t\n\x00"), 10, 64)
	if err != nil {
		return unix.EINVAL
	}
	return vfs.SetMaxFiles(n)
}

// showFiles tells how many files are open, 0 that are allocated and free, and how many may be.
func showFiles(_ *view, b *out) error {
	b.num(vfs.OpenFiles()).str("\t0\t").num(maxFiles()).nl()
	return nil
}
