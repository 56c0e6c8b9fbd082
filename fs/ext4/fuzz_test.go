package ext4

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gosv/kernel/uio"
	"gosv/kernel/vfs"
)

// bases are small images with all sorts of things in them, most without checksums, which would catch every change.
func bases(tb testing.TB) [][]byte {
	dir := tb.TempDir()
	r := rand.New(rand.NewPCG(5, 6))
	for i := range 60 {
		full := filepath.Join(dir, "d", fmt.Sprintf("%d%s", i, strings.Repeat("n", 40)))
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			tb.Fatal(err)
		}
		if err := os.WriteFile(full, noise(r, 10), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "big"), noise(r, 100<<10), 0o600); err != nil {
		tb.Fatal(err)
	}
	if f, err := os.Create(filepath.Join(dir, "sparse")); err == nil {
		for i := range 12 {
			_, _ = f.WriteAt([]byte("x"), int64(i)*20<<10)
		}
		f.Close()
	}
	_ = os.Symlink(strings.Repeat("l", 100), filepath.Join(dir, "slow"))
	_ = os.Symlink("fast", filepath.Join(dir, "fast"))
	var list [][]byte
	for _, args := range [][]string{
		{"-t", "ext4", "-b", "1024", "-O", "^metadata_csum,^has_journal,^resize_inode", "-N", "128"},
		{"-t", "ext2", "-b", "1024", "-O", "^resize_inode", "-N", "128"},
		{"-t", "ext4", "-b", "1024", "-O", "^metadata_csum,^resize_inode", "-J", "size=1", "-N", "128"},
		{"-t", "ext4", "-b", "1024", "-O", "^resize_inode", "-J", "size=1", "-N", "128"},
	} {
		b := mkfs(tb, 3<<20, append(args, "-d", dir)...)
		list = append(list, b)
	}
	return list
}

// interesting are the bytes of an image that are not zero: where a change matters.
func interesting(b []byte) (at []int) {
	for i := 0; i < len(b); i += 4 {
		if binary.LittleEndian.Uint32(b[i:]) != 0 {
			at = append(at, i)
		}
	}
	return at
}

// FuzzExt4 changes words of an image, mounts it, and uses all there is. Nothing may panic, hang or reach outside of the disk.
func FuzzExt4(f *testing.F) {
	list := bases(f)
	var words [][]int
	for _, b := range list {
		words = append(words, interesting(b[:min(len(b), 600<<10)]))
	}
	f.Add([]byte{0})
	f.Add([]byte{1, 0, 3, 1, 0, 255})
	f.Add([]byte{2, 0, 10, 2, 0, 1, 1, 0, 3, 128})
	f.Add([]byte{0x82, 0, 10, 2, 0, 1, 1, 0, 3, 128, 4})
	f.Fuzz(func(t *testing.T, in []byte) { attack(t, list, words, in) })
}

// TestDamage is the fuzz target with changes by chance, GOSV_ROUNDS hundreds of them.
func TestDamage(t *testing.T) {
	list := bases(t)
	var words [][]int
	for _, b := range list {
		words = append(words, interesting(b[:600<<10]))
	}
	first := uint64(os.Getpid())
	for i := range uint64(100 * rounds()) {
		r := rand.New(rand.NewPCG(first, i))
		in := noise(r, 1+5*(1+r.IntN(6)))
		t.Run(fmt.Sprintf("%x", in), func(t *testing.T) { attack(t, list, words, in) })
	}
}

