package ext4

import (
	"errors"
	"sort"

	"golang.org/x/sys/unix"

	"gosv/kernel/sorting"
)

// The index of a large directory is a tree over hashes of names. Its root is block 0, behind the records of . and ..;
// inner nodes look like an empty record. Each holds pairs of a hash and a block, in order; the hash of the first pair is
// the place of limit and count. The lowest bit of a hash says that names with it begin in the block before.
const (
	rootInfo    = 24 // in block 0: a word of zeros, hash version, length 8, levels, flags
	rootEntries = 32
	nodeEntries = 8
	indexEntry  = 8
	indexTail   = 8
	maxLevels   = 3 // below the root, with largedir
)

// errNoIndex says that the directory's index is not one that is understood, and names are to be looked for block by block.
var errNoIndex = errors.New("no usable index")

// indexPlace returns where the entries are in a block of the index; ok is false when it does not look like one.
func (n *node) indexPlace(b []byte) (at int, ok bool) {
	switch {
	case int(le.Uint16(b[4:])) == len(b) && le.Uint32(b) == 0 && b[6] == 0:
		return nodeEntries, true
	case le.Uint16(b[4:]) == 12 && int(le.Uint16(b[16:])) == len(b)-12 && le.Uint32(b[rootInfo:]) == 0 && b[rootInfo+5] == 8:
		return rootEntries, true
	}
	return 0, false
}

func (n *node) indexRoom(at int) int {
	return (n.fs.blockSize - at - indexTail*b2i(n.fs.csum)) / indexEntry
}

// indexSum is the checksum of an index block, EUCLEAN when it has no sound count.
func (n *node) indexSum(b []byte, at int) (uint32, []byte, error) {
	limit, count := int(le.Uint16(b[at:])), int(le.Uint16(b[at+2:]))
	end := at + limit*indexEntry
	if count > limit || end+indexTail > len(b) {
		return 0, nil, unix.EUCLEAN
	}
	tail := b[end : end+indexTail]
	sum := crc32c(n.seed, b[:at+count*indexEntry])
	sum = crc32c(sum, tail[:4])
	return crc32cZeros(sum, 4), tail, nil
}

func (n *node) checkIndex(b []byte, at int) error {
	sum, tail, err := n.indexSum(b, at)
	if err == nil && sum != le.Uint32(tail[4:]) {
		err = unix.EUCLEAN
	}
	return err
}

func (n *node) sumIndex(b []byte, at int) {
	if !n.fs.csum {
		return
	}
	if sum, tail, err := n.indexSum(b, at); err == nil {
		le.PutUint32(tail[4:], sum)
	}
}

// frame is a node on the way from the root of an index to a leaf.
type frame struct {
	buf *buffer
	at  int // of its entries
	pos int // of the entry that leads on
}

func (f *frame) count() int         { return int(le.Uint16(f.buf.data[f.at+2:])) }
func (f *frame) entry(i int) []byte { return f.buf.data[f.at+i*indexEntry:][:indexEntry] }
func (f *frame) block(i int) uint64 { return uint64(le.Uint32(f.entry(i)[4:]) & 0x0fffffff) }

// hash is the least hash in entry i.
func (f *frame) hash(i int) uint32 {
	if i == 0 {
		return 0
	}
	return le.Uint32(f.entry(i))
}

// indexVersion returns the hash version of the index, and how many levels are below the root.
func (n *node) indexRoot() (buf *buffer, version uint8, depth int, err error) {
	if buf, err = n.dirBlock(0); err != nil {
		return nil, 0, 0, err
	}
	at, ok := n.indexPlace(buf.data)
	version, depth = buf.data[rootInfo+4], int(buf.data[rootInfo+6])
	if !ok || at != rootEntries || version > hashTea || depth > maxLevels || buf.data[rootInfo+7] != 0 {
		return nil, 0, 0, errNoIndex
	}
	if n.fs.unsignedHash {
		version += hashUnsigned
	}
	return buf, version, depth, nil
}

