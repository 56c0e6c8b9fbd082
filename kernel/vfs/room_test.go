package vfs_test

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"gosv/kernel/vfs"
	"gosv/kernel/vfs/vfstest"
	"gosv/machine"
)

// double binds all mounts over /tmp until that fails, and returns how often that went well.
func double(t *testing.T, tr *vfstest.Tree) (n int) {
	t.Helper()
	for {
		before, _ := tr.NS.Counts()
		err := vfs.DoMount(tr.Ctx, "/", place(t, tr, "/tmp"), "", unix.MS_BIND|unix.MS_REC, "")
		if errors.Is(err, unix.ENOSPC) {
			if after, _ := tr.NS.Counts(); after != before {
				t.Fatalf("%d mounts, %d after a failure", before, after)
			}
			return n
		}
		must(t, err)
		n++
	}
}

// undouble takes them away.
func undouble(t *testing.T, tr *vfstest.Tree) {
	t.Helper()
	for {
		err := vfs.Unmount(tr.Ctx, place(t, tr, "/tmp"), unix.MNT_DETACH)
		if errors.Is(err, unix.EINVAL) {
			break // nothing is mounted there
		}
		must(t, err)
	}
	if all, first := tr.NS.Counts(); all != 1 || first != 1 {
		t.Fatalf("%d mounts are left, %d counted", all, first)
	}
}

// TestMountRoom: all mounts together are bounded by the memory, and given back, whether they are shared or not, and in more trees than one.
func TestMountRoom(t *testing.T) {
	tr := sample(t)
	pages, _ := tr.Pool.Usage()
	most := int(max(pages*machine.PageSize/vfs.MountShare, 256))
	var times [2]int
	for i, how := range []uint64{unix.MS_PRIVATE, unix.MS_SHARED, unix.MS_PRIVATE} {
		must(t, vfs.DoMount(tr.Ctx, "", place(t, tr, "/"), "", how, ""))
		n := double(t, tr)
		if all, first := tr.NS.Counts(); all > most || how == unix.MS_PRIVATE && all < most/2 || first != all {
			t.Errorf("%d mounts, %d counted; %d may be", all, first, most)
		}
		undouble(t, tr)
		if i < 2 {
			times[i] = n
		} else if n != times[0] {
			t.Errorf("%d times, at first %d", n, times[0])
		}
	}
	double(t, tr)
	var trees []*vfs.Tree
	for {
		c, err := tr.NS.First().Copy(nil, nil)
		if err != nil {
			check(t, "one tree too many", err, unix.ENOSPC)
			break
		}
		trees = append(trees, c)
	}
	for _, c := range trees {
		c.Put()
	}
	undouble(t, tr)
}

// TestMountMax: a mount namespace has no more mounts than fs.mount-max says.
func TestMountMax(t *testing.T) {
	tr := sample(t)
	if n := tr.NS.MountMax(); n != 100000 {
		t.Error(n)
	}
	check(t, "0", tr.NS.SetMountMax(0), unix.EINVAL)
	must(t, tr.NS.SetMountMax(9))
	double(t, tr)
	if all, first := tr.NS.Counts(); all != 8 || first != 8 {
		t.Error(all, first)
	}
	undouble(t, tr)
}
