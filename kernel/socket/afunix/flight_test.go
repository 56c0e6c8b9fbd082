package afunix

import (
	"math"
	"testing"

	"golang.org/x/sys/unix"

	"gosv/kernel/vfs"
)

// TestInFlight: no more files are on the way than may be open, though root sends them and all are the same one; what arrives, or is dropped,
// makes room.
func TestInFlight(t *testing.T) {
	w := newWorld(t)
	a, b, err := w.pair(unix.SOCK_STREAM)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = vfs.SetMaxFiles(math.MaxInt64) }()
	if err := vfs.SetMaxFiles(5); err != nil {
		t.Fatal(err)
	}
	send := func(n int, want error) {
		t.Helper()
		rights := make([]int, n)
		for i := range rights {
			rights[i] = a
		}
		if _, err := w.send(a, []byte("x"), nil, rights, 0); err != want {
			t.Errorf("%d files: %v, want %v", n, err, want)
		}
	}
	send(6, unix.ETOOMANYREFS)
	send(3, nil)
	send(3, unix.ETOOMANYREFS)
	send(2, nil)
	if _, _, _, n, _, err := w.recv(b, 10, 0); n != 3 || err != nil {
		t.Errorf("%d files, %v", n, err)
	}
	send(3, nil)
	w.fds.CloseRange(0, 100)
	if n := w.net.flights.total; n != 0 {
		t.Errorf("%d are still on the way", n)
	}
}
