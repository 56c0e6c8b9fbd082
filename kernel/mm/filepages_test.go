package mm

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestRemapFilePages(t *testing.T) {
	w := newWorld(t, 256)
	f, other := newFile(w, 4), newFile(w, 1)
	a := w.mmap(w.as, MapArgs{Length: 4 * pageSize, Prot: rw, Flags: unix.MAP_SHARED, Object: f})
	for i, s := range []string{"0", "1", "2", "3"} {
		w.put(w.as, a+uint64(i)*pageSize, s)
	}
	w.check("one page", w.as.RemapFilePages(a+1, 2*pageSize-1, 3, 0), nil)
	w.want(w.as, a, "3")
	w.want(w.as, a+pageSize, "1")
	w.check("back, over two areas", w.as.RemapFilePages(a, 2*pageSize, 0, unix.MAP_NONBLOCK), nil)
	w.want(w.as, a, "0")
	w.check("no length", w.as.RemapFilePages(a, pageSize-1, 0, 0), unix.EINVAL)
	w.check("beyond files", w.as.RemapFilePages(a, pageSize, 1<<52, 0), unix.EINVAL)
	w.check("beyond addresses", w.as.RemapFilePages(a, 1<<64-pageSize, 0, 0), unix.EINVAL)
	w.mmap(w.as, MapArgs{Addr: a + 2*pageSize, Length: pageSize, Prot: rw, Flags: unix.MAP_SHARED | unix.MAP_FIXED, Object: other})
	w.check("two files", w.as.RemapFilePages(a, 4*pageSize, 0, 0), unix.EINVAL)
	w.check("Unmap", w.as.Unmap(a+2*pageSize, pageSize), nil)
	w.check("a hole", w.as.RemapFilePages(a, 4*pageSize, 0, 0), unix.EINVAL)
	private := w.mmap(w.as, MapArgs{Length: pageSize, Prot: rw, Flags: unix.MAP_PRIVATE, Object: f})
	w.check("private", w.as.RemapFilePages(private, pageSize, 0, 0), unix.EINVAL)
}
