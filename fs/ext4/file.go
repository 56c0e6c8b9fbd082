package ext4

import (
	"math"

	"golang.org/x/sys/unix"

	"gosv/kernel/block"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/machine"
)

// pages is the mem.RangeBacking of a regular file.
//
// Data that has no place yet is written to blocks that are free on the disk, and these get into the map in the same
// transaction that takes them out of the bitmap. So no crash shows what was in a block before.
type pages struct{ n *node }

// ReadPage implements mem.Backing; the cache uses ReadPages.
func (*pages) ReadPage(uint64, []byte) error { return unix.EIO }

// WritePage implements mem.Backing; the cache uses WritePages.
func (*pages) WritePage(uint64, []byte) error { return unix.EIO }

// piece is part of a transfer: n bytes at offset from in the frames, which lie at block on the disk.
type piece struct {
	lblock, block uint64
	count         uint32
	state         pieceState
}

type pieceState uint8

const (
	stateHole pieceState = iota
	stateWritten
	stateUnwritten
	stateNew
)

// perPage is how many blocks a page has.
func (fs *fileSystem) perPage() uint64 { return machine.PageSize >> fs.blockBits }

// ReadPages implements mem.RangeBacking.
func (p *pages) ReadPages(index uint64, frames []machine.Frame) error {
	n, fs := p.n, p.n.fs
	first := index * fs.perPage()
	list, err := n.locate(first, uint64(len(frames))*fs.perPage())
	if err != nil {
		return err
	}
	for _, x := range list {
		from, size := int64(x.lblock-first)<<fs.blockBits, int64(x.count)<<fs.blockBits
		if x.state != stateWritten {
			fs.eachPart(frames, from, size, func(b []byte, _ uint64) { clear(b) })
			continue
		}
		if err := fs.transfer(block.Read, frames, from, size, x.block); err != nil {
			return err
		}
	}
	return nil
}

// locate returns where blocks of the file lie.
func (n *node) locate(first, count uint64) (list []piece, err error) {
	fs := n.fs
	if err := n.know(); err != nil {
		return nil, err
	}
	defer fs.caught(&err)
	fs.mu.RLock()
	defer fs.mu.RUnlock()
	for at, end := first, first+count; at < end; {
		e := n.tree.find(at)
		x := piece{lblock: at, block: e.pblock, count: uint32(min(uint64(e.length), end-at)), state: stateWritten}
		if e.pblock == 0 {
			x.state = stateHole
		} else if e.unwritten {
			x.state = stateUnwritten
		}
		list = append(list, x)
		at += uint64(x.count)
	}
	return list, nil
}

// know makes the map known; no lock is held.
func (n *node) know() error {
	if n.mapped.Load() {
		return nil
	}
	return n.fs.locked(n.load)
}

// eachPart calls do for the parts of frames that make up size bytes from an offset on, neighbours joined.
func (fs *fileSystem) eachPart(frames []machine.Frame, from, size int64, do func(b []byte, addr uint64)) {
	for size > 0 {
		i, at := int(from/machine.PageSize), from%machine.PageSize
		run := 1
		for i+run < len(frames) && frames[i+run] == frames[i]+machine.Frame(run) {
			run++
		}
		m := min(int64(run)*machine.PageSize-at, size)
		do(fs.pool.BytesRun(frames[i], run)[at:at+m], uint64(frames[i])*machine.PageSize+uint64(at))
		from, size = from+m, size-m
	}
}

func (fs *fileSystem) transfer(op block.Op, frames []machine.Frame, from, size int64, at uint64) error {
	r := block.Request{Op: op, Off: int64(at) << fs.blockBits, Len: size}
	fs.eachPart(frames, from, size, func(b []byte, addr uint64) {
		r.Data = append(r.Data, block.Segment{Bytes: b, Addr: addr})
	})
	return fs.disk.Do(&r)
}

