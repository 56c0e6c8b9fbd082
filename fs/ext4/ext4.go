// Package ext4 reads and writes ext2, ext3 and ext4 (Linux, Documentation/filesystems/ext4; the layouts are named in the files).
//
// It has extents and the old map of block numbers, directories with and without an index, checksums of metadata, 64-bit block
// numbers, groups that were never used, extended attributes, and the JBD2 journal, which is replayed at mount and written. Blocks
// larger than a page, encryption, inline data, case folding and other incompatible features are refused with EOPNOTSUPP and a
// reason; without a journal there is no atomicity. Everything on the disk is foreign: what makes no sense is EUCLEAN; a fault in
// the middle of a change, and a panic of the code here, make the file system read-only (EROFS), as errors=remount-ro does, with a mark on
// the disk that has e2fsck look at it.
//
// A change of metadata is made to blocks in memory under fileSystem.mu, and belongs to the running transaction. Commit copies the
// changed blocks, writes them to the journal, and after a flush the commit block; checkpoint writes committed blocks to their places. Data is written to
// its place before the map says so (see pages), so that what is committed is never older than what it refers to. A block that is freed
// is not used again before that is committed.
//
// Lock order: vfs.Inode's lock → mem.Cache.syncing → fileSystem.committing → fileSystem.mu → buffers.mu and the tables of package vfs.
// Disks are read with fileSystem.mu held, and what is free is discarded so by FITRIM; they are written without.
package ext4

import (
	"math"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"gosv/kernel/block"
	"gosv/kernel/mem"
	"gosv/kernel/vfs"
)

// A Disk is where a file system lies: a block.Disk.
type Disk interface {
	Limits() block.Limits
	Do(r *block.Request) error
	ReadAt(p []byte, off int64) error
	WriteAt(p []byte, off int64, durable bool) error
	Flush() error
	Discard(off, n int64) error
}

// Config is what file systems need of the kernel.
type Config struct {
	Pool *mem.Pool
	Now  func() int64 // the wall clock, in ns
	Log  func(line string)
	// Find claims the disk that a mount names, and returns what ends the claim.
	Find func(r *vfs.MountRequest) (d Disk, name string, release func(), err error)
}

// fileSystem is a mounted file system.
type fileSystem struct {
	super
	disk    Disk
	name    string
	pool    *mem.Pool
	log     func(string)
	vfs     *vfs.FS
	closed  func()
	table   vfs.InodeTable[uint32]
	caches  vfs.Caches
	buffers buffers

	// committing is held while a transaction is written, and while committed blocks are.
	committing sync.Mutex
	journal    *journal
	discards   bool // blocks that are free again are given back to the disk; guarded by committing, as is the next
	marked     bool // the disk says that there was a fault

	mu       sync.RWMutex // guards all metadata: what follows, nodes, and the contents of buffers
	groups   []group
	tx       *transaction
	busy     busyBits
	promised uint64             // blocks that data in memory will need
	pinned   map[*node]struct{} // those with a pin
	orphans  []*node            // the last is the first on the disk's list
	images   int                // buffers with an image, about
	failed   error              // nothing can be changed any more
	done     bool               // shut down: nothing can be changed any more

	readOnly atomic.Bool   // mounted or remounted so
	writes   bool          // writer runs; guarded by vfs.FS's lock of remounts
	faulty   chan struct{} // something was sent when failed was set
	stop     chan struct{}
	ends     sync.WaitGroup
}

// Types returns the types of file systems: ext4, and ext3 and ext2, which are the same with fewer features.
func Types(c Config) []vfs.Type {
	var list []vfs.Type
	for _, name := range [...]string{"ext4", "ext3", "ext2"} {
		list = append(list, vfs.Type{Name: name, OnDevice: true, New: func(r *vfs.MountRequest) (*vfs.FS, error) {
			d, disk, release, err := c.Find(r)
			if err != nil {
				return nil, err
			}
			fs, err := Mount(c, name, disk, d, r, release)
			if err != nil {
				release()
			}
			return fs, err
		}})
	}
	return list
}

