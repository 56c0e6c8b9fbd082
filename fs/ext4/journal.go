package ext4

import (
	"encoding/binary"
	"errors"
	"slices"

	"golang.org/x/sys/unix"

	"gosv/kernel/sorting"
)

// The journal (Documentation/filesystems/ext4/journal.rst, JBD2): a superblock, then a ring of transactions, each made of descriptor
// blocks with the blocks that they name behind them, blocks of revocations, and a commit block. All numbers are big-endian.
const (
	journalMagic = 0xc03b3998

	jDescriptor = 1
	jCommit     = 2
	jSuper1     = 3
	jSuper2     = 4
	jRevoke     = 5

	jBlockSize = 12
	jMaxLen    = 16
	jFirst     = 20
	jSequence  = 24
	jStart     = 28
	jErrno     = 32
	jCompat    = 36
	jIncompat  = 40
	jROCompat  = 44
	jUUID      = 48
	jSumType   = 80
	jSum       = 252
	jSuperSize = 1024

	jIncompatRevoke = 1
	jIncompat64     = 2
	jIncompatAsync  = 4
	jIncompatCsum2  = 8
	jIncompatCsum3  = 16
	jKnownIncompat  = jIncompatRevoke | jIncompat64 | jIncompatAsync | jIncompatCsum2 | jIncompatCsum3

	tagEscape   = 1
	tagSameUUID = 2
	tagDeleted  = 4
	tagLast     = 8

	jHeader = 12
	// minJournal is the least useful number of blocks.
	minJournal = 256
)

var be = binary.BigEndian

// journal is the log of a mounted file system.
type journal struct {
	fs       *fileSystem
	super    []byte
	blocks   []run  // where the log lies, in order
	space    uint64 // how many blocks these are
	length   uint32
	first    uint32
	incompat uint32
	seed     uint32

	// What follows is guarded by fs.committing.
	sequence uint32 // of the next transaction
	head     uint32 // where it goes
	tail     uint32 // the oldest block that counts
	empty    bool   // nothing is in the log
}

// at returns the block of the disk where block i of the journal lies.
func (j *journal) at(i uint32) uint64 {
	for _, r := range j.blocks {
		if i < r.n {
			return r.block + uint64(i)
		}
		i -= r.n
	}
	return 0
}

func (j *journal) read(i uint32) ([]byte, error) {
	b := make([]byte, j.fs.blockSize)
	return b, j.fs.disk.ReadAt(b, int64(j.at(i))<<j.fs.blockBits)
}

func (j *journal) sums() bool { return j.incompat&(jIncompatCsum2|jIncompatCsum3) != 0 }

// openJournal reads the journal's superblock: EUCLEAN, EOPNOTSUPP, EIO. fs.mu is held.
func (fs *fileSystem) openJournal() (*journal, error) {
	_, raw, err := fs.rawInode(fs.journalInode)
	if err != nil {
		return nil, err
	}
	if err := fs.checkInode(fs.journalInode, raw); err != nil {
		return nil, err
	}
	i, err := fs.decodeInode(fs.journalInode, raw)
	if err != nil || i.Type() != unix.S_IFREG {
		return nil, unix.EUCLEAN
	}
	n := of(i)
	defer n.cache.Release()
	if err := n.load(); err != nil {
		return nil, err
	}
	j := &journal{fs: fs}
	for _, l := range n.tree.leaves {
		for _, e := range l.extents {
			if e.lblock != j.space || e.unwritten {
				return nil, unix.EUCLEAN
			}
			j.blocks = append(j.blocks, run{e.pblock, e.length})
			j.space = e.end()
		}
	}
	if j.space < minJournal || j.space > 1<<31 {
		return nil, unix.EUCLEAN
	}
	if j.super, err = j.read(0); err != nil {
		return nil, err
	}
	return j, j.parseSuper()
}

