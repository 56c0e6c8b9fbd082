package pipe_test

import (
	"bytes"
	"math/rand/v2"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"gosv/kernel/pipe"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
)

// TestSpliceModel does at random what two pipes can do, beside two strings, and sees that pages go back.
func TestSpliceModel(t *testing.T) {
	tr, r, w := newPipe(t)
	_, free := tr.Pool.Usage()
	r2, w2, err := pipe.New(tr.NS, tr.Ctx.Cred, unix.O_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	reads, writes := []*vfs.File{r, r2}, []*vfs.File{w, w2}
	var want [2][]byte
	rnd := rand.New(rand.NewPCG(1, 2))
	for step := range 20000 {
		a, n := rnd.IntN(2), 1+rnd.IntN(1<<rnd.IntN(14))
		b := 1 - a
		var got int
		var err error
		switch rnd.IntN(6) {
		case 0:
			data := bytes.Repeat([]byte{byte(step)}, n)
			src := uio.Buffer(data)
			var m int64
			m, err = writes[a].Write(&src)
			want[a] = append(want[a], data[:m]...)
			got = int(m)
		case 1:
			var s string
			s, err = read(reads[a], n)
			if got = len(s); s != string(want[a][:got]) {
				t.Fatalf("step %d: read what was not written", step)
			}
			want[a] = want[a][got:]
		case 2:
			if got, err = pipe.Splice(reads[a], writes[b], n); got <= len(want[a]) {
				want[b] = append(want[b], want[a][:got]...)
				want[a] = want[a][got:]
			}
		case 3:
			if got, err = pipe.Tee(reads[a], writes[b], n); got <= len(want[a]) {
				want[b] = append(want[b], want[a][:got]...)
			}
		case 4:
			data := bytes.Repeat([]byte{byte(step)}, n)
			src := uio.Buffer(data)
			got, err = pipe.Fill(writes[a], n, func(dst uio.Sink) (int64, error) {
				b := src[:min(len(src), dst.Left())]
				m, err := dst.Put(b)
				src = src[m:]
				return int64(m), err
			})
			want[a] = append(want[a], data[:got]...)
		case 5:
			var out []byte
			room := rnd.IntN(2 * n)
			got, err = pipe.Drain(reads[a], n, func(src uio.Source) (int64, error) {
				b := make([]byte, min(src.Left(), room))
				if len(b) == 0 {
					return 0, unix.EAGAIN
				}
				m, err := src.Take(b)
				out = append(out, b[:m]...)
				room -= m
				return int64(m), err
			})
			if len(out) != got || !bytes.Equal(out, want[a][:got]) {
				t.Fatalf("step %d: drained what was not written", step)
			}
			want[a] = want[a][got:]
		}
		if err != nil && (err != unix.EAGAIN || got != 0) || got > n {
			t.Fatalf("step %d: %d of %d, %v", step, got, n, err)
		}
	}
	for _, f := range []*vfs.File{r, w, r2, w2} {
		f.DecRef()
	}
	if _, now := tr.Pool.Usage(); now != free {
		t.Errorf("%d pages free before, %d after", free, now)
	}
}

// TestSpliceBothWays is for the race detector and the order of locks.
func TestSpliceBothWays(t *testing.T) {
	tr, r, w := newPipe(t)
	r2, w2, err := pipe.New(tr.NS, tr.Ctx.Cred, unix.O_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, f := range []func(){
		func() { pipe.Splice(r, w2, 5000) },
		func() { pipe.Splice(r2, w, 5000) },
		func() { pipe.Tee(r, w2, 100) },
		func() { write(w, "some bytes") },
		func() { write(w2, "other bytes") },
		func() { read(r, 3000) },
		func() { read(r2, 3000) },
	} {
		wg.Go(func() {
			for range 3000 {
				f()
			}
		})
	}
	wg.Wait()
	for _, f := range []*vfs.File{r, w, r2, w2} {
		f.DecRef()
	}
}