// frameOf checks a node of an index: errNoIndex.
func (n *node) frameOf(buf *buffer, want int) (frame, error) {
	at, ok := n.indexPlace(buf.data)
	if !ok || at != want {
		return frame{}, errNoIndex
	}
	f := frame{buf: buf, at: at}
	if limit := int(le.Uint16(buf.data[at:])); limit != n.indexRoom(at) || f.count() == 0 || f.count() > limit {
		return frame{}, errNoIndex
	}
	return f, nil
}

// descend finds the way to the leaf for a hash.
func (n *node) descend(name string) (way []frame, hash uint32, err error) {
	buf, version, depth, err := n.indexRoot()
	if err != nil {
		return nil, 0, err
	}
	hash = n.fs.nameHash(name, version)
	f, err := n.frameOf(buf, rootEntries)
	for err == nil {
		f.pos = sort.Search(f.count()-1, func(i int) bool { return f.hash(i+1) > hash })
		way = append(way, f)
		if len(way) > depth {
			return way, hash, nil
		}
		if buf, err = n.dirBlock(f.block(f.pos)); err != nil {
			return nil, 0, err
		}
		f, err = n.frameOf(buf, nodeEntries)
	}
	return nil, 0, err
}

// advance moves the way to the leaf behind; false when there is none that may have names with the hash.
func (n *node) advance(way []frame, hash uint32) (bool, error) {
	level := len(way) - 1
	for way[level].pos++; way[level].pos >= way[level].count(); way[level].pos++ {
		if level == 0 {
			return false, nil
		}
		level--
	}
	if h := way[level].hash(way[level].pos); h&1 == 0 || h&^1 != hash {
		return false, nil
	}
	for ; level < len(way)-1; level++ {
		buf, err := n.dirBlock(way[level].block(way[level].pos))
		if err != nil {
			return false, err
		}
		if way[level+1], err = n.frameOf(buf, nodeEntries); err != nil {
			return false, err
		}
	}
	return true, nil
}

func (n *node) lookupIndex(name string) (*found, error) {
	if name == "." || name == ".." {
		buf, err := n.dirBlock(0)
		if err != nil {
			return nil, err
		}
		f, err := n.scan(buf, name)
		if f == nil && err == nil {
			err = unix.ENOENT
		}
		return f, err
	}
	way, hash, err := n.descend(name)
	if err != nil {
		return nil, err
	}
	for {
		last := &way[len(way)-1]
		buf, err := n.dirBlock(last.block(last.pos))
		if err != nil {
			return nil, err
		}
		if f, err := n.scan(buf, name); f != nil || err != nil {
			return f, err
		}
		if more, err := n.advance(way, hash); !more {
			if err == nil {
				err = unix.ENOENT
			}
			return nil, err
		}
	}
}

// makeIndex turns a directory of one block, which is full, into one with an index.
func (n *node) makeIndex() error {
	root, err := n.dirBlock(0)
	if err != nil {
		return err
	}
	b := root.data
	dot, err := n.fs.record(b, 0)
	if err != nil {
		return err
	}
	dotdot, err := n.fs.record(b, dot.length)
	if err != nil {
		return err
	}
	if string(dot.name) != "." || string(dotdot.name) != ".." {
		return unix.EUCLEAN
	}
	i, leaf, err := n.grow()
	if err != nil {
		return err
	}
	var list []packed
	if list, err = n.unpack(root, dotdot.at+dotdot.length, 0); err != nil {
		return err
	}
	n.pack(leaf, list)
	typ := dotdot.typ
	up := dotdot.ino
	clear(b)
	putRecord(b, n.ino, 12, typ, ".")
	putRecord(b[12:], up, n.fs.blockSize-12, typ, "..")
	b[rootInfo+4], b[rootInfo+5] = n.fs.hashVersion, 8
	le.PutUint16(b[rootEntries:], uint16(n.indexRoom(rootEntries)))
	le.PutUint16(b[rootEntries+2:], 1)
	le.PutUint32(b[rootEntries+4:], uint32(i))
	n.flags |= flagIndex
	n.sumIndex(b, rootEntries)
	n.fs.change(root)
	return n.store()
}

