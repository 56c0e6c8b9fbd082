package ext4

import (
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A kind of metadata block: what was checked when it was read.
type kind uint8

const (
	anyKind kind = iota
	bitmapKind
	tableKind
	extentKind
	dirKind
	indexKind // of a hashed directory
	xattrKind
	descKind
)

// A buffer is one block of metadata in memory. data is guarded by fileSystem.mu; a buffer that differs from the disk is never
// given up.
type buffer struct {
	block uint64
	data  []byte
	kind  kind
	// image is what the last committed transaction has of the block, until it is written to its place.
	image []byte
	inTx  bool // changed by the running transaction
	used  bool

	// Of a block of a directory. All records are sound; the lock for reading is enough to find that out.
	sound atomic.Bool
	// No record before the place from has room for a name that needs least bytes or more.
	from, least int
}

// Bounds of how many blocks are kept: a part of the memory.
const (
	leastBuffers = 256
	mostBuffers  = 4096
	bufferPart   = 64
)

// buffers are the metadata blocks in memory. There may be more than most while something is done; trim, when nobody
// holds one, gives up those that were not used for long.
type buffers struct {
	most int

	mu    sync.Mutex
	known map[uint64]*buffer // guarded by mu
	ring  []*buffer          // by the clock algorithm; guarded by mu
	hand  int                // guarded by mu
}

// many reports whether it is time to trim.
func (c *buffers) many() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.ring) > c.most
}

// trim gives up unchanged buffers until there are somewhat fewer than most. fileSystem.mu is held for writing.
func (c *buffers) trim() {
	c.mu.Lock()
	defer c.mu.Unlock()
	want := c.most - c.most/8
	for tries := 2 * len(c.ring); len(c.ring) > want && tries > 0; tries-- {
		c.hand = (c.hand + 1) % len(c.ring)
		old := c.ring[c.hand]
		if old.inTx || old.image != nil {
			continue
		}
		if old.used {
			old.used = false
			continue
		}
		delete(c.known, old.block)
		last := len(c.ring) - 1
		c.ring[c.hand], c.ring[last] = c.ring[last], nil
		c.ring = c.ring[:last]
	}
}

// trim keeps the number of buffers within bounds; no lock is held.
func (fs *fileSystem) trim() {
	if fs.buffers.many() {
		fs.mu.Lock()
		fs.buffers.trim()
		fs.mu.Unlock()
	}
}

func (c *buffers) find(block uint64) *buffer {
	c.mu.Lock()
	b := c.known[block]
	if b != nil {
		b.used = true
	}
	c.mu.Unlock()
	return b
}

// add makes b known, unless somebody was faster; that one is returned then.
func (c *buffers) add(b *buffer) *buffer {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil {
		c.known = map[uint64]*buffer{}
	}
	if old := c.known[b.block]; old != nil {
		return old
	}
	c.known[b.block] = b
	c.ring = append(c.ring, b)
	return b
}

// forget takes a block out.
func (c *buffers) forget(b *buffer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known[b.block] == b {
		delete(c.known, b.block)
		if i := slices.Index(c.ring, b); i >= 0 {
			c.ring = slices.Delete(c.ring, i, i+1)
		}
	}
}

// read returns the block, read from the disk if need be: EIO, and EUCLEAN for one outside the file system or that check refuses. fs.mu is held.
func (fs *fileSystem) read(block uint64, k kind, check func(b []byte) error) (*buffer, error) {
	if block >= fs.blocks {
		return nil, unix.EUCLEAN
	}
	b := fs.buffers.find(block)
	if b == nil {
		b = &buffer{block: block, data: make([]byte, fs.blockSize)}
		if err := fs.disk.ReadAt(b.data, int64(block)<<fs.blockBits); err != nil {
			return nil, err
		}
		b = fs.buffers.add(b)
	}
	if k != anyKind && check != nil {
		fs.buffers.mu.Lock()
		checked := b.kind == k
		fs.buffers.mu.Unlock()
		if !checked {
			if err := check(b.data); err != nil {
				return nil, err
			}
			fs.buffers.mu.Lock()
			b.kind = k
			fs.buffers.mu.Unlock()
		}
	}
	return b, nil
}

// fresh returns a buffer of zeros for a block that was just allocated, part of the transaction. fs.mu is held for writing.
func (fs *fileSystem) fresh(block uint64, k kind) *buffer {
	b := fs.buffers.find(block)
	if b == nil {
		b = fs.buffers.add(&buffer{block: block, data: make([]byte, fs.blockSize)})
	}
	clear(b.data)
	b.kind = k
	fs.change(b)
	return b
}

// change makes b part of the running transaction; fs.mu is held for writing. The change itself may come before or after.
func (fs *fileSystem) change(b *buffer) {
	fs.tx.changes++
	b.sound.Store(false)
	b.from = 0
	if !b.inTx {
		b.inTx = true
		fs.tx.buffers = append(fs.tx.buffers, b)
		delete(fs.tx.revoked, b.block)
	}
}