// options are those of ext4(5) that change something here.
type options struct {
	noload  bool
	discard bool
}

// parseOptions takes the options of ext4(5): EINVAL for those that are not known, or ask for what is not done.
func parseOptions(r *vfs.MountRequest) (o options, err error) {
	err = r.EachOption(func(key, value string) bool {
		switch key {
		case "noload", "norecovery":
			o.noload = true
		case "discard", "nodiscard":
			o.discard = key == "discard"
		case "user_xattr", "nouser_xattr", "acl", "noacl", "barrier", "delalloc", "nodelalloc", "auto_da_alloc", "init_itable",
			"noinit_itable", "block_validity", "noblock_validity", "journal_checksum", "grpid", "nogrpid", "bsdgroups", "sysvgroups", "minixdf", "bsddf", "lazytime",
			"nolazytime", "prefetch_block_bitmaps", "no_prefetch_block_bitmaps":
			return true
		case "data": // the contents come first in either
			return value == "ordered" || value == "writeback"
		case "errors":
			return value == "remount-ro" || value == "continue"
		case "commit", "stripe", "resuid", "resgid", "inode_readahead_blks", "min_batch_time", "max_batch_time", "journal_ioprio":
			_, perr := strconv.ParseUint(value, 10, 32)
			return perr == nil
		default:
			return false
		}
		return true
	})
	return o, err
}

// Mount mounts the file system on a disk: EINVAL when there is none, EUCLEAN, EOPNOTSUPP, EROFS, EIO. closed is called when it was
// unmounted, not after an error. name is the disk's, for messages.
func Mount(c Config, typ, name string, d Disk, r *vfs.MountRequest, closed func()) (*vfs.FS, error) {
	o, err := parseOptions(r)
	if err != nil {
		return nil, err
	}
	b, err := readSuper(d)
	if err != nil {
		return nil, err
	}
	s, err := parseSuper(b, d.Limits().Size, r)
	if err != nil {
		return nil, err
	}
	if d.Limits().BlockSize > s.blockSize {
		return nil, r.Fail(unix.EINVAL, "the disk's blocks are larger than the file system's")
	}
	fs := &fileSystem{super: *s, disk: d, name: name, pool: c.Pool, log: c.Log, closed: closed, tx: newTransaction(), busy: busyBits{},
		pinned: map[*node]struct{}{}, stop: make(chan struct{}), faulty: make(chan struct{}, 1)}
	total, _ := c.Pool.Usage()
	fs.buffers.most = int(min(max(total/bufferPart, leastBuffers), mostBuffers))
	fs.vfs = vfs.NewFS(typ, fs, c.Now)
	fs.vfs.Cached = true
	fs.readOnly.Store(r.ReadOnly())
	if err := fs.open(r, o.noload); err != nil {
		fs.caches.ReleaseAll()
		return nil, err
	}
	fs.setDiscards(o.discard)
	return fs.vfs, nil
}

// open replays the journal and makes the root directory known.
func (fs *fileSystem) open(r *vfs.MountRequest, noload bool) (err error) {
	defer fs.caught(&err)
	if err := fs.locked(func() error { return fs.openLocked(r, noload) }); err != nil {
		return err
	}
	if le.Uint16(fs.raw[sState:])&stateErrors != 0 {
		fs.problem("has a mark of errors: it should be checked by e2fsck")
	}
	if fs.readOnly.Load() {
		return nil
	}
	return fs.start(r)
}

// start marks the file system as in use, removes what the last use left, and begins to write.
func (fs *fileSystem) start(r *vfs.MountRequest) error {
	if err := fs.markInUse(); err != nil {
		return err
	}
	if err := fs.cleanOrphans(); err != nil {
		return r.Fail(err, "deleted files that were still open could not be removed")
	}
	if !fs.writes {
		fs.writes = true
		fs.ends.Add(1)
		go fs.writer()
	}
	return nil
}

