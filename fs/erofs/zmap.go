package erofs

import (
	"encoding/binary"
	"sync"

	"golang.org/x/sys/unix"
)

// A compressed file is cut into logical clusters of one block. Its index has an entry for each: a head, where compressed or
// plain data begin at an offset in the cluster, or a non-head, which says how far back the head is. The data of a head go to
// where the next one begins, and lie in one physical cluster of one or several blocks.
// (Linux, Documentation/filesystems/erofs.rst and fs/erofs/erofs_fs.h.)

// Types of entries.
const (
	clusterPlain = iota
	clusterHead
	clusterNonhead
	clusterHead2
)

// Bits of h_advise.
const (
	advise2B          = 1 << 0
	adviseBig         = 1 << 1
	adviseBig2        = 1 << 2
	adviseInterlaced  = 1 << 4
	adviseUnsupported = 1<<3 | 1<<5 // ztailpacking, fragments
)

const (
	countFlag = 1 << 11 // in a distance: it is the number of blocks of the physical cluster instead
	// maxExtent is the most bytes that one physical cluster may decompress to, and maxPcluster the most it may have.
	maxExtent   = 4 << 20
	maxPcluster = 1 << 20
)

// zmap is the index of a compressed file.
type zmap struct {
	advise   uint16
	table    int64 // where the entries begin
	clusters int64 // how many there are
	initial  int64 // entries of 4 bytes before those of 2
	twos     int64 // entries of 2 bytes
}

// cluster is a decoded entry.
type cluster struct {
	typ    int
	offset int64 // of a head, in its cluster
	block  int64 // of a head, where the physical cluster is
	back   int64 // of a non-head, how many clusters back the head is
	count  int64 // of a non-head with countFlag: blocks of the physical cluster
}

// loadMap reads the header of the index: EUCLEAN, EOPNOTSUPP, EIO.
func (n *node) loadMap() (*zmap, error) {
	at := (n.behind + 7) &^ 7
	var b [mapHeaderSize]byte
	if err := n.fs.read(b[:], at); err != nil {
		return nil, err
	}
	z := &zmap{advise: binary.LittleEndian.Uint16(b[4:]), clusters: (n.size + n.fs.blockSize() - 1) >> n.fs.blockBits}
	algorithms, bits := b[6], b[7] // 0 is LZ4, and clusters of one block
	if z.advise&adviseUnsupported != 0 || algorithms != 0 || bits != 0 {
		return nil, unix.EOPNOTSUPP
	}
	z.table = at + mapHeaderSize
	if n.layout == compressedFull {
		z.table += 8
		if z.clusters > (n.fs.size-z.table)/8 {
			return nil, unix.EUCLEAN
		}
		return z, nil
	}
	z.initial = min(-z.table&31/4, z.clusters)
	if z.advise&advise2B != 0 {
		z.twos = (z.clusters - z.initial) &^ 15
	}
	if z.clusters-z.twos > (n.fs.size-z.table)/4+1 {
		return nil, unix.EUCLEAN
	}
	return z, nil
}

// cluster decodes entry i.
func (n *node) cluster(i int64) (c cluster, err error) {
	if i < 0 || i >= n.z.clusters {
		return c, unix.EUCLEAN
	}
	if n.layout == compressedFull {
		return n.fullCluster(i)
	}
	return n.packedCluster(i)
}

func (n *node) fullCluster(i int64) (c cluster, err error) {
	var b [8]byte
	if err := n.fs.read(b[:], n.z.table+8*i); err != nil {
		return c, err
	}
	le := binary.LittleEndian
	advise := le.Uint16(b[:])
	c.typ = int(advise & 3)
	const partial = 1 << 15
	if advise&partial != 0 {
		return c, unix.EOPNOTSUPP // dedupe
	}
	if c.typ != clusterNonhead {
		c.offset, c.block = int64(le.Uint16(b[2:])), int64(le.Uint32(b[4:]))
		return c, nil
	}
	c.setDistance(int64(le.Uint16(b[4:])))
	return c, nil
}

