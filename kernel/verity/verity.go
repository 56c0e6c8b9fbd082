// Package verity checks what is read from a device against a Merkle tree, whose root hash somebody trusted has given: dm-verity's
// format (Linux, Documentation/admin-guide/device-mapper/verity.rst; the superblock is cryptsetup's, "Verity superblock format"
// of its wiki), so that veritysetup(8) makes and verifies such devices, too. Only SHA-256, and blocks of 512 to 4096 bytes.
//
// A block that is not what the tree says is EIO, each time it is read, and a line in the log. Nothing is returned, or used to
// check others, before it was checked itself.
package verity

import (
	"encoding/binary"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A Source is what is read from.
type Source interface {
	// ReadAt fills p from off on, both multiples of 512: EIO.
	ReadAt(p []byte, off int64) error
	// Size is the length in bytes.
	Size() int64
}

const (
	superSize = 512
	maxSalt   = 256
	signature = "verity\x00\x00"
	algorithm = "sha256"

	minBlock, maxBlock = 512, 4096
	maxLevels          = 16
)

// super is the superblock.
type super struct {
	dataBlock, hashBlock int64 // sizes in bytes
	blocks               int64 // of data
	saltLast             bool  // Chrome OS's way: the salt behind the data
	salt                 []byte
}

// parseSuper reads a superblock: EINVAL when there is none or it makes no sense, EOPNOTSUPP.
func parseSuper(b []byte) (*super, error) {
	le := binary.LittleEndian
	if len(b) < superSize || string(b[:8]) != signature || le.Uint32(b[8:]) != 1 {
		return nil, unix.EINVAL
	}
	s := &super{dataBlock: int64(le.Uint32(b[64:])), hashBlock: int64(le.Uint32(b[68:]))}
	blocks, salt := le.Uint64(b[72:]), int(le.Uint16(b[80:]))
	name := b[32:64]
	if string(name[:len(algorithm)]) != algorithm || name[len(algorithm)] != 0 || le.Uint32(b[12:]) > 1 {
		return nil, unix.EOPNOTSUPP
	}
	s.saltLast = le.Uint32(b[12:]) == 0
	if !isBlock(s.dataBlock) || !isBlock(s.hashBlock) || blocks == 0 || blocks > 1<<62/maxBlock || salt > maxSalt {
		return nil, unix.EINVAL
	}
	s.blocks = int64(blocks)
	s.salt = append([]byte(nil), b[88:88+salt]...)
	return s, nil
}

func isBlock(n int64) bool { return n >= minBlock && n <= maxBlock && n&(n-1) == 0 }

func (s *super) sum(block []byte) [digest]byte {
	if s.saltLast {
		return sum256(block, s.salt)
	}
	return sum256(s.salt, block)
}

// Device is the data, checked.
type Device struct {
	super
	data, tree Source
	root       [digest]byte
	levels     []int64 // where each level begins on tree in bytes, that of the data's hashes first
	log        func(string)
	complaints atomic.Int32

	mu    sync.Mutex
	known map[int64][]byte // hash blocks that were checked, by place; never changed; guarded by mu
}

// Open returns the data of a device, whose superblock and tree begin at offset of tree: EINVAL, EOPNOTSUPP, EIO. root is
// the root hash in bytes. log takes a line for each of the first blocks that are not right.
func Open(data, tree Source, offset int64, root []byte, log func(string)) (*Device, error) {
	if len(root) != digest || offset < 0 || offset%superSize != 0 || offset > tree.Size()-superSize {
		return nil, unix.EINVAL
	}
	b := make([]byte, superSize)
	if err := tree.ReadAt(b, offset); err != nil {
		return nil, err
	}
	s, err := parseSuper(b)
	if err != nil {
		return nil, err
	}
	d := &Device{super: *s, data: data, tree: tree, root: [digest]byte(root), log: log, known: make(map[int64][]byte)}
	if s.blocks > data.Size()/s.dataBlock {
		return nil, unix.EINVAL
	}
	if err := d.place(offset); err != nil {
		return nil, err
	}
	// The root of the tree must be right, or nothing will be.
	if _, err := d.hashOf(0); err != nil {
		return nil, err
	}
	return d, nil
}

// place finds where the levels of the tree begin: the topmost first, in the block behind the superblock.
func (d *Device) place(offset int64) error {
	per := d.perBlock()
	var counts []int64
	for n := d.blocks; n > 1; {
		n = (n + per - 1) / per
		counts = append(counts, n)
	}
	if len(counts) > maxLevels {
		return unix.EINVAL
	}
	at := (offset + superSize + d.hashBlock - 1) &^ (d.hashBlock - 1)
	d.levels = make([]int64, len(counts))
	for i := len(counts) - 1; i >= 0; i-- {
		d.levels[i] = at
		if counts[i] > (d.tree.Size()-at)/d.hashBlock {
			return unix.EINVAL
		}
		at += counts[i] * d.hashBlock
	}
	return nil
}

// perBlock is how many hashes are in a block of the tree.
func (d *Device) perBlock() int64 { return d.hashBlock / digest }

// Size is the length of the data in bytes.
func (d *Device) Size() int64 { return d.blocks * d.dataBlock }

// BlockSize is the size in bytes of the blocks that are checked.
func (d *Device) BlockSize() int64 { return d.dataBlock }

// ReadAt fills p from off on, both multiples of 512: EIO, EINVAL.
func (d *Device) ReadAt(p []byte, off int64) error {
	if off < 0 || (off|int64(len(p)))%minBlock != 0 || off > d.Size() || int64(len(p)) > d.Size()-off {
		return unix.EINVAL
	}
	mask := d.dataBlock - 1
	for len(p) > 0 {
		if off&mask == 0 && int64(len(p)) >= d.dataBlock {
			// As many whole blocks as there are.
			n := int64(len(p)) &^ mask
			if err := d.readBlocks(p[:n], off); err != nil {
				return err
			}
			p, off = p[n:], off+n
			continue
		}
		b := make([]byte, d.dataBlock)
		if err := d.readBlocks(b, off&^mask); err != nil {
			return err
		}
		n := copy(p, b[off&mask:])
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// readBlocks reads whole blocks and checks each; p is cleared when one is wrong.
func (d *Device) readBlocks(p []byte, off int64) error {
	if err := d.data.ReadAt(p, off); err != nil {
		return err
	}
	for at := int64(0); at < int64(len(p)); at += d.dataBlock {
		if err := d.Check(p[at:at+d.dataBlock], (off+at)/d.dataBlock); err != nil {
			clear(p)
			return err
		}
	}
	return nil
}

// Check compares a block of data, which was read from somewhere, with the tree: EIO.
func (d *Device) Check(block []byte, number int64) error {
	want, err := d.hashOf(number)
	if err != nil {
		return err
	}
	if d.sum(block) != want {
		d.wrong("data", number)
		return unix.EIO
	}
	return nil
}

// maxComplaints bounds what goes to the log.
const maxComplaints = 32

func (d *Device) wrong(what string, number int64) {
	if d.log != nil && d.complaints.Add(1) <= maxComplaints {
		d.log("gosv: verity: block " + strconv.FormatInt(number, 10) + " of the " + what + " is not what the root hash says")
	}
}

// hashOf returns the hash that data block number must have, from blocks of the tree that are right.
func (d *Device) hashOf(number int64) ([digest]byte, error) {
	want := d.root
	per := d.perBlock()
	for level := len(d.levels) - 1; level >= 0; level-- {
		index := number // of the hash in the level
		for range level {
			index /= per
		}
		b, err := d.hashBlockAt(d.levels[level]+index/per*d.hashBlock, want)
		if err != nil {
			return want, err
		}
		want = [digest]byte(b[index%per*digest:])
	}
	return want, nil
}

// maxKnown bounds the hash blocks that are kept.
const maxKnown = 256

// hashBlockAt returns a block of the tree, checked: EIO.
func (d *Device) hashBlockAt(at int64, want [digest]byte) ([]byte, error) {
	d.mu.Lock()
	b := d.known[at]
	d.mu.Unlock()
	if b != nil {
		return b, nil
	}
	b = make([]byte, d.hashBlock)
	if err := d.tree.ReadAt(b, at); err != nil {
		return nil, err
	}
	if d.sum(b) != want {
		d.wrong("tree", at/d.hashBlock)
		return nil, unix.EIO
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.known) >= maxKnown {
		for k := range d.known { // any
			delete(d.known, k)
			break
		}
	}
	d.known[at] = b
	return b, nil
}