func (fs *fileSystem) openLocked(r *vfs.MountRequest, noload bool) error {
	if err := fs.readGroups(); err != nil {
		return r.Fail(err, "the group descriptors are damaged")
	}
	if fs.compat&compatJournal != 0 && !noload {
		if fs.journalInode == 0 {
			return r.Fail(unix.EOPNOTSUPP, "the journal is on another device")
		}
		j, err := fs.openJournal()
		if err != nil {
			return r.Fail(err, "the journal is damaged, or has features that are not known")
		}
		if fs.incompat&incompatRecover != 0 && !j.empty {
			if fs.disk.Limits().ReadOnly {
				return r.Fail(unix.EROFS, "the journal must be replayed, and the disk is read-only; option noload mounts without")
			}
			if err := j.replay(); err != nil {
				return r.Fail(err, "the journal cannot be replayed")
			}
			if err := fs.reread(r); err != nil {
				return err
			}
		}
		fs.journal = j
		if be.Uint32(j.super[jErrno:]) != 0 {
			le.PutUint16(fs.raw[sState:], le.Uint16(fs.raw[sState:])|stateErrors)
		}
	} else if fs.compat&compatJournal != 0 && !fs.readOnly.Load() {
		return r.Fail(unix.EROFS, "noload is for read-only mounts")
	}
	root, err := fs.inode(rootInode)
	if err != nil || !root.IsDir() || root.Nlink() == 0 {
		return r.Fail(unix.EUCLEAN, "the root directory is damaged")
	}
	fs.vfs.SetRoot(root)
	return nil
}

// reread reads superblock and descriptors again, after the journal was replayed.
func (fs *fileSystem) reread(r *vfs.MountRequest) error {
	b, err := readSuper(fs.disk)
	if err != nil {
		return err
	}
	s, err := parseSuper(b, fs.disk.Limits().Size, r)
	if err != nil {
		return err
	}
	if s.blockSize != fs.blockSize || s.blocks != fs.blocks || s.inodesGroup != fs.inodesGroup {
		return r.Fail(unix.EUCLEAN, "the journal has another superblock")
	}
	fs.super = *s
	fs.buffers.known, fs.buffers.ring, fs.buffers.hand = nil, nil, 0
	if err := fs.readGroups(); err != nil {
		return r.Fail(err, "the group descriptors are damaged")
	}
	return nil
}

// readGroups reads the descriptors of all groups.
func (fs *fileSystem) readGroups() error {
	per := uint32(fs.blockSize / fs.descSize)
	fs.groups = make([]group, fs.groupCount())
	for g := range fs.groups {
		b, err := fs.read(fs.descBlock(uint32(g)/per), descKind, nil)
		if err != nil {
			return err
		}
		if fs.groups[g], err = fs.decodeGroup(uint32(g), b.data[g%int(per)*fs.descSize:][:fs.descSize]); err != nil {
			return err
		}
	}
	return nil
}

// markInUse marks the file system as in use.
func (fs *fileSystem) markInUse() error {
	if j := fs.journal; j != nil {
		if be.Uint32(j.super[jErrno:]) != 0 {
			if err := fs.writeSuper(); err != nil { // it has the mark now
				return err
			}
			be.PutUint32(j.super[jErrno:], 0)
		}
		if be.Uint32(j.super[4:]) == jSuper2 {
			j.incompat |= jIncompatRevoke
			if fs.is64 {
				j.incompat |= jIncompat64
			}
		}
		if err := j.writeSuper(j.head); err != nil {
			return err
		}
		fs.incompat |= incompatRecover
	} else {
		le.PutUint16(fs.raw[sState:], le.Uint16(fs.raw[sState:])&^stateClean)
	}
	le.PutUint16(fs.raw[sMounts:], le.Uint16(fs.raw[sMounts:])+1)
	le.PutUint32(fs.raw[sMountTime:], uint32(fs.vfs.Now()/1e9))
	return fs.writeSuper()
}