func (c *cluster) setDistance(d int64) {
	c.back = d
	if d&countFlag != 0 {
		c.back, c.count = 1, d&^countFlag
	}
}

// pack is a group of entries that share a block address.
type pack struct {
	b       [32]byte
	entries int64
	bits    uint // of each entry: those of low, and two of type
	low     uint
}

// packedCluster decodes entry i of a compact index. A pack has 2 entries in 8 bytes or 16 in 32; the last 4 bytes are
// the address of the block before those of its heads.
func (n *node) packedCluster(i int64) (c cluster, err error) {
	z := n.z
	pos, unit, rest := z.table, int64(4), i
	switch {
	case i < z.initial:
	case i < z.initial+z.twos:
		pos, unit, rest = pos+4*z.initial, 2, i-z.initial
	default:
		pos, rest = pos+4*z.initial+2*z.twos, i-z.initial-z.twos
	}
	p := pack{entries: 2, low: max(n.fs.blockBits, 12)}
	if unit == 2 {
		p.entries = 16
	}
	size := unit * p.entries
	p.bits = uint((size - 4) * 8 / p.entries)
	if p.bits < p.low+2 {
		return c, unix.EUCLEAN
	}
	pos += rest * unit
	start := pos &^ (size - 1)
	if err := n.fs.read(p.b[:size], start); err != nil {
		return c, err
	}
	return p.decode((pos-start)/unit, z.advise&adviseBig != 0, binary.LittleEndian.Uint32(p.b[size-4:]))
}

// entry returns the low bits and the type of entry k.
func (p *pack) entry(k int64) (low int64, typ int) {
	bit := uint(k) * p.bits
	v := binary.LittleEndian.Uint32(p.b[bit/8:]) >> (bit & 7)
	return int64(v & (1<<p.low - 1)), int(v >> p.low & 3)
}

func (p *pack) decode(k int64, big bool, base uint32) (c cluster, err error) {
	low, typ := p.entry(k)
	c.typ = typ
	if typ != clusterNonhead {
		c.offset = low
		before, err := p.blocksBefore(k, big)
		c.block = int64(base) + before
		return c, err
	}
	switch {
	case low&countFlag != 0:
		if !big {
			return c, unix.EUCLEAN
		}
		c.setDistance(low)
	case k+1 < p.entries:
		c.back = low
	default:
		// The last entry has the distance to the next head, so it is one further from its own than the entry before.
		c.back = 1
		if low, typ := p.entry(k - 1); typ == clusterNonhead {
			if low&countFlag != 0 {
				low = 1
			}
			c.back = low + 1
		}
	}
	return c, nil
}

// blocksBefore counts the blocks of the physical clusters that begin in the pack before entry k; without big
// pclusters k's own is counted too, as base is one less.
func (p *pack) blocksBefore(k int64, big bool) (blocks int64, err error) {
	if !big {
		blocks = 1
	}
	for k--; k >= 0; k-- {
		low, typ := p.entry(k)
		switch {
		case typ != clusterNonhead:
			blocks++
		case !big:
			// Skip to the head, which counts if it is in this pack.
			if k -= low; k >= 0 {
				blocks++
			}
		case low&countFlag != 0:
			blocks += low &^ countFlag
			k--
		case low <= 1:
			return 0, unix.EUCLEAN
		default:
			k -= low - 2
			// The entry with the count comes next: it is the one behind the head.
		}
	}
	return blocks, nil
}

// A zextent is a piece of a file that is in one physical cluster.
type zextent struct {
	start, size int64 // in the file
	at, stored  int64 // in the image
	plain       bool
}