// parseSuper checks the superblock of the journal: EUCLEAN, EOPNOTSUPP.
func (j *journal) parseSuper() error {
	s := j.super
	second := be.Uint32(s[4:]) == jSuper2
	if be.Uint32(s) != journalMagic || !second && be.Uint32(s[4:]) != jSuper1 {
		return unix.EUCLEAN
	}
	if second {
		j.incompat = be.Uint32(s[jIncompat:])
	}
	j.length, j.first = be.Uint32(s[jMaxLen:]), be.Uint32(s[jFirst:])
	start := be.Uint32(s[jStart:])
	switch {
	case int(be.Uint32(s[jBlockSize:])) != j.fs.blockSize || uint64(j.length) > j.space || j.length < minJournal || j.first == 0 || j.first >= j.length/2,
		start != 0 && (start < j.first || start >= j.length):
		return unix.EUCLEAN
	case j.incompat&^jKnownIncompat != 0 || second && be.Uint32(s[jROCompat:]) != 0:
		return unix.EOPNOTSUPP
	case j.incompat&jIncompatCsum2 != 0 && j.incompat&jIncompatCsum3 != 0:
		return unix.EUCLEAN
	}
	if j.sums() {
		j.seed = crc32c(^uint32(0), s[jUUID:jUUID+16])
		if j.superSum() != be.Uint32(s[jSum:]) {
			return unix.EUCLEAN
		}
	}
	j.sequence, j.empty = be.Uint32(s[jSequence:]), start == 0
	j.head, j.tail = j.first, j.first
	return nil
}

func (j *journal) superSum() uint32 {
	s := slices.Clone(j.super[:jSuperSize])
	clear(s[jSum : jSum+4])
	return crc32c(^uint32(0), s)
}

// writeSuper makes the journal's superblock say where the log begins; 0: it is empty.
func (j *journal) writeSuper(start uint32) error {
	be.PutUint32(j.super[jSequence:], j.sequence)
	be.PutUint32(j.super[jStart:], start)
	return j.storeSuper()
}

// storeSuper writes the journal's superblock.
func (j *journal) storeSuper() error {
	s := j.super
	if be.Uint32(s[4:]) == jSuper2 {
		be.PutUint32(s[jIncompat:], j.incompat)
		if j.sums() {
			be.PutUint32(s[jSum:], j.superSum())
		}
	}
	return j.fs.disk.WriteAt(s, int64(j.at(0))<<j.fs.blockBits, true)
}

// tagBytes is how long an entry of a descriptor is.
func (j *journal) tagBytes() int {
	if j.incompat&jIncompatCsum3 != 0 {
		return 16
	}
	n := 8
	if j.incompat&jIncompat64 != 0 {
		n += 4
	}
	return n
}

// next is the block behind i in the ring.
func (j *journal) next(i uint32) uint32 {
	if i++; i >= j.length {
		return j.first
	}
	return i
}

// room is how many blocks are free in the ring.
func (j *journal) room() uint32 {
	size := j.length - j.first
	if j.empty {
		return size - 1
	}
	used := (j.head + size - j.tail) % size
	return size - used - 1
}

// tag is one entry of a descriptor.
type tag struct {
	block uint64
	flags uint32
	sum   uint32
}

// tags reads the entries of a descriptor block: EUCLEAN.
func (j *journal) tags(b []byte) (list []tag, err error) {
	end := len(b)
	if j.sums() {
		end -= 4
	}
	for at := jHeader; ; {
		if at+j.tagBytes() > end {
			return list, nil
		}
		t := tag{block: uint64(be.Uint32(b[at:]))}
		if j.incompat&jIncompatCsum3 != 0 {
			t.flags, t.sum = be.Uint32(b[at+4:]), be.Uint32(b[at+12:])
			t.block |= uint64(be.Uint32(b[at+8:])) << 32
		} else {
			t.sum, t.flags = uint32(be.Uint16(b[at+4:])), uint32(be.Uint16(b[at+6:]))
			if j.incompat&jIncompat64 != 0 {
				t.block |= uint64(be.Uint32(b[at+8:])) << 32
			}
		}
		if t.block >= j.fs.blocks {
			return nil, unix.EUCLEAN
		}
		list = append(list, t)
		at += j.tagBytes()
		if t.flags&tagSameUUID == 0 {
			at += 16
		}
		if t.flags&tagLast != 0 {
			return list, nil
		}
	}
}