// WritePages implements mem.RangeBacking: also ENOSPC.
func (p *pages) WritePages(index uint64, frames []machine.Frame) error {
	n, fs := p.n, p.n.fs
	first := index * fs.perPage()
	bytes := min(int64(len(frames))*machine.PageSize, n.cache.Size()-int64(index)*machine.PageSize)
	if bytes <= 0 {
		return nil // truncated meanwhile
	}
	count := uint64(bytes+int64(fs.blockSize)-1) >> fs.blockBits
	list, err := n.place(first, count)
	if err == unix.ENOSPC {
		// What was freed can be had after a commit.
		if err = fs.commit(); err == nil {
			list, err = n.place(first, count)
		}
	}
	if err != nil {
		return err
	}
	for _, x := range list {
		if err = fs.transfer(block.Write, frames, int64(x.lblock-first)<<fs.blockBits, int64(x.count)<<fs.blockBits, x.block); err != nil {
			break
		}
	}
	return n.placed(list, int64(index)*machine.PageSize+bytes, err)
}

// place decides where blocks of the file are to be written, and finds room for those that have none.
func (n *node) place(first, count uint64) (list []piece, err error) {
	fs := n.fs
	fs.mu.Lock()
	defer fs.mu.Unlock()
	defer fs.caughtLocked(&err)
	if err := fs.writable(); err != nil {
		return nil, err
	}
	if err := n.load(); err != nil {
		return nil, err
	}
	goal := n.goal()
	if e, ok := n.tree.before(first); ok {
		goal = e.pblock + first - e.lblock
	}
	for at, end := first, first+count; at < end; {
		e := n.tree.find(at)
		x := piece{lblock: at, block: e.pblock, count: uint32(min(uint64(e.length), end-at)), state: stateWritten}
		switch {
		case e.pblock == 0:
			x.state = stateNew
			if x.block, x.count, err = fs.pick(goal, min(x.count, initLimit)); err != nil {
				for _, x := range list {
					if x.state == stateNew {
						fs.unpick(x.block, x.count)
					}
				}
				return nil, err
			}
		case e.unwritten:
			x.state = stateUnwritten
		}
		list = append(list, x)
		at += uint64(x.count)
		goal = x.block + uint64(x.count)
	}
	return list, nil
}

