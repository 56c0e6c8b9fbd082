package ramfs_test

import (
	"math"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"gosv/fs/ramfs"
	"gosv/kernel/cred"
	"gosv/kernel/mem"
	"gosv/kernel/share"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/machine"
	"gosv/machine/fake"
)

// TestAllTogether: further names count as inodes, all instances have one bound of inodes and one of pages, and what is unmounted
// leaves its place.
func TestAllTogether(t *testing.T) {
	pool := mem.NewPool(fake.ForTest(t, fake.Config{}))
	defer pool.Close()
	inodes, pages := share.Inodes.Used(), share.Pages.Used()
	share.Inodes.SetMost(inodes + 20<<10)
	share.Pages.SetMost(pages + 8*machine.PageSize)
	defer share.Inodes.SetMost(math.MaxInt64)
	defer share.Pages.SetMost(math.MaxInt64)
	var list []*vfs.FS
	var ctx *vfs.Context
	for range 2 {
		fs := ramfs.New(pool, func() int64 { return 1 }, ramfs.Options{Mode: 0o755, Pages: 6})
		ns := vfs.NewNamespace(fs, pool)
		ctx = &vfs.Context{Root: ns.Root(), Cwd: ns.Root(), Cred: cred.Root()}
		f, err := vfs.Open(ctx, vfs.Path{}, "/a", unix.O_CREAT|unix.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		b := uio.Buffer(make([]byte, 20*machine.PageSize))
		if n, err := f.Write(&b); n != int64(6-4*len(list))*machine.PageSize {
			t.Errorf("%d bytes, %v", n, err)
		}
		f.DecRef()
		list = append(list, fs)
	}
	var s unix.Statfs_t
	if list[1].Ops().Statfs(&s); s.Bfree != 0 {
		t.Errorf("%d blocks are free", s.Bfree)
	}
	names := 0
	for err := error(nil); err == nil; names++ {
		err = vfs.Link(ctx, vfs.Path{}, "/a", vfs.Path{}, "/l"+strconv.Itoa(names), 0)
		if err != nil && err != unix.ENOSPC {
			t.Fatal(err)
		}
	}
	if names != 17 {
		t.Errorf("%d names beside four inodes and one that found no room", names)
	}
	if err := vfs.Unlink(ctx, vfs.Path{}, "/l3"); err != nil {
		t.Fatal(err)
	}
	if err := vfs.Mkdir(ctx, vfs.Path{}, "/d", 0o755); err != nil {
		t.Errorf("in the place of a name: %v", err)
	}
	if err := vfs.Mkdir(ctx, vfs.Path{}, "/e", 0o755); err != unix.ENOSPC {
		t.Error(err)
	}
	if err := vfs.Rename(ctx, vfs.Path{}, "/l1", vfs.Path{}, "/l2x", 0); err != nil {
		t.Error(err)
	}
	for _, fs := range list {
		fs.EvictAll()
	}
	if got := share.Inodes.Used() - inodes; got != 0 {
		t.Errorf("%d bytes of inodes are left", got)
	}
	if got := share.Pages.Used() - pages; got != 0 {
		t.Errorf("%d bytes of pages are left", got)
	}
}