// blockSum verifies the checksum at the end of a descriptor or revocation block.
func (j *journal) blockSum(b []byte) bool {
	if !j.sums() {
		return true
	}
	c := slices.Clone(b)
	end := len(c) - 4
	clear(c[end:])
	return crc32c(j.seed, c) == be.Uint32(b[end:])
}

// commitSum verifies the checksum of a commit block.
func (j *journal) commitSum(b []byte) bool {
	if !j.sums() {
		return true
	}
	c := slices.Clone(b)
	clear(c[16:20])
	return crc32c(j.seed, c) == be.Uint32(b[16:])
}

// dataSum is the checksum of a block in the log.
func (j *journal) dataSum(sequence uint32, b []byte) uint32 {
	var number [4]byte
	be.PutUint32(number[:], sequence)
	sum := crc32c(crc32c(j.seed, number[:]), b)
	if j.incompat&jIncompatCsum2 != 0 {
		sum &= 0xffff
	}
	return sum
}

// replay brings what the log has to its places: EUCLEAN, EIO.
func (j *journal) replay() error {
	revoked := map[uint64]uint32{}
	last, err := j.scan(func(sequence uint32, b []byte) error { return j.readRevoked(sequence, b, revoked) }, nil, 0)
	if err != nil {
		return err
	}
	_, err = j.scan(nil, func(sequence uint32, t tag, data []byte) error {
		if at, ok := revoked[t.block]; ok && int32(at-sequence) >= 0 {
			return nil
		}
		if t.flags&tagEscape != 0 {
			be.PutUint32(data, journalMagic)
		}
		return j.fs.disk.WriteAt(data, int64(t.block)<<j.fs.blockBits, false)
	}, last)
	if err != nil {
		return err
	}
	if err := j.fs.disk.Flush(); err != nil {
		return err
	}
	j.sequence, j.empty = last+1, true
	return j.writeSuper(0)
}

// scan goes through the log. Without data it finds out which transaction is the last that is whole, with it
// it goes as far as that one.
func (j *journal) scan(revokes func(uint32, []byte) error, data func(uint32, tag, []byte) error, last uint32) (uint32, error) {
	at, sequence := be.Uint32(j.super[jStart:]), be.Uint32(j.super[jSequence:])
	var pending [][]byte // revocations of the transaction
	for left := j.length; left > 0; left-- {
		if data != nil && sequence == last+1 {
			return last, nil
		}
		b, err := j.read(at)
		if err != nil {
			return 0, err
		}
		if be.Uint32(b) != journalMagic || be.Uint32(b[8:]) != sequence || !j.sound(b) {
			break
		}
		at = j.next(at)
		switch be.Uint32(b[4:]) {
		case jDescriptor:
			var count uint32
			if at, count, err = j.scanData(b, at, left, sequence, data); err != nil {
				return 0, err
			}
			left -= count
		case jRevoke:
			pending = append(pending, b)
		case jCommit:
			for _, r := range pending {
				if revokes == nil {
					break
				}
				if err := revokes(sequence, r); err != nil {
					return 0, err
				}
			}
			pending = nil
			sequence++
		}
	}
	return sequence - 1, nil
}

// sound reports whether a block of the log that has the magic number is one of a known kind with the right checksum.
func (j *journal) sound(b []byte) bool {
	switch be.Uint32(b[4:]) {
	case jDescriptor, jRevoke:
		return j.blockSum(b)
	case jCommit:
		return j.commitSum(b)
	}
	return false
}

// scanData passes over the blocks that a descriptor announces, at most left-1, and gives them to do when it is not nil: EUCLEAN, EIO.
func (j *journal) scanData(desc []byte, at, left, sequence uint32, do func(uint32, tag, []byte) error) (behind, count uint32, err error) {
	list, err := j.tags(desc)
	if err != nil {
		return 0, 0, err
	}
	if count = uint32(len(list)); count >= left {
		return 0, 0, unix.EUCLEAN
	}
	for _, t := range list {
		if do != nil {
			d, err := j.read(at)
			if err != nil {
				return 0, 0, err
			}
			if j.sums() && j.dataSum(sequence, d) != t.sum {
				return 0, 0, unix.EUCLEAN
			}
			if err := do(sequence, t, d); err != nil {
				return 0, 0, err
			}
		}
		at = j.next(at)
	}
	return at, count, nil
}

