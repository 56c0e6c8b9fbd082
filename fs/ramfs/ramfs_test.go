package ramfs_test

import (
	"testing"

	"golang.org/x/sys/unix"

	"gosv/fs/ramfs"
	"gosv/kernel/cred"
	"gosv/kernel/mem"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/kernel/vfs/vfstest"
	"gosv/machine/fake"
)

func TestOptions(t *testing.T) {
	for data, want := range map[string]ramfs.Options{
		"":                              {Mode: 0o1777, Pages: 500, Inodes: 500},
		"size=1m,mode=700,uid=5,gid=6":  {Mode: 0o700, Pages: 256, Inodes: 500, UID: 5, GID: 6},
		"size=10%,nr_inodes=1k":         {Mode: 0o1777, Pages: 100, Inodes: 1024},
		"size=1":                        {Mode: 0o1777, Pages: 1, Inodes: 500},
		"nr_blocks=7,huge=never,noswap": {Mode: 0o1777, Pages: 7, Inodes: 500},
	} {
		if got, err := ramfs.ParseOptions(data, 1000); err != nil || got != want {
			t.Errorf("%q: %+v, %v", data, got, err)
		}
	}
	for _, data := range []string{"size=x", "size=-1", "size=", "what=1", "mode=9", "size=9999999999g", "uid=-1", "huge=some", "huge", "mpol=bad:x", "noswap=1"} {
		if _, err := ramfs.ParseOptions(data, 1000); err != unix.EINVAL {
			t.Errorf("%q: %v", data, err)
		}
	}
}

func FuzzOptions(f *testing.F) {
	f.Add("size=10%,mode=1777,nr_inodes=5k")
	f.Fuzz(func(t *testing.T, data string) {
		if o, err := ramfs.ParseOptions(data, 1<<20); err == nil && (o.Pages < 0 || o.Inodes < 0 || o.Mode > 0o7777) {
			t.Errorf("%+v", o)
		}
	})
}

func TestLimits(t *testing.T) {
	m := fake.ForTest(t, fake.Config{})
	pool := mem.NewPool(m)
	defer pool.Close()
	fs := ramfs.New(pool, func() int64 { return 1 }, ramfs.Options{Pages: 3, Inodes: 4, Mode: 0o755})
	ns := vfs.NewNamespace(fs, pool)
	ctx := &vfs.Context{Root: ns.Root(), Cwd: ns.Root(), Cred: cred.Root()}
	open := func(path string) (*vfs.File, error) {
		return vfs.Open(ctx, vfs.Path{}, path, unix.O_CREAT|unix.O_RDWR, 0o644)
	}
	a, err := open("/a")
	if err != nil {
		t.Fatal(err)
	}
	b := uio.Buffer(make([]byte, 5*4096))
	if n, err := a.Write(&b); n != 3*4096 || err != nil {
		t.Errorf("wrote %d, %v", n, err)
	}
	if _, err := a.Write(&b); err != unix.ENOSPC {
		t.Error(err)
	}
	var st unix.Statfs_t
	vfs.Statfs(ns.Root(), &st)
	if st.Blocks != 3 || st.Bfree != 0 || st.Files != 4 || st.Ffree != 2 {
		t.Errorf("%+v", st)
	}
	for _, path := range []string{"/b", "/c"} {
		f, err := open(path)
		if err != nil {
			t.Fatal(err)
		}
		f.DecRef()
	}
	if _, err := open("/d"); err != unix.ENOSPC {
		t.Error(err)
	}
	a.DecRef()
	if err := vfs.Unlink(ctx, vfs.Path{}, "/a"); err != nil {
		t.Error(err)
	}
	vfs.Statfs(ns.Root(), &st)
	if st.Bfree != 3 || st.Ffree != 1 {
		t.Errorf("%+v", st)
	}
	fs.EvictAll()
}

func TestRemount(t *testing.T) {
	for options, want := range map[string]error{"size=64k": nil, "size=4k": unix.EINVAL, "nr_inodes=100": nil, "nr_inodes=1": unix.EINVAL, "strange=1": unix.EINVAL, "size=0": unix.EINVAL} {
		tr := vfstest.New(t)
		tr.NS.AddType(ramfs.Type("tmpfs", tr.Pool, func() int64 { return 1 }))
		if err := vfs.DoMount(tr.Ctx, "x", tr.Ctx.Root, "tmpfs", 0, "size=32k,nr_inodes=10"); err != nil {
			t.Fatal(err)
		}
		ctx := *tr.Ctx
		ctx.Root, ctx.Cwd = tr.NS.Top(), tr.NS.Top()
		f, err := vfs.Open(&ctx, vfs.Path{}, "/f", unix.O_CREAT|unix.O_RDWR, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Allocate(0, 0, 8192); err != nil {
			t.Fatal(err)
		}
		if err := vfs.DoMount(&ctx, "", ctx.Root, "", unix.MS_REMOUNT, options); err != want {
			t.Errorf("%s: %v, want %v", options, err, want)
		}
		err = f.Allocate(0, 0, 60<<10)
		if fits := options == "size=64k"; fits != (err == nil) {
			t.Errorf("%s: 60 KiB: %v", options, err)
		}
		f.DecRef()
		if err := vfs.Unmount(&ctx, ctx.Root, 0); err != nil {
			t.Fatal(err)
		}
	}
}