// placed enters what was written into the map, or when writing failed gives the room back.
func (n *node) placed(list []piece, end int64, failed error) (err error) {
	fs := n.fs
	if failed == nil {
		failed = fs.begin()
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	defer fs.caughtLocked(&err)
	changed := false
	for _, x := range list {
		if failed != nil {
			if x.state == stateNew {
				fs.unpick(x.block, x.count)
			}
			continue
		}
		switch x.state {
		case stateNew:
			failed = n.enter(&x)
		case stateUnwritten:
			n.tree.cut(x.lblock, x.lblock+uint64(x.count), fs.leafRoom())
			n.tree.put(extent{lblock: x.lblock, pblock: x.block, length: x.count}, fs.leafRoom())
		}
		changed = changed || x.state != stateWritten
	}
	if failed != nil {
		return failed
	}
	if changed {
		if err := n.storeMap(); err != nil {
			return fs.broken(err)
		}
	}
	n.size = max(n.size, min(end, n.cache.Size()))
	return n.store()
}

// enter makes a new piece the file's.
func (n *node) enter(x *piece) error {
	fs := n.fs
	if err := fs.use(x.block, x.count); err != nil {
		return fs.broken(err)
	}
	n.blocks += uint64(x.count) << (fs.blockBits - 9)
	for i := range uint64(x.count) {
		n.keep(x.lblock + i)
		if n.tree.indirect {
			if err := n.setIndirect(x.lblock+i, x.block+i); err != nil {
				return fs.broken(err)
			}
		}
	}
	n.tree.put(extent{lblock: x.lblock, pblock: x.block, length: x.count}, fs.leafRoom())
	return nil
}

// keep ends the promise of room for a block.
func (n *node) keep(lblock uint64) {
	if _, ok := n.delayed[lblock]; ok {
		delete(n.delayed, lblock)
		n.fs.promised--
	}
}

// forgetPromises ends those for blocks [from, to).
func (n *node) forgetPromises(from, to uint64) {
	for at := range n.delayed {
		if at >= from && at < to {
			delete(n.delayed, at)
			n.fs.promised--
		}
	}
}

// Reserve implements vfs.Reserver: it promises room for what is going to be written: ENOSPC, EROFS, EIO.
func (n *node) Reserve(i *vfs.Inode, off, count int64) error {
	fs := n.fs
	if count > fs.maxSize()-off {
		return unix.EFBIG
	}
	if err := n.zeroTail(off); err != nil {
		return err
	}
	if err := n.know(); err != nil {
		return err
	}
	err := n.promise(i, off, count)
	if err == unix.ENOSPC {
		if err = fs.commit(); err == nil {
			err = n.promise(i, off, count)
		}
	}
	return err
}

func (n *node) promise(i *vfs.Inode, off, count int64) (err error) {
	fs := n.fs
	fs.mu.Lock()
	defer fs.mu.Unlock()
	defer fs.caughtLocked(&err)
	if err := fs.writable(); err != nil {
		return err
	}
	fs.hold(n, i)
	per := fs.perPage()
	first, end := uint64(off)/machine.PageSize*per, (uint64(off+count-1)/machine.PageSize+1)*per
	for at := first; at < end; {
		e := n.tree.find(at)
		run := min(uint64(e.length), end-at)
		if e.pblock == 0 {
			for b := at; b < at+run; b++ {
				if _, ok := n.delayed[b]; ok {
					continue
				}
				if fs.available() == 0 {
					return unix.ENOSPC
				}
				if n.delayed == nil {
					n.delayed = map[uint64]struct{}{}
				}
				n.delayed[b] = struct{}{}
				fs.promised++
			}
		}
		at += run
	}
	return nil
}

// zeroTail makes what lies behind the end of the file in its last page zero, before the file gets longer than that.
func (n *node) zeroTail(off int64) error {
	size := n.cache.Size()
	if off <= size || size%machine.PageSize == 0 {
		return nil
	}
	f, err := n.cache.Page(uint64(size)/machine.PageSize, true)
	if err == nil {
		n.fs.pool.Unref(f)
	}
	return err
}

// file is an open regular file.
type file struct {
	vfs.CachedFile
	n *node
}

// Open implements vfs.InodeOps.
func (n *node) Open(_ *vfs.Context, f *vfs.File) (vfs.FileOps, error) {
	switch f.Inode().Type() {
	case unix.S_IFREG:
		return &file{n: n}, nil
	case unix.S_IFDIR:
		return &directory{n: n}, nil
	}
	return nil, nil
}

// Release keeps the inode while pages of it are dirty.
func (o *file) Release(f *vfs.File) {
	if o.n.cache.Dirty() > 0 {
		o.n.fs.mu.Lock()
		o.n.fs.hold(o.n, f.Inode())
		o.n.fs.mu.Unlock()
	}
}

// Sync implements vfs.FileOps: contents and attributes are on the disk when it returns.
func (o *file) Sync(f *vfs.File) error { return o.n.sync(f.Inode()) }

func (n *node) sync(i *vfs.Inode) error {
	if n.cache != nil {
		if err := n.cache.Sync(0, math.MaxUint64); err != nil {
			return err
		}
	}
	if n.fs.readOnly.Load() {
		return nil
	}
	if err := n.fs.update(func() error {
		if n.deleted {
			return nil
		}
		if n.cache != nil {
			n.size = n.cache.Size()
		}
		return n.storeIfChanged()
	}); err != nil {
		return err
	}
	return n.fs.syncJournal()
}

// Write implements vfs.FileOps.
func (o *file) Write(f *vfs.File, src uio.Source, off int64) (int64, error) {
	return o.write(f, src, off, f.Flags()&unix.O_APPEND != 0)
}

// Append implements vfs.Appender.
func (o *file) Append(f *vfs.File, src uio.Source) (int64, error) { return o.write(f, src, 0, true) }

func (o *file) write(f *vfs.File, src uio.Source, off int64, atEnd bool) (n int64, err error) {
	direct := f.Flags()&unix.O_DIRECT != 0
	if mask := int64(o.n.fs.disk.Limits().BlockSize - 1); direct && (off|int64(src.Left()))&mask != 0 {
		return 0, unix.EINVAL
	}
	if f.Inode().HasFlags(flagImmutable) {
		return 0, unix.EPERM // opened before it was
	}
	if atEnd {
		n, err = o.CachedFile.Append(f, src)
	} else {
		n, err = o.CachedFile.Write(f, src, off)
	}
	if n > 0 && direct && !atEnd {
		// Through the cache, but to the disk before it is done.
		if err := o.n.cache.Sync(uint64(off)/machine.PageSize, uint64(off+n-1)/machine.PageSize); err != nil {
			return 0, err
		}
	}
	if n > 0 && (f.Flags()&unix.O_DSYNC != 0 || f.Inode().HasFlags(flagSync)) {
		if err := o.n.sync(f.Inode()); err != nil {
			return 0, err
		}
	}
	return n, err
}

// Seek implements vfs.FileOps.
func (o *file) Seek(f *vfs.File, off int64, whence int) (_ int64, err error) {
	if whence != unix.SEEK_DATA && whence != unix.SEEK_HOLE {
		return o.CachedFile.Seek(f, off, whence)
	}
	n, fs := o.n, o.n.fs
	// Data that is in memory only gets its place.
	if err := n.cache.Sync(0, math.MaxUint64); err != nil {
		return 0, err
	}
	size := n.cache.Size()
	if off < 0 || off >= size {
		return 0, unix.ENXIO
	}
	if err := n.know(); err != nil {
		return 0, err
	}
	defer fs.caught(&err)
	fs.mu.RLock()
	defer fs.mu.RUnlock()
	for at := uint64(off) >> fs.blockBits; int64(at)<<fs.blockBits < size; {
		e := n.tree.find(at)
		if hole := e.pblock == 0 || e.unwritten; hole == (whence == unix.SEEK_HOLE) {
			return max(off, int64(at)<<fs.blockBits), nil
		}
		at += uint64(e.length)
	}
	if whence == unix.SEEK_HOLE {
		return size, nil
	}
	return 0, unix.ENXIO
}

// Allocate implements vfs.FileOps (fallocate(2)): allocation, with or without a new size, punching holes, zeroing, and shifts.
func (o *file) Allocate(f *vfs.File, mode uint32, off, count int64) error {
	n, i := o.n, f.Inode()
	const keep = unix.FALLOC_FL_KEEP_SIZE
	if count > n.fs.maxSize()-off {
		return unix.EFBIG
	}
	i.Lock()
	defer i.Unlock()
	if n.flags&flagExtents == 0 && mode&unix.FALLOC_FL_PUNCH_HOLE == 0 {
		return unix.EOPNOTSUPP // the old map cannot say that blocks are not written
	}
	var err error
	switch mode {
	case 0, keep:
		err = n.preallocate(off, count)
	case unix.FALLOC_FL_PUNCH_HOLE | keep:
		err = n.punch(off, count)
	case unix.FALLOC_FL_COLLAPSE_RANGE, unix.FALLOC_FL_INSERT_RANGE:
		if err := n.shift(off, count, mode == unix.FALLOC_FL_INSERT_RANGE); err != nil {
			return err
		}
		now := n.fs.vfs.Now()
		i.SetTimes(-1, now, now)
		return n.fs.update(n.store)
	case unix.FALLOC_FL_ZERO_RANGE, unix.FALLOC_FL_ZERO_RANGE | keep:
		if err = n.punch(off, count); err == nil {
			err = n.preallocate(off, count)
		}
	default:
		return unix.EOPNOTSUPP
	}
	if err != nil {
		return err
	}
	if end := off + count; mode&keep == 0 && end > n.cache.Size() {
		if err := n.zeroTail(end); err != nil {
			return err
		}
		if err := n.cache.Truncate(end); err != nil {
			return err
		}
		n.fs.mu.Lock()
		n.size = max(n.size, end)
		n.fs.mu.Unlock()
	}
	now := n.fs.vfs.Now()
	i.SetTimes(-1, now, now)
	return n.fs.update(n.store)
}

// preallocate gives holes unwritten extents: ENOSPC.
func (n *node) preallocate(off, count int64) error {
	fs := n.fs
	if err := n.know(); err != nil {
		return err
	}
	at, end := uint64(off)>>fs.blockBits, (uint64(off+count)+uint64(fs.blockSize)-1)>>fs.blockBits
	for at < end {
		err := fs.update(func() error {
			e := n.tree.find(at)
			run := min(uint64(e.length), end-at)
			if e.pblock != 0 {
				at += run
				return nil
			}
			if fs.available() < 1 {
				return unix.ENOSPC
			}
			goal := n.goal()
			if b, ok := n.tree.before(at); ok {
				goal = b.pblock + at - b.lblock
			}
			block, got, err := fs.allocate(goal, uint32(min(run, unwrittenMax, max(fs.available(), 1))), false)
			if err != nil {
				return err
			}
			for i := range uint64(got) {
				n.keep(at + i)
			}
			n.blocks += uint64(got) << (fs.blockBits - 9)
			n.tree.put(extent{lblock: at, pblock: block, length: got, unwritten: true}, fs.leafRoom())
			at += uint64(got)
			if err := n.storeMap(); err != nil {
				return err
			}
			return n.store()
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// punch makes a range a hole: whole blocks are freed, the rest is zeroed.
func (n *node) punch(off, count int64) error {
	fs := n.fs
	if err := n.cache.PunchHole(off, count); err != nil {
		return err
	}
	from, to := (uint64(off)+uint64(fs.blockSize)-1)>>fs.blockBits, uint64(off+count)>>fs.blockBits
	if size := n.cache.Size(); off+count >= size {
		to = max(to, (uint64(size)+uint64(fs.blockSize)-1)>>fs.blockBits)
	}
	if from >= to {
		return nil
	}
	if err := n.release(from, to); err != nil {
		return err
	}
	return n.cache.PunchHole(off, count) // what was read meanwhile
}

// release frees the blocks [from, to) of the file, the last first, in several transactions if there are many.
func (n *node) release(from, to uint64) error {
	fs := n.fs
	if err := n.know(); err != nil {
		return err
	}
	const step = 1 << 17
	for more := true; more; {
		err := fs.update(func() error {
			n.forgetPromises(from, to)
			last, ok := n.tree.before(to)
			if more = ok && last.end() > from; !more {
				return nil
			}
			low := from
			if end := min(last.end(), to); end > step {
				low = max(from, end-step)
			}
			gone := n.tree.cut(low, to, fs.leafRoom())
			for _, e := range gone {
				if n.tree.indirect {
					for i := range uint64(e.length) {
						if err := n.setIndirect(e.lblock+i, 0); err != nil {
							return err
						}
					}
				}
				if err := fs.free(e.pblock, e.length, n.cache == nil); err != nil {
					return err
				}
				n.blocks -= min(n.blocks, uint64(e.length)<<(fs.blockBits-9))
			}
			if err := n.storeMap(); err != nil {
				return err
			}
			return n.store()
		})
		if err != nil {
			return err
		}
	}
	return nil
}
