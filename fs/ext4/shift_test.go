package ext4

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"

	"gosv/kernel/vfs"
)

// TestShift takes blocks out of a file and puts holes in, at random between writes, holes and cuts, and compares with a model; so many pieces that the
// map has a tree, and e2fsck looks at it.
func TestShift(t *testing.T) {
	for _, name := range []string{"ext4", "ext4-1k", "nojournal"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, mkfs(t, 64<<20, kinds[name]...))
			w.mount(t, 0, "")
			f, err := vfs.Open(w.Ctx, vfs.Path{}, "/m/f", unix.O_RDWR|unix.O_CREAT, 0o644)
			if err != nil {
				t.Fatal(err)
			}
			block := int64(of(f.Inode()).fs.blockSize)
			r := rand.New(rand.NewPCG(3, 4))
			var model []byte
			const most = 4 << 20
			for i := range 700 {
				size := int64(len(model))
				off, n := r.Int64N(size/block+1)*block, (1+r.Int64N(6))*block
				switch k := r.IntN(8); {
				case k < 2 || size < 1<<20:
					off, b := r.Int64N(min(size+4*block, most)), noise(r, 1+r.IntN(20000))
					if err := w.write("/m/f", b, off, 0); err != nil {
						t.Fatal(i, err)
					}
					if end := off + int64(len(b)); end > size {
						model = append(model, make([]byte, end-size)...)
					}
					copy(model[off:], b)
				case k == 2:
					if err := f.Allocate(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n); err != nil {
						t.Fatal(i, err)
					}
					if off < size {
						clear(model[off:min(off+n, size)])
					}
				case k == 3:
					if err := f.Allocate(unix.FALLOC_FL_KEEP_SIZE, off, n); err != nil {
						t.Fatal(i, err)
					}
				case k < 6:
					want := error(nil)
					if off+n >= size {
						want = unix.EINVAL
					} else {
						model = append(bytes.Clone(model[:off]), model[off+n:]...)
					}
					if err := f.Allocate(unix.FALLOC_FL_COLLAPSE_RANGE, off, n); err != want {
						t.Fatalf("%d: collapse: %v, not %v", i, err, want)
					}
				case size < most:
					want := error(nil)
					if off >= size {
						want = unix.EINVAL
					} else {
						model = append(append(bytes.Clone(model[:off]), make([]byte, n)...), model[off:]...)
					}
					if err := f.Allocate(unix.FALLOC_FL_INSERT_RANGE, off, n); err != want {
						t.Fatalf("%d: insert: %v, not %v", i, err, want)
					}
				}
				if i%100 == 99 {
					if got := w.read(t, "/m/f"); !bytes.Equal(got, model) {
						t.Fatalf("%d: the file differs: %d bytes, not %d", i, len(got), len(model))
					}
				}
			}
			for _, c := range [][2]int64{{1, block}, {0, block + 1}, {block, int64(len(model))}} {
				if err := f.Allocate(unix.FALLOC_FL_COLLAPSE_RANGE, c[0], c[1]); err != unix.EINVAL {
					t.Errorf("collapse %v: %v", c, err)
				}
			}
			if err := f.Allocate(unix.FALLOC_FL_INSERT_RANGE, 0, 1<<32*block); err != unix.EFBIG {
				t.Errorf("insert of too much: %v", err)
			}
			f.DecRef()
			w.unmount(t)
			fsck(t, w.mem.Bytes(), false)
			w.mount(t, 0, "")
			if got := w.read(t, "/m/f"); !bytes.Equal(got, model) {
				t.Error("the file differs after a mount")
			}
			w.unmount(t)
		})
	}
}