// packed is a record outside of a block.
type packed struct {
	hash uint32
	ino  uint32
	typ  byte
	name string
}

// unpack returns the records of a block from a place on.
func (n *node) unpack(buf *buffer, at int, version uint8) (list []packed, err error) {
	for at < n.fs.records() {
		d, err := n.fs.record(buf.data, at)
		if err != nil {
			return nil, err
		}
		if d.ino != 0 {
			name := string(d.name)
			list = append(list, packed{n.fs.nameHash(name, version), d.ino, d.typ, name})
		}
		at += d.length
	}
	return list, nil
}

// pack fills a block with records.
func (n *node) pack(buf *buffer, list []packed) {
	clear(buf.data)
	end, at := n.fs.records(), 0
	for i, p := range list {
		length := need(len(p.name))
		if i == len(list)-1 {
			length = end - at
		}
		putRecord(buf.data[at:], p.ino, length, p.typ, p.name)
		at += length
	}
	if len(list) == 0 {
		putRecord(buf.data, 0, end, 0, "")
	}
	n.sumDir(buf.data)
	n.fs.change(buf)
}

// addIndex enters a name into a directory with an index; a full leaf is split.
func (n *node) addIndex(name string, ino uint32, typ byte) error {
	way, hash, err := n.descend(name)
	if err != nil {
		return err
	}
	last := &way[len(way)-1]
	buf, err := n.dirBlock(last.block(last.pos))
	if err != nil {
		return err
	}
	if ok, err := n.insert(buf, name, ino, typ); ok || err != nil {
		return err
	}
	if way, err = n.roomAbove(way, hash); err != nil {
		return err
	}
	if buf, err = n.splitLeaf(buf, &way[len(way)-1], hash); err != nil {
		return err
	}
	ok, err := n.insert(buf, name, ino, typ)
	if err == nil && !ok {
		// All on one side: the other half has room for a name of another hash only.
		return n.addIndex(name, ino, typ)
	}
	return err
}

// splitLeaf moves half of what a leaf has, by the hashes, to a new one, which f has room for, and returns the one where a hash belongs: EUCLEAN,
// ENOSPC, EFBIG, EIO.
func (n *node) splitLeaf(buf *buffer, f *frame, hash uint32) (*buffer, error) {
	_, version, _, err := n.indexRoot()
	if err != nil {
		return nil, err
	}
	list, err := n.unpack(buf, 0, version)
	if err != nil {
		return nil, err
	}
	sorting.Sort(list, func(a, b packed) int {
		if a.hash < b.hash {
			return -1
		}
		return b2i(a.hash > b.hash)
	})
	at := middle(list)
	if at == 0 {
		return nil, unix.EUCLEAN
	}
	i, second, err := n.grow()
	if err != nil {
		return nil, err
	}
	split := list[at].hash
	if list[at-1].hash == split {
		split |= 1 // names with this hash are in both
	}
	n.pack(buf, list[:at])
	n.pack(second, list[at:])
	n.insertEntry(f, split, i)
	if hash >= split&^1 && (split&1 == 0 || hash > split) {
		return second, nil
	}
	return buf, nil
}

// middle is where half the bytes of records are before.
func middle(list []packed) (at int) {
	total, sum := 0, 0
	for _, p := range list {
		total += need(len(p.name))
	}
	for at < len(list)-1 && sum < total/2 {
		sum += need(len(list[at].name))
		at++
	}
	return at
}

