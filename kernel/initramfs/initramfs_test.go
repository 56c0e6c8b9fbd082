package initramfs_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
	"gosv/kernel/initramfs"
	"gosv/kernel/vfs"
	"gosv/kernel/vfs/vfstest"
	"gosv/machine"
)

// entry is one file of an archive under construction.
type entry struct {
	name           string
	mode           uint32
	data           string
	ino, nlink     uint32
	align, badsum  bool
	magic          string
	rmajor, rminor uint32
}

// cpio builds an archive; off is where it will lie.
func cpio(off int, entries ...entry) []byte {
	var b bytes.Buffer
	for _, e := range append(entries, entry{name: "TRAILER!!!"}) {
		if e.magic == "" {
			e.magic = "070701"
		}
		var sum uint32
		if e.magic == "070702" {
			for _, c := range []byte(e.data) {
				sum += uint32(c)
			}
			if e.badsum {
				sum++
			}
		}
		name := e.name + "\x00"
		if e.align {
			for (off+b.Len()+110+len(name)+3)&^3%4096 != 0 {
				name += "\x00"
			}
		}
		fmt.Fprintf(&b, "%s%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08X%08x%08x", e.magic, e.ino, e.mode, 7, 8, e.nlink, 1234, len(e.data),
			0, 0, e.rmajor, e.rminor, len(name), sum)
		b.WriteString(name)
		pad := func() {
			for (off+b.Len())%4 != 0 {
				b.WriteByte(0)
			}
		}
		pad()
		b.WriteString(e.data)
		pad()
	}
	return b.Bytes()
}

func compress(b []byte) []byte {
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	w.Write(b)
	w.Close()
	return z.Bytes()
}

// load puts an image into the machine's memory as the boot loader would.
func load(t testing.TB, tr *vfstest.Tree, image []byte) machine.Frame {
	var frames []machine.Frame
	n := (len(image) + machine.PageSize - 1) / machine.PageSize
	if n == 0 {
		return 0
	}
	for range n { // single frames, as AllocRun gives no more than 512
		f, err := tr.Machine.Alloc()
		if err != nil {
			t.Fatal(err)
		}
		frames = append(frames, f)
	}
	slices.Sort(frames)
	if int(frames[n-1]-frames[0]) != n-1 {
		for _, f := range frames {
			tr.Machine.Free(f, 1)
		}
		t.Skip("no contiguous memory")
	}
	copy(tr.Machine.Bytes(frames[0], n), image)
	return frames[0]
}

func unpack(t testing.TB, image []byte) (*vfstest.Tree, []byte, error) {
	tr := vfstest.New(t)
	run, err := initramfs.Unpack(tr.Machine, tr.NS.Root(), load(t, tr, image), uint64(len(image)))
	return tr, run, err
}

func text(n int) string {
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, n)
	for i := range b {
		b[i] = 'a' + byte(r.Uint32()%26)
	}
	return string(b)
}

const (
	reg = unix.S_IFREG | 0o755
	dir = unix.S_IFDIR | 0o750
	lnk = unix.S_IFLNK | 0o777
)

func sample(off int) []byte {
	return cpio(off,
		entry{name: ".gosv/run", mode: reg, data: "arg=x\x00"},
		entry{name: ".", mode: unix.S_IFDIR | 0o711},
		entry{name: "bin", mode: dir},
		entry{name: "./bin/small", mode: reg, data: "hi"},
		entry{name: "/bin/big", mode: reg, data: text(10000), align: true},
		entry{name: "bin/unaligned", mode: reg, data: text(9999)},
		entry{name: "bin/exact", mode: reg, data: text(8192), align: true},
		entry{name: "lib", mode: lnk, data: "usr/lib"},
		entry{name: "usr/lib/inner", mode: reg, data: "1"},
		entry{name: "lib/through", mode: reg, data: "2"},
		entry{name: "hard1", mode: reg, ino: 5, nlink: 2},
		entry{name: "hard2", mode: reg, ino: 5, nlink: 2, data: "linked"},
		entry{name: "dev/null", mode: unix.S_IFCHR | 0o666, rmajor: 1, rminor: 3},
		entry{name: "fifo", mode: unix.S_IFIFO | 0o600},
		entry{name: "sum", mode: reg, magic: "070702", data: text(5000), align: true},
		entry{name: "bin/small", mode: reg, data: "again"},
	)
}

func checkSample(t *testing.T, tr *vfstest.Tree) {
	for path, want := range map[string]string{
		"/bin/small": "again", "/bin/big": text(10000), "/bin/unaligned": text(9999), "/bin/exact": text(8192), "/lib/inner": "1",
		"/usr/lib/through": "2", "/hard1": "linked", "/hard2": "linked", "/sum": text(5000),
	} {
		if got := tr.Read(t, path); got != want {
			t.Errorf("%s has %d bytes, want %d", path, len(got), len(want))
		}
	}
	for path, want := range map[string]unix.Stat_t{
		"/bin":      {Mode: dir, Uid: 7, Gid: 8, Nlink: 2},
		"/":         {Mode: unix.S_IFDIR | 0o711, Uid: 7, Gid: 8, Nlink: 5},
		"/hard1":    {Mode: reg, Uid: 7, Gid: 8, Nlink: 2},
		"/dev/null": {Mode: unix.S_IFCHR | 0o666, Uid: 7, Gid: 8, Nlink: 1, Rdev: unix.Mkdev(1, 3)},
		"/fifo":     {Mode: unix.S_IFIFO | 0o600, Uid: 7, Gid: 8, Nlink: 1},
	} {
		var st unix.Stat_t
		if err := vfs.Stat(tr.Ctx, vfs.Path{}, path, 0, &st); err != nil {
			t.Error(err)
		}
		if st.Mode != want.Mode || st.Uid != want.Uid || st.Gid != want.Gid || st.Nlink != want.Nlink || st.Rdev != want.Rdev {
			t.Errorf("%s: %+v", path, st)
		}
		if path == "/hard1" && st.Mtim.Sec != 1234 {
			t.Errorf("mtime %d", st.Mtim.Sec)
		}
	}
	if slices.Contains(tr.List(t, "/"), ".gosv") {
		t.Error("the run file is visible")
	}
}