func (j *journal) readRevoked(sequence uint32, b []byte, revoked map[uint64]uint32) error {
	end, size := int(be.Uint32(b[jHeader:])), 4
	if j.incompat&jIncompat64 != 0 {
		size = 8
	}
	if end < jHeader+4 || end > len(b) {
		return unix.EUCLEAN
	}
	for at := jHeader + 4; at+size <= end; at += size {
		block := uint64(be.Uint32(b[at:]))
		if size == 8 {
			block = be.Uint64(b[at:])
		}
		if old, ok := revoked[block]; !ok || int32(sequence-old) > 0 {
			revoked[block] = sequence
		}
	}
	return nil
}

// transaction is the one that is running. fs.mu guards it.
type transaction struct {
	buffers []*buffer
	revoked map[uint64]bool
	freed   []run
	super   bool // the superblock's counts changed
	changes int  // calls of change, to see whether something that failed changed anything
}

func newTransaction() *transaction { return &transaction{revoked: map[uint64]bool{}} }

func (t *transaction) isEmpty() bool {
	return len(t.buffers) == 0 && len(t.revoked) == 0 && len(t.freed) == 0 && !t.super
}

// image is a block as a transaction leaves it.
type image struct {
	block uint64
	data  []byte
	buf   *buffer
}

// commit makes the running transaction durable: EIO. No lock of the file system may be held.
func (fs *fileSystem) commit() error {
	fs.committing.Lock()
	defer fs.committing.Unlock()
	return fs.commitLocked()
}

func (fs *fileSystem) commitLocked() (err error) {
	defer fs.caught(&err)
	j := fs.journal
	tx, list, err := fs.closeTransaction()
	for err == errNoRoom {
		if err := fs.checkpoint(); err != nil {
			return fs.fail(err)
		}
		tx, list, err = fs.closeTransaction()
	}
	if err != nil || tx == nil {
		return err
	}
	if j == nil {
		err = fs.checkpoint()
	} else {
		err = j.write(list, tx.revoked)
	}
	if err != nil {
		return fs.fail(err)
	}
	fs.discard(tx.freed)
	full := false
	if err := fs.locked(func() error {
		fs.committed(tx)
		fs.images += len(list)
		full = fs.images > fs.buffers.most
		return nil
	}); err != nil {
		return err
	}
	if full && j != nil {
		if err := fs.checkpoint(); err != nil {
			return fs.fail(err)
		}
	}
	return nil
}

// errNoRoom says that the log is too full for a transaction.
var errNoRoom = errors.New("the log is full")

// closeTransaction begins a new transaction, and returns the one that was running, nil when there was nothing in it, and its blocks as they are now:
// errNoRoom when a checkpoint must come first.
func (fs *fileSystem) closeTransaction() (tx *transaction, list []image, err error) {
	err = fs.locked(func() error {
		j := fs.journal
		switch {
		case fs.failed != nil:
			return fs.failed
		case j != nil && j.need(len(fs.tx.buffers)+2, len(fs.tx.revoked)) > j.room() && !j.empty:
			return errNoRoom
		case fs.tx.isEmpty():
			return nil
		}
		if err := fs.storeSuper(); err != nil {
			return fs.broken(err)
		}
		tx = fs.tx
		list = make([]image, 0, len(tx.buffers))
		for _, b := range tx.buffers {
			if b.inTx {
				b.inTx = false
				list = append(list, image{b.block, slices.Clone(b.data), b})
			}
		}
		fs.tx = newTransaction()
		if j != nil && j.need(len(list), len(tx.revoked)) > j.room() {
			return fs.broken(unix.EFBIG)
		}
		for _, m := range list {
			m.buf.image = m.data // keeps it in memory; nobody writes it before fs.committing is free
		}
		return nil
	})
	return tx, list, err
}

// committed makes known that a transaction is durable. fs.mu is held for writing.
func (fs *fileSystem) committed(tx *transaction) {
	for _, r := range tx.freed {
		fs.busy.set(fs, r.block, r.n, false)
	}
	for block := range tx.revoked {
		b := fs.buffers.find(block)
		if b == nil {
			continue
		}
		b.image = nil
		if !b.inTx {
			fs.buffers.forget(b)
		}
	}
}

