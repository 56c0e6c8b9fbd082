package main

import (
	"encoding/binary"
	"math/rand/v2"
	"sync"

	"gosv/driver/rng"
	"gosv/driver/virtio"
	"gosv/machine"
)

// generator makes random bytes for programs: ChaCha8 with a key from the runtime's generator, which the floor seeds from RDRAND,
// mixed with what the host's entropy devices give. Neither alone decides the key.
type generator struct {
	mu     sync.Mutex
	source *rand.ChaCha8 // guarded by mu
}

var randomness = newGenerator(nil)

func newGenerator(extra []byte) *generator {
	var key [32]byte
	for i := 0; i < len(key); i += 8 {
		binary.LittleEndian.PutUint64(key[i:], rand.Uint64())
	}
	for i, b := range extra {
		key[i%len(key)] ^= b
	}
	return &generator{source: rand.NewChaCha8(key)}
}

// entropyTimeout bounds what booting waits for a device, in ns.
const entropyTimeout = 50e6

// addEntropy mixes what the machine's entropy devices give into the generator.
func addEntropy(m machine.Machine, found devices, l *log) {
	for _, d := range startAll(found, virtio.TypeEntropy, l, func(t virtio.Transport) (*rng.Device, error) { return rng.New(t, m) }) {
		var b [32]byte
		n, err := d.Read(b[:], m.Monotonic()+entropyTimeout)
		if err != nil {
			l.problem(err)
			continue
		}
		fresh := newGenerator(b[:n])
		randomness.mu.Lock()
		randomness.source = fresh.source
		randomness.mu.Unlock()
		l.line("gosv: the host's entropy device is mixed in")
	}
}

// fillRandom fills b with bytes that nobody can guess.
func fillRandom(b []byte) {
	randomness.mu.Lock()
	_, _ = randomness.source.Read(b) // never fails
	randomness.mu.Unlock()
}