func TestUnpack(t *testing.T) {
	plain := sample(0)
	for name, image := range map[string][]byte{
		"plain":      plain,
		"padded":     append(slices.Clone(plain), make([]byte, 512)...),
		"gzip":       compress(plain),
		"gzip twice": append(compress(plain[:0:0]), compress(plain)...),
		"two":        append(compress(plain), compress(cpio(0, entry{name: "bin/more", mode: reg, data: "x"}))...),
		"mixed":      append(slices.Clone(plain), compress(cpio(0, entry{name: "bin/more", mode: reg, data: "x"}))...),
	} {
		t.Run(name, func(t *testing.T) {
			tr, run, err := unpack(t, image)
			if err != nil || string(run) != "arg=x\x00" {
				t.Fatalf("run %q, %v", run, err)
			}
			checkSample(t, tr)
		})
	}
}

func TestPagesAreAdopted(t *testing.T) {
	image := cpio(0, entry{name: "big", mode: reg, data: text(40960 + 5), align: true})
	tr := vfstest.New(t)
	first := load(t, tr, image)
	if _, err := initramfs.Unpack(tr.Machine, tr.NS.Root(), first, uint64(len(image))); err != nil {
		t.Fatal(err)
	}
	p, err := vfs.Lookup(tr.Ctx, vfs.Path{}, "/big", 0)
	if err != nil {
		t.Fatal(err)
	}
	c := p.Inode().Cache()
	for i := range uint64(10) {
		f, err := c.Page(i, false)
		if err != nil || f != first+machine.Frame(i+1) {
			t.Errorf("page %d is frame %d, %v", i, f, err)
		}
		tr.Pool.Unref(f)
	}
	if got := tr.Read(t, "/big"); got != text(40965) {
		t.Error("contents differ")
	}
	if c.Pages() != 11 {
		t.Errorf("%d pages", c.Pages())
	}
}

func TestBadImages(t *testing.T) {
	good := sample(0)
	for name, c := range map[string]struct {
		image []byte
		err   error
	}{
		"junk":            {[]byte("this is no archive, and long enough to be a header or two, really, it is quite long, as headers go, one hundred and ten"), initramfs.ErrFormat},
		"cut":             {good[:len(good)/2], initramfs.ErrTruncated},
		"no trailer":      {good[:len(good)-124], initramfs.ErrTruncated},
		"bad sum":         {cpio(0, entry{name: "s", mode: reg, magic: "070702", data: text(5000), badsum: true, align: true}), initramfs.ErrChecksum},
		"dotdot":          {cpio(0, entry{name: "a/../../b", mode: reg}), initramfs.ErrFormat},
		"dotdot at end":   {cpio(0, entry{name: "..", mode: dir}), initramfs.ErrFormat},
		"file as parent":  {cpio(0, entry{name: "a", mode: reg}, entry{name: "a/b", mode: reg}), unix.ENOTDIR},
		"no type":         {cpio(0, entry{name: "a", mode: 0o644}), initramfs.ErrFormat},
		"empty link":      {cpio(0, entry{name: "a", mode: lnk}), initramfs.ErrFormat},
		"long name":       {cpio(0, entry{name: strings.Repeat("x", 256), mode: reg}), unix.ENAMETOOLONG},
		"damaged gzip":    {append(compress(good)[:200], 1, 2, 3), initramfs.ErrGzip},
		"link to itself":  {cpio(0, entry{name: "l", mode: lnk, data: "l"}, entry{name: "l/x", mode: reg}), unix.ELOOP},
		"over a full dir": {cpio(0, entry{name: "d/x", mode: reg}, entry{name: "d", mode: reg}), unix.ENOTEMPTY},
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, err := unpack(t, c.image); err != c.err {
				t.Errorf("got %v, want %v", err, c.err)
			}
		})
	}
}

// FuzzCpio unpacks whatever it is given. Nothing may panic, leave the root or
// leak a frame (vfstest checks that).
func FuzzCpio(f *testing.F) {
	f.Add(sample(0))
	f.Add(compress(sample(0)))
	f.Add(cpio(0, entry{name: "l", mode: lnk, data: "/"}, entry{name: "l/l/x", mode: reg, data: text(4096), align: true}))
	f.Fuzz(func(t *testing.T, image []byte) {
		if len(image) > 1<<20 {
			return
		}
		tr, _, _ := unpack(t, image)
		walkAll(t, tr, tr.NS.Root(), 0)
	})
}

// walkAll reads every file.
func walkAll(t *testing.T, tr *vfstest.Tree, p vfs.Path, depth int) {
	if depth > 50 {
		return
	}
	err := vfs.ReadDir(tr.Ctx, p, func(e vfs.Dirent) bool {
		c := vfs.Path{Mount: p.Mount, Dentry: p.Dentry.Child(e.Name)}
		switch e.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			walkAll(t, tr, c, depth+1)
		case unix.S_IFREG:
			f, err := vfs.Reopen(c, cred.Root(), unix.O_RDONLY)
			if err != nil {
				t.Error(err)
				return false
			}
			vfstest.ReadAll(t, f)
			f.DecRef()
		}
		return true
	})
	if err != nil {
		t.Error(err)
	}
}