// need is how many blocks of the log a transaction takes.
func (j *journal) need(blocks, revoked int) uint32 {
	perDesc := (j.fs.blockSize - jHeader - 16 - 4) / j.tagBytes()
	perRevoke := (j.fs.blockSize - jHeader - 8) / 8
	return uint32(blocks + blocks/perDesc + 1 + revoked/perRevoke + 1 + 1)
}

// A logWriter gathers blocks that go to the log one behind the other.
type logWriter struct {
	j         *journal
	start, at uint32 // where the first that was not written goes, and the next
	out       []byte
}

func (w *logWriter) put(b []byte) error {
	w.out = append(w.out, b...)
	w.at = w.j.next(w.at)
	if w.at == w.j.first || len(w.out) >= 1<<18 {
		return w.flush()
	}
	return nil
}

func (w *logWriter) flush() error {
	if len(w.out) == 0 {
		return nil
	}
	if err := w.j.writeBlocks(w.start, w.out); err != nil {
		return err
	}
	w.out, w.start = w.out[:0], w.at
	return nil
}

// write puts a transaction into the log: the blocks, then, when they are durable, the commit block.
func (j *journal) write(list []image, revoked map[uint64]bool) error {
	w := logWriter{j: j, start: j.head, at: j.head}
	perDesc := (j.fs.blockSize - jHeader - 16 - 4) / j.tagBytes()
	for len(list) > 0 {
		batch := list[:min(perDesc, len(list))]
		list = list[len(batch):]
		if err := j.putBatch(&w, batch); err != nil {
			return err
		}
	}
	if err := j.putRevoked(revoked, w.put); err != nil {
		return err
	}
	if err := w.flush(); err != nil {
		return err
	}
	// The log and the data that the transaction refers to are durable before the commit block is written.
	if err := j.fs.disk.Flush(); err != nil {
		return err
	}
	return j.writeCommit(w.at)
}

// putBatch puts a descriptor and the blocks that it announces.
func (j *journal) putBatch(w *logWriter, batch []image) error {
	desc := make([]byte, j.fs.blockSize)
	j.head3(desc, jDescriptor)
	data := make([][]byte, len(batch))
	place := jHeader
	for i, m := range batch {
		flags := uint32(0)
		if i > 0 {
			flags |= tagSameUUID
		}
		if i == len(batch)-1 {
			flags |= tagLast
		}
		data[i] = m.data
		if be.Uint32(m.data) == journalMagic {
			data[i] = slices.Clone(m.data)
			clear(data[i][:4])
			flags |= tagEscape
		}
		j.putTag(desc[place:], m.block, flags, data[i])
		place += j.tagBytes()
		if i == 0 {
			copy(desc[place:], j.super[jUUID:jUUID+16])
			place += 16
		}
	}
	j.sumTail(desc)
	if err := w.put(desc); err != nil {
		return err
	}
	for _, d := range data {
		if err := w.put(d); err != nil {
			return err
		}
	}
	return nil
}

// writeCommit writes the commit block, durably, and ends the transaction.
func (j *journal) writeCommit(at uint32) error {
	b := make([]byte, j.fs.blockSize)
	j.head3(b, jCommit)
	now := j.fs.vfs.Now()
	be.PutUint64(b[48:], uint64(now/1e9))
	be.PutUint32(b[56:], uint32(now%1e9))
	if j.sums() {
		be.PutUint32(b[16:], crc32c(j.seed, b))
	}
	if err := j.fs.disk.WriteAt(b, int64(j.at(at))<<j.fs.blockBits, true); err != nil {
		return err
	}
	j.head, j.empty = j.next(at), false
	j.sequence++
	return nil
}

func (j *journal) head3(b []byte, typ uint32) {
	be.PutUint32(b, journalMagic)
	be.PutUint32(b[4:], typ)
	be.PutUint32(b[8:], j.sequence)
}

func (j *journal) sumTail(b []byte) {
	if j.sums() {
		be.PutUint32(b[len(b)-4:], crc32c(j.seed, b))
	}
}