// writeSuper writes the superblock to its place at once.
func (fs *fileSystem) writeSuper() error {
	var data []byte
	var place int64
	if err := fs.locked(func() error {
		if err := fs.storeSuper(); err != nil {
			return err
		}
		b, err := fs.superBuffer()
		if err == nil {
			data, place = slices.Clone(b.data), int64(b.block)<<fs.blockBits
		}
		return err
	}); err != nil {
		return err
	}
	return fs.disk.WriteAt(data, place, true)
}

func (fs *fileSystem) superBuffer() (*buffer, error) {
	return fs.read(superOffset>>fs.blockBits, anyKind, nil)
}

// storeSuper makes the superblock part of the transaction.
func (fs *fileSystem) storeSuper() error {
	b, err := fs.superBuffer()
	if err != nil {
		return err
	}
	fs.encode(fs.vfs.Now())
	copy(b.data[superOffset&(fs.blockSize-1):], fs.raw)
	fs.change(b)
	return nil
}

// writable says why nothing can be changed: EROFS. fs.mu is held.
func (fs *fileSystem) writable() error {
	if fs.failed != nil || fs.readOnly.Load() || fs.done {
		return unix.EROFS
	}
	return nil
}

// failure is what a sync has to tell.
func (fs *fileSystem) failure() error {
	fs.mu.RLock()
	defer fs.mu.RUnlock()
	return fs.failed
}

func (fs *fileSystem) problem(what string) {
	if fs.log != nil {
		fs.log("gosv: " + fs.vfs.Type + " on " + fs.name + ": " + what)
	}
}

func utoa(n uint64) string { return strconv.FormatUint(n, 10) }

// Sizes of transactions, in blocks: beyond the first a change waits for a commit.
const (
	txBlocks = 512
	txPart   = 8 // of the journal at most
)

// begin commits if the running transaction is large. No lock is held.
func (fs *fileSystem) begin() error {
	fs.trim()
	fs.mu.RLock()
	most := txBlocks
	if j := fs.journal; j != nil {
		most = min(most, int(j.length/txPart))
	}
	large := len(fs.tx.buffers)+len(fs.tx.revoked)/64 > most
	fs.mu.RUnlock()
	if large {
		return fs.commit()
	}
	return nil
}

// update makes a change: EROFS, what do returns. A fault after part of a change was made makes the file system read-only.
func (fs *fileSystem) update(do func() error) error {
	if err := fs.begin(); err != nil {
		return err
	}
	for tried := false; ; tried = true {
		freed := false
		err := fs.locked(func() error {
			if err := fs.writable(); err != nil {
				return err
			}
			before := fs.tx.changes
			err := do()
			if (err == unix.EIO || err == unix.EUCLEAN || err == unix.ENOMEM) && fs.tx.changes != before {
				err = fs.broken(err)
			}
			freed = len(fs.tx.freed) > 0
			return err
		})
		if err != unix.ENOSPC || !freed || tried {
			return err
		}
		if err := fs.commit(); err != nil {
			return err
		}
	}
}

// hold keeps an inode in memory until all of it is on the disk; fs.mu is held for writing.
func (fs *fileSystem) hold(n *node, i *vfs.Inode) {
	if n.pin == nil {
		n.pin = i
		fs.pinned[n] = struct{}{}
	}
}

func (fs *fileSystem) unhold(n *node) {
	n.pin = nil
	delete(fs.pinned, n)
	n.forgetPromises(0, math.MaxUint64)
}

// commitPeriod is how long a change waits for its commit at most.
const commitPeriod = 5 * time.Second

