package net

import (
	"math/rand/v2"
	"testing"
)

// TestMark reads a stream with urgent bytes in pieces of any size, and compares with what the whole list says.
func TestMark(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for round := range 20000 {
		start := uint32(r.Uint64()) // also around 2³²
		inline := r.IntN(2) == 0
		m := mark{}
		at := start + uint32(r.IntN(20))
		end := at + 1 + uint32(r.IntN(10))
		if !m.point(at, start, start, inline) || m.point(at, start, start, inline) || m.point(at-1, start, start, inline) {
			t.Fatal("an urgent byte is news once")
		}
		m.fill('x')
		var got []uint32
		for copied := start; copied != end; {
			before := copied
			skip, room := m.plan(copied, inline)
			want := 1 + r.IntN(6)
			skip = min(skip, int(end-copied))
			copied += uint32(skip)
			n := min(want, room, int(end-copied))
			for range n {
				got = append(got, copied)
				copied++
			}
			m.took(skip + n)
			if before != at && int32(before-at) < 0 && int32(copied-at) > 0 {
				t.Fatalf("round %d: a read went over the mark", round)
			}
			if (copied == at) != m.reached() {
				t.Fatalf("round %d: reached is %v at %d, the mark is %d", round, m.reached(), copied, at)
			}
		}
		want := int(end - start)
		if !inline {
			want--
		}
		if len(got) != want {
			t.Fatalf("round %d: %d bytes, not %d", round, len(got), want)
		}
	}
}