func (j *journal) putTag(b []byte, block uint64, flags uint32, data []byte) {
	sum := uint32(0)
	if j.sums() {
		sum = j.dataSum(j.sequence, data)
	}
	be.PutUint32(b, uint32(block))
	if j.incompat&jIncompatCsum3 != 0 {
		be.PutUint32(b[4:], flags)
		be.PutUint32(b[8:], uint32(block>>32))
		be.PutUint32(b[12:], sum)
		return
	}
	be.PutUint16(b[4:], uint16(sum))
	be.PutUint16(b[6:], uint16(flags))
	if j.incompat&jIncompat64 != 0 {
		be.PutUint32(b[8:], uint32(block>>32))
	}
}

// putRevoked writes the blocks of revocations.
func (j *journal) putRevoked(revoked map[uint64]bool, put func([]byte) error) error {
	size := 4
	if j.incompat&jIncompat64 != 0 {
		size = 8
	}
	var b []byte
	place := 0
	end := func() error {
		if b == nil {
			return nil
		}
		be.PutUint32(b[jHeader:], uint32(place))
		j.sumTail(b)
		return put(b)
	}
	for block := range revoked {
		if b == nil || place+size > j.fs.blockSize-4 {
			if err := end(); err != nil {
				return err
			}
			b, place = make([]byte, j.fs.blockSize), jHeader+4
			j.head3(b, jRevoke)
		}
		if size == 8 {
			be.PutUint64(b[place:], block)
		} else {
			be.PutUint32(b[place:], uint32(block))
		}
		place += size
	}
	return end()
}

// writeBlocks writes blocks to the log from block i on; they do not wrap around.
func (j *journal) writeBlocks(i uint32, b []byte) error {
	size := j.fs.blockSize
	for len(b) > 0 {
		n := 1
		for n*size < len(b) && j.at(i+uint32(n)) == j.at(i)+uint64(n) {
			n++
		}
		if err := j.fs.disk.WriteAt(b[:n*size], int64(j.at(i))<<j.fs.blockBits, false); err != nil {
			return err
		}
		b, i = b[n*size:], i+uint32(n)
	}
	return nil
}

// imageList returns the committed blocks that are not in their places.
func (fs *fileSystem) imageList() (list []image) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.buffers.mu.Lock()
	defer fs.buffers.mu.Unlock()
	for _, b := range fs.buffers.known {
		if b.image != nil {
			list = append(list, image{b.block, b.image, b})
		}
	}
	return list
}

// checkpoint writes all committed blocks to their places, so that the log is empty. fs.committing is held.
func (fs *fileSystem) checkpoint() error {
	list := fs.imageList()
	sorting.Sort(list, func(a, b image) int {
		if a.block < b.block {
			return -1
		}
		return 1
	})
	for i := 0; i < len(list); {
		n := 1
		for i+n < len(list) && n < 64 && list[i+n].block == list[i].block+uint64(n) {
			n++
		}
		joined := list[i].data
		if n > 1 {
			joined = make([]byte, 0, n*fs.blockSize)
			for _, m := range list[i : i+n] {
				joined = append(joined, m.data...)
			}
		}
		if err := fs.disk.WriteAt(joined, int64(list[i].block)<<fs.blockBits, false); err != nil {
			return err
		}
		i += n
	}
	if err := fs.disk.Flush(); err != nil {
		return err
	}
	fs.mu.Lock()
	for _, m := range list {
		m.buf.image = nil
	}
	fs.images = 0
	fs.mu.Unlock()
	if j := fs.journal; j != nil {
		j.tail, j.empty = j.head, true
		return j.writeSuper(j.head)
	}
	return nil
}

// syncJournal makes all that was changed durable.
func (fs *fileSystem) syncJournal() error {
	fs.committing.Lock()
	defer fs.committing.Unlock()
	fs.mu.RLock()
	idle := fs.tx.isEmpty()
	fs.mu.RUnlock()
	if idle {
		// Nothing to commit, but what was written in place may be in the disk's cache.
		if err := fs.disk.Flush(); err != nil {
			return err
		}
		return fs.failure()
	}
	return fs.commitLocked()
}