// writer commits now and then.
func (fs *fileSystem) writer() {
	defer fs.ends.Done()
	timer := time.NewTimer(commitPeriod)
	defer timer.Stop()
	for {
		select {
		case <-fs.stop:
			return
		case <-fs.faulty:
			fs.markErrors()
			continue
		case <-timer.C:
		}
		fs.mu.RLock()
		idle := fs.tx.isEmpty() && len(fs.pinned) == 0
		fs.mu.RUnlock()
		if !idle {
			_ = fs.flush() // whoever syncs will hear of it
		}
		timer.Reset(commitPeriod)
	}
}

// flush writes the data of all inodes that are held and commits.
func (fs *fileSystem) flush() error {
	fs.mu.RLock()
	list := make([]*node, 0, len(fs.pinned))
	for n := range fs.pinned {
		list = append(list, n)
	}
	fs.mu.RUnlock()
	var failed error
	for _, n := range list {
		if n.cache == nil {
			continue
		}
		if err := n.cache.Sync(0, math.MaxUint64); err != nil && failed == nil {
			failed = err
		}
	}
	err := fs.update(func() error {
		for _, n := range list {
			if n.cache == nil || n.deleted || n.cache.Dirty() > 0 || n.pin == nil {
				continue
			}
			n.size = n.cache.Size()
			if err := n.storeIfChanged(); err != nil {
				return err
			}
			if n.pin.Nlink() > 0 {
				fs.unhold(n)
			}
		}
		return nil
	})
	if err == nil {
		err = fs.commit()
	}
	if failed == nil {
		failed = err
	}
	return failed
}

// storeIfChanged is store, but nothing is written when the disk has it all.
func (n *node) storeIfChanged() error {
	b, raw, err := n.fs.rawInode(n.ino)
	if err != nil {
		return err
	}
	old := append([]byte(nil), raw...)
	n.encode(raw)
	if string(old) != string(raw) {
		n.fs.change(b)
	}
	return nil
}

// cleanOrphans deletes files that were deleted but open when the machine stopped, and finishes what was being truncated.
func (fs *fileSystem) cleanOrphans() error {
	var nodes []*vfs.Inode
	if err := fs.locked(func() error {
		list, more, err := fs.orphanNumbers()
		if err == nil {
			nodes, err = fs.knowOrphans(list, more)
		}
		return err
	}); err != nil || len(nodes) == 0 {
		return err
	}
	for _, i := range nodes {
		if err := fs.cleanOrphan(i); err != nil {
			return err
		}
	}
	if err := fs.clearOrphanFile(); err != nil {
		return err
	}
	return fs.commit()
}

// orphanNumbers returns the inodes on the disk's list, and those in the orphan file: EUCLEAN, EIO.
func (fs *fileSystem) orphanNumbers() (list, more []uint32, err error) {
	seen := map[uint32]bool{}
	for ino := le.Uint32(fs.raw[sOrphans:]); ino != 0; {
		_, raw, err := fs.rawInode(ino)
		if err != nil || seen[ino] || ino < fs.firstInode {
			return nil, nil, unix.EUCLEAN
		}
		seen[ino] = true
		list = append(list, ino)
		ino = le.Uint32(raw[iDtime:])
	}
	more, err = fs.orphanFileInodes(seen)
	return list, more, err
}

// knowOrphans makes the list in memory, so that each can be taken off it, and returns all orphans.
func (fs *fileSystem) knowOrphans(list, more []uint32) (nodes []*vfs.Inode, err error) {
	for at := len(list) - 1; at >= 0; at-- {
		i, err := fs.inode(list[at])
		if err != nil {
			return nil, err
		}
		n := of(i)
		n.orphan = true
		if at+1 < len(list) {
			n.next = list[at+1]
		}
		fs.orphans = append(fs.orphans, n)
		nodes = append(nodes, i)
	}
	for _, ino := range more {
		i, err := fs.inode(ino)
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, i)
	}
	return nodes, nil
}