// attack changes an image as in says and uses it.
func attack(t *testing.T, list [][]byte, words [][]int, in []byte) {
	if len(in) == 0 {
		return
	}
	kind := int(in[0]) % len(list)
	b := append([]byte(nil), list[kind]...)
	inUse := in[0]&0x80 != 0 // the changes come when the file system is in use
	var changes []func(b []byte)
	for in = in[1:]; len(in) >= 5; in = in[5:] {
		place, how, value := words[kind][(int(in[0])|int(in[1])<<8)%len(words[kind])]+int(in[2]&3), in[3]%3, in[4]
		changes = append(changes, func(b []byte) {
			switch how {
			case 0:
				b[place] = value
			case 1:
				b[place] ^= 1 << (value % 8)
			default:
				for i := range min(4, len(b)-place) {
					b[place+i] = value
				}
			}
		})
	}
	damage := func(b []byte) {
		for _, c := range changes {
			c(b)
		}
	}
	if !inUse {
		damage(b)
	}
	w := newWorldOf(t, b, 2048)
	defer func() {
		for _, l := range w.logs {
			if strings.Contains(l, "kernel panic") {
				t.Error(l)
			}
		}
	}()
	if w.tryMount(0, "") != nil {
		return
	}
	if inUse {
		_ = vfs.Mkdir(w.Ctx, vfs.Path{}, "/m/before", 0o755)
		now := w.mem.Bytes()
		damage(now)
		if err := w.disk.WriteAt(now, 0, false); err != nil {
			t.Fatal(err)
		}
	}
	visit(w, "/m", 0)
	_ = w.write("/m/new", []byte("something"), 5000, unix.O_CREAT)
	_ = w.write("/m/big", make([]byte, 20000), 90000, 0)
	_ = vfs.Mkdir(w.Ctx, vfs.Path{}, "/m/dir", 0o755)
	for i := range 30 {
		_ = vfs.Mknod(w.Ctx, vfs.Path{}, fmt.Sprintf("/m/d/%d%s", i, strings.Repeat("m", 60)), unix.S_IFREG|0o600, 0, nil)
	}
	_ = vfs.Rename(w.Ctx, vfs.Path{}, "/m/d", vfs.Path{}, "/m/e", 0)
	for _, name := range []string{"/m/sparse", "/m/big"} {
		if f, err := vfs.Open(w.Ctx, vfs.Path{}, name, unix.O_RDWR, 0); err == nil {
			_ = f.Allocate(unix.FALLOC_FL_COLLAPSE_RANGE, 20<<10, 4096)
			_ = f.Allocate(unix.FALLOC_FL_INSERT_RANGE, 1024, 8192)
			f.DecRef()
		}
	}
	_ = vfs.Truncate(w.Ctx, "/m/sparse", 1000)
	_ = vfs.Unlink(w.Ctx, vfs.Path{}, "/m/big")
	_ = vfs.Unlink(w.Ctx, vfs.Path{}, "/m/slow")
	w.NS.Sync()
	at, err := vfs.Lookup(w.Ctx, vfs.Path{}, "/m", 0)
	if err == nil {
		err = vfs.Unmount(w.Ctx, at, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// visit reads all below a directory.
func visit(w *world, dir string, depth int) {
	p, err := vfs.Lookup(w.Ctx, vfs.Path{}, dir, 0)
	if err != nil || depth > 4 {
		return
	}
	var names []string
	_ = vfs.ReadDir(w.Ctx, p, func(d vfs.Dirent) bool {
		names = append(names, d.Name)
		return len(names) < 200
	})
	sort.Strings(names)
	for _, name := range names {
		full := dir + "/" + name
		p, err := vfs.Lookup(w.Ctx, vfs.Path{}, full, unix.AT_SYMLINK_NOFOLLOW)
		if err != nil {
			continue
		}
		_, _ = vfs.Listxattr(w.Ctx, p)
		_, _ = vfs.Getxattr(w.Ctx, p, "user.x")
		switch p.Inode().Type() {
		case unix.S_IFDIR:
			visit(w, full, depth+1)
		case unix.S_IFLNK:
			_, _ = vfs.Readlink(w.Ctx, vfs.Path{}, full)
		case unix.S_IFREG:
			f, err := vfs.Open(w.Ctx, vfs.Path{}, full, unix.O_RDONLY, 0)
			if err != nil {
				continue
			}
			buf := uio.Buffer(make([]byte, 20000))
			_, _ = f.Pread(&buf, 0)
			_, _ = f.Pread(&buf, f.Inode().Size()-10000)
			f.DecRef()
		}
	}
}
