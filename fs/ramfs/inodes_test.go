package ramfs_test

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gosv/fs/ramfs"
	"gosv/kernel/cred"
	"gosv/kernel/mem"
	"gosv/kernel/vfs"
	"gosv/machine/fake"
)

// TestLimitInodes: names in memory come to an end, also nested directories and links with long targets, and are given back.
func TestLimitInodes(t *testing.T) {
	m := fake.ForTest(t, fake.Config{})
	pool := mem.NewPool(m)
	defer pool.Close()
	total, _ := pool.Usage()
	fs := ramfs.New(pool, func() int64 { return 1 }, ramfs.Options{Mode: 0o755})
	ns := vfs.NewNamespace(fs, pool)
	ctx := &vfs.Context{Root: ns.Root(), Cwd: ns.Root(), Cred: cred.Root()}
	if err := vfs.Mkdir(ctx, vfs.Path{}, "/image", 0o755); err != nil {
		t.Fatal(err)
	}
	ramfs.LimitInodes(fs)
	in := *ctx
	n := uint64(0)
	for ; n <= total; n++ {
		if err := vfs.Mkdir(&in, vfs.Path{}, "d", 0o755); err != nil {
			if err != unix.ENOSPC {
				t.Fatal(err)
			}
			break
		}
		p, err := vfs.Lookup(&in, vfs.Path{}, "d", 0)
		if err != nil {
			t.Fatal(err)
		}
		in.Cwd = p
	}
	if n != total/2 {
		t.Errorf("%d directories, %d pages", n, total)
	}
	for range 4 {
		p := in.Cwd
		in.Cwd = vfs.Path{Mount: p.Mount, Dentry: p.Dentry.Parent()}
		if err := vfs.Rmdir(&in, vfs.Path{}, "d"); err != nil {
			t.Fatal(err)
		}
	}
	long := strings.Repeat("x", 3*1024)
	if err := vfs.Symlink(ctx, long, vfs.Path{}, "/a"); err != nil {
		t.Error(err)
	}
	if err := vfs.Symlink(ctx, "x", vfs.Path{}, "/b"); err != unix.ENOSPC {
		t.Error(err)
	}
	if err := vfs.Unlink(ctx, vfs.Path{}, "/a"); err != nil {
		t.Error(err)
	}
	if err := vfs.Symlink(ctx, "x", vfs.Path{}, "/b"); err != nil {
		t.Error(err)
	}
	fs.EvictAll()
}
