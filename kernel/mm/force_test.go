package mm

import (
	"testing"

	"golang.org/x/sys/unix"

	"gosv/kernel/mem"
)

func TestPeekPoke(t *testing.T) {
	w := newWorld(t, 128)
	f := newFile(w, 0)
	f.cache = mem.NewCache(w.pool, &store{pages: map[uint64][]byte{0: []byte("code"), 1: []byte("more")}})
	w.caches = append(w.caches, f.cache)
	w.check("Truncate", f.cache.Truncate(2*pageSize), nil)
	text := w.mmap(w.as, MapArgs{Length: 2 * pageSize, Prot: unix.PROT_READ | unix.PROT_EXEC, Flags: unix.MAP_PRIVATE, Object: f})
	var b [4]byte
	if n, err := w.as.Peek(b[:], text); n != 4 || err != nil || string(b[:]) != "code" {
		t.Fatalf("%d, %v, %q", n, err, b)
	}
	if n, err := w.as.Poke(text+pageSize-1, []byte{0xcc, 0xcc}); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	w.want(w.as, text+pageSize-1, "\xcc\xccore")
	if _, err := w.as.CopyOut(text, b[:]); err != unix.EFAULT {
		t.Error("the program may write its code")
	}
	if got := w.pool.Bytes(mustPage(t, f.cache, 1))[0]; got != 'm' {
		t.Error("the file changed")
	}
	checkAreas(t, w.as)
	child, err := w.as.Fork()
	w.check("Fork", err, nil)
	defer child.Release()
	if n, err := child.Poke(text+pageSize, []byte("x")); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	w.want(w.as, text+pageSize, "\xcc")
	w.want(child, text+pageSize, "x")

	none := w.mmap(w.as, MapArgs{Length: pageSize, Flags: anon})
	if n, err := w.as.Poke(none, []byte("hidden")); n != 6 || err != nil {
		t.Fatal(n, err)
	}
	if n, err := w.as.Peek(b[:], none+2); n != 4 || err != nil || string(b[:]) != "dden" {
		t.Fatalf("%d, %v, %q", n, err, b)
	}
	if _, err := w.as.CopyIn(b[:], none); err != unix.EFAULT {
		t.Error("the page became readable")
	}
	shared := w.mmap(w.as, MapArgs{Length: pageSize, Prot: unix.PROT_READ, Flags: unix.MAP_SHARED, Object: f})
	if n, err := w.as.Poke(shared, b[:]); n != 0 || err != unix.EFAULT {
		t.Error(n, err)
	}
	if n, err := w.as.Peek(b[:], text+2*pageSize-2); n != 2 || err != unix.EFAULT {
		t.Error(n, err)
	}
	for _, va := range []uint64{0, userTop, ^uint64(0)} {
		if n, err := w.as.Peek(b[:], va); n != 0 || err != unix.EFAULT {
			t.Error(n, err)
		}
	}
	checkAreas(t, w.as)
	checkAreas(t, child)
}