// cleanOrphan finishes what was being done to one orphan.
func (fs *fileSystem) cleanOrphan(i *vfs.Inode) error {
	n := of(i)
	if i.Nlink() == 0 {
		fs.table.Drop(n.ino, i)
		if n.cache != nil {
			n.cache.Release()
		}
		return n.erase(i)
	}
	if n.cache != nil {
		if err := n.release((uint64(n.size)+uint64(fs.blockSize)-1)>>fs.blockBits, 1<<32); err != nil {
			return err
		}
	}
	return fs.update(func() error { return fs.dropOrphan(n) })
}

// Statfs implements vfs.FSOps.
func (fs *fileSystem) Statfs(s *unix.Statfs_t) {
	fs.mu.RLock()
	defer fs.mu.RUnlock()
	s.Type = unix.EXT4_SUPER_MAGIC
	s.Bsize, s.Frsize = int64(fs.blockSize), int64(fs.blockSize)
	overhead := uint64(0)
	table := uint64(fs.inodesGroup) * uint64(fs.inodeSize) >> fs.blockBits
	for g := range fs.groups {
		overhead += uint64(fs.baseMeta(uint32(g))) + 2 + table
	}
	if fs.journal != nil {
		overhead += uint64(fs.journal.length)
	}
	s.Blocks = fs.blocks - min(fs.blocks, fs.firstBlock+overhead)
	s.Bfree = fs.freeBlocks - min(fs.freeBlocks, fs.promised)
	s.Bavail = s.Bfree - min(s.Bfree, fs.reserved)
	s.Files, s.Ffree = uint64(fs.inodes), uint64(fs.freeInodes)
	s.Namelen = vfs.NameMax
}

// Sync implements vfs.FSOps.
func (fs *fileSystem) Sync() error {
	if fs.readOnly.Load() {
		return nil
	}
	if err := fs.flush(); err != nil {
		return err
	}
	return fs.syncJournal()
}

// Shutdown implements vfs.Shutter: everything is brought to its place, and the file system is clean on the disk.
func (fs *fileSystem) Shutdown() {
	if fs.readOnly.Load() {
		return
	}
	err := fs.Sync()
	if err == nil {
		err = fs.tidy()
	}
	if err != nil {
		fs.problem("not clean: " + err.Error())
	}
}

// tidy empties the journal and says so.
func (fs *fileSystem) tidy() error {
	fs.committing.Lock()
	defer fs.committing.Unlock()
	if err := fs.commitLocked(); err != nil {
		return err
	}
	if err := fs.checkpoint(); err != nil {
		return err
	}
	fs.mu.Lock()
	if fs.journal == nil {
		le.PutUint16(fs.raw[sState:], le.Uint16(fs.raw[sState:])|stateClean)
	}
	fs.incompat &^= incompatRecover
	fs.done = true
	fs.mu.Unlock()
	if j := fs.journal; j != nil {
		j.head, j.tail = j.first, j.first
		if err := j.writeSuper(0); err != nil {
			return err
		}
	}
	err := fs.writeSuper()
	fs.mu.Lock()
	if fs.tx.isOnlySuper() {
		for _, b := range fs.tx.buffers {
			b.inTx = false
		}
		fs.tx = newTransaction()
	}
	fs.mu.Unlock()
	return err
}

// isOnlySuper reports whether the transaction has nothing but the superblock.
func (t *transaction) isOnlySuper() bool {
	return len(t.buffers) <= 1 && len(t.revoked) == 0 && len(t.freed) == 0
}

// Unmounted implements vfs.FSOps.
func (fs *fileSystem) Unmounted() {
	close(fs.stop)
	fs.ends.Wait()
	fs.Shutdown()
	fs.markErrors()
	fs.vfs.DropNames()
	fs.mu.Lock()
	for n := range fs.pinned {
		fs.unhold(n)
	}
	fs.mu.Unlock()
	fs.caches.ReleaseAll()
	fs.closed()
}