// zextent finds the piece that the byte at off is in: EUCLEAN, EIO.
func (n *node) zextent(off int64) (e zextent, err error) {
	i := off >> n.fs.blockBits
	c, err := n.cluster(i)
	if err != nil {
		return e, err
	}
	// Back to the head at or before off.
	for c.typ == clusterNonhead || i<<n.fs.blockBits+c.offset > off {
		back := c.back
		if c.typ != clusterNonhead {
			back = 1
		}
		if back <= 0 || back > i {
			return e, unix.EUCLEAN
		}
		i -= back
		if c, err = n.cluster(i); err != nil {
			return e, err
		}
		if (off>>n.fs.blockBits-i)<<n.fs.blockBits > maxExtent {
			return e, unix.EUCLEAN
		}
	}
	if c.offset >= n.fs.blockSize() {
		return e, unix.EUCLEAN
	}
	e.start = i<<n.fs.blockBits + c.offset
	e.plain = c.typ == clusterPlain
	blocks, next, err := n.extentEnd(i)
	if err != nil {
		return e, err
	}
	e.size = next - e.start
	e.at, e.stored = c.block<<n.fs.blockBits, blocks<<n.fs.blockBits
	if e.size <= 0 || e.size > maxExtent || off-e.start >= e.size || e.stored > maxPcluster || e.at > n.fs.size-e.stored {
		return e, unix.EUCLEAN
	}
	return e, nil
}

// extentEnd returns how many blocks the physical cluster of the head i has, and where its data end in the file.
func (n *node) extentEnd(i int64) (blocks, end int64, err error) {
	blocks = 1
	for k := i + 1; k < n.z.clusters; {
		if (k-i)<<n.fs.blockBits > maxExtent {
			return 0, 0, unix.EUCLEAN
		}
		c, err := n.cluster(k)
		if err != nil {
			return 0, 0, err
		}
		if c.typ != clusterNonhead {
			return blocks, min(k<<n.fs.blockBits+c.offset, n.size), nil
		}
		if k == i+1 && c.count != 0 {
			blocks = c.count
		}
		k++
	}
	return blocks, n.size, nil
}

// decompressed keeps the pieces that were decompressed last, as a page is read at a time.
type decompressed struct {
	mu   sync.Mutex
	kept [4]piece // guarded by mu
	next int      // guarded by mu
}

type piece struct {
	nid   uint64
	start int64
	data  []byte // nil: none; never changed
}

func (d *decompressed) get(nid uint64, off int64) (piece, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.kept {
		if p.nid == nid && p.data != nil && off >= p.start && off-p.start < int64(len(p.data)) {
			return p, true
		}
	}
	return piece{}, false
}

func (d *decompressed) put(p piece) {
	d.mu.Lock()
	d.kept[d.next] = p
	d.next = (d.next + 1) % len(d.kept)
	d.mu.Unlock()
}

// readCompressed is read of a compressed file.
func (n *node) readCompressed(p []byte, off int64) error {
	if err := n.mapOnce(); err != nil {
		return err
	}
	for len(p) > 0 {
		d, ok := n.fs.unpacked.get(n.nid, off)
		if !ok {
			e, err := n.zextent(off)
			if err != nil {
				return err
			}
			if d, err = n.expand(e); err != nil {
				return err
			}
			n.fs.unpacked.put(d)
		}
		k := copy(p, d.data[off-d.start:])
		p, off = p[k:], off+int64(k)
	}
	return nil
}

func (n *node) mapOnce() (err error) {
	n.fs.mapping.Lock()
	defer n.fs.mapping.Unlock()
	if n.z == nil {
		n.z, err = n.loadMap()
	}
	return err
}

// expand decompresses a piece: EUCLEAN, EIO.
func (n *node) expand(e zextent) (piece, error) {
	stored := make([]byte, e.stored)
	if err := n.fs.readData(stored, e.at); err != nil {
		return piece{}, err
	}
	d := piece{n.nid, e.start, make([]byte, e.size)}
	switch {
	case e.plain && e.size > e.stored:
		return piece{}, unix.EUCLEAN
	case e.plain && n.z.advise&adviseInterlaced != 0:
		// Each byte is where it is in its block, so what crosses a block's end wraps around.
		first := copy(d.data, stored[e.start&(n.fs.blockSize()-1)&(e.stored-1):])
		copy(d.data[first:], stored)
	case e.plain:
		copy(d.data, stored)
	default:
		if n.fs.zeroPadding {
			for len(stored) > 0 && stored[0] == 0 {
				stored = stored[1:]
			}
		}
		if !lz4(d.data, stored) {
			return piece{}, unix.EUCLEAN
		}
	}
	return d, nil
}
