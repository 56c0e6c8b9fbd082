// Package rand stands in for gVisor's source of random numbers when netstack is
// built into the kernel: they are those of the runtime's ChaCha8 generator, which the floor
// seeds from RDRAND. The standard library's crypto/rand would bring 32 MiB of zeroed memory.
package rand

import (
	"encoding/binary"
	"io"
	"math/rand/v2"
)

type reader struct{}

func (reader) Read(p []byte) (int, error) {
	n := len(p)
	for ; len(p) >= 8; p = p[8:] {
		binary.NativeEndian.PutUint64(p, rand.Uint64())
	}
	for v := rand.Uint64(); len(p) > 0; p = p[1:] {
		p[0], v = byte(v), v>>8
	}
	return n, nil
}

// Reader gives random bytes without end.
var Reader io.Reader = reader{}

// Read fills b.
func Read(b []byte) (int, error) { return Reader.Read(b) }

// RNG gives random numbers out of a Reader.
type RNG struct{ Reader io.Reader }

// RNGFrom returns a RNG over r.
func RNGFrom(r io.Reader) RNG { return RNG{r} }

func (g *RNG) bytes(b []byte) {
	if _, err := io.ReadFull(g.Reader, b); err != nil {
		panic(err)
	}
}

// Uint16 returns a random number.
func (g *RNG) Uint16() uint16 {
	var b [2]byte
	g.bytes(b[:])
	return binary.NativeEndian.Uint16(b[:])
}

// Uint32 returns a random number.
func (g *RNG) Uint32() uint32 {
	var b [4]byte
	g.bytes(b[:])
	return binary.NativeEndian.Uint32(b[:])
}

// Uint64 returns a random number.
func (g *RNG) Uint64() uint64 {
	var b [8]byte
	g.bytes(b[:])
	return binary.NativeEndian.Uint64(b[:])
}

// Int63n returns a random number from 0 up to, but not including, n, which is above 0; each is
// as likely as any other.
func (g *RNG) Int63n(n int64) int64 {
	if n <= 0 {
		panic("rand: Int63n of nothing")
	}
	limit := uint64(1<<63) - uint64(1<<63)%uint64(n)
	for {
		if v := g.Uint64() >> 1; v < limit {
			return int64(v % uint64(n))
		}
	}
}