// insertEntry puts an entry behind the one that f is at.
func (n *node) insertEntry(f *frame, hash uint32, block uint64) {
	b := f.buf.data
	at := f.at + (f.pos+1)*indexEntry
	end := f.at + f.count()*indexEntry
	copy(b[at+indexEntry:end+indexEntry], b[at:end])
	le.PutUint32(b[at:], hash)
	le.PutUint32(b[at+4:], uint32(block))
	le.PutUint16(b[f.at+2:], uint16(f.count()+1))
	n.sumIndex(b, f.at)
	n.fs.change(f.buf)
}

// roomAbove makes room for one more entry in the last node of the way, which it returns as it is then: ENOSPC when the index is full.
func (n *node) roomAbove(way []frame, hash uint32) ([]frame, error) {
	last := way[len(way)-1]
	if last.count() < n.indexRoom(last.at) {
		return way, nil
	}
	leaf := last.block(last.pos)
	level := len(way) - 1
	for level > 0 && way[level-1].count() >= n.indexRoom(way[level-1].at) {
		level--
	}
	if level == 0 {
		return n.deepen(way[0], leaf, hash)
	}
	// Split the node at level: its upper half moves to a new node.
	f := way[level]
	i, buf, err := n.grow()
	if err != nil {
		return nil, err
	}
	half := f.count() / 2
	moved := f.count() - half
	split := f.hash(half)
	n.newNode(buf, f.buf.data[f.at+half*indexEntry:][:moved*indexEntry], moved)
	le.PutUint16(f.buf.data[f.at+2:], uint16(half))
	n.sumIndex(f.buf.data, f.at)
	n.fs.change(f.buf)
	n.insertEntry(&way[level-1], split, i)
	return n.again(leaf, hash)
}

// newNode makes buf a node with the given entries.
func (n *node) newNode(buf *buffer, entries []byte, count int) {
	clear(buf.data)
	le.PutUint16(buf.data[4:], uint16(n.fs.blockSize))
	copy(buf.data[nodeEntries:], entries)
	le.PutUint16(buf.data[nodeEntries:], uint16(n.indexRoom(nodeEntries)))
	le.PutUint16(buf.data[nodeEntries+2:], uint16(count))
	n.sumIndex(buf.data, nodeEntries)
	n.fs.change(buf)
}

// deepen moves the root's entries to a new node below it.
func (n *node) deepen(root frame, leaf uint64, hash uint32) ([]frame, error) {
	depth := root.buf.data[rootInfo+6]
	most := byte(1)
	if n.fs.incompat&incompatLargeDir != 0 {
		most = 2
	}
	if depth >= most {
		return nil, unix.ENOSPC
	}
	i, buf, err := n.grow()
	if err != nil {
		return nil, err
	}
	b := root.buf.data
	n.newNode(buf, b[root.at:][:root.count()*indexEntry], root.count())
	clear(b[root.at+indexEntry : root.at+root.count()*indexEntry])
	le.PutUint16(b[root.at+2:], 1)
	le.PutUint32(b[root.at+4:], uint32(i))
	b[rootInfo+6] = depth + 1
	n.sumIndex(b, root.at)
	n.fs.change(root.buf)
	return n.again(leaf, hash)
}

// again finds the way to the same leaf in the changed index, and makes room on it.
func (n *node) again(leaf uint64, hash uint32) ([]frame, error) {
	_, _, depth, err := n.indexRoot()
	if err != nil {
		return nil, err
	}
	var fresh []frame
	buf, err := n.dirBlock(0)
	for want := rootEntries; err == nil; want = nodeEntries {
		var f frame
		if f, err = n.frameOf(buf, want); err != nil {
			break
		}
		f.pos = sort.Search(f.count()-1, func(i int) bool { return f.hash(i+1) > hash })
		fresh = append(fresh, f)
		if len(fresh) > depth {
			if f.block(f.pos) != leaf {
				return nil, unix.EUCLEAN
			}
			return n.roomAbove(fresh, hash)
		}
		buf, err = n.dirBlock(f.block(f.pos))
	}
	return nil, err
}
