package block

import (
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gosv/machine"
)

// A Disk is a device or a partition of one, with a name and a number.
type Disk struct {
	Name  string
	Major uint32
	Minor uint32
	// Whole is the disk that this is a partition of, nil when it is none.
	Whole *Disk
	// Start is where the partition begins on Whole, in bytes, and Number its number, from 1.
	Start  int64
	Number int
	// Label and UUID are the partition's in a GPT; an MBR's partitions have SIGNATURE-NN as UUID.
	Label string
	UUID  string
	// Removable and Serial are for people to see.
	Removable bool
	Serial    string

	dev    Device
	limits atomic.Pointer[Limits]
	marked atomic.Bool // see Mark
	frames machine.Frames
	now    func() int64 // ns
	stats  Stats
	// reserve is shared by the disks of a registry; nil: memory that is short is ENOMEM.
	reserve *reserve

	mu sync.Mutex
	// holder is who claimed the disk; a claim of a partition counts in the whole disk's parts.
	holder any // +checklocks:mu
	// shares are the claims by holder.
	shares int // +checklocks:mu
	// claimed are the partitions that are claimed.
	claimed int     // +checklocks:mu
	parts   []*Disk // +checklocks:mu
	// Private belongs to the layer that makes device files.
	private any // +checklocks:mu
}

// Stats are what /proc/diskstats shows (Linux, Documentation/admin-guide/iostats.rst), by Op.
type Stats struct {
	Requests, Sectors, NS [5]atomic.Uint64
	InFlight              atomic.Int64
	BusyNS                atomic.Uint64
}

// NewDisk returns a disk without a number, for layers and tests; Registry.Add makes those with one. now tells
// the time in ns.
func NewDisk(name string, dev Device, frames machine.Frames, now func() int64) *Disk {
	d := &Disk{Name: name, dev: dev, frames: frames, now: now}
	d.Refresh()
	return d
}

// Limits implements Device. A marked disk is read-only.
func (d *Disk) Limits() Limits {
	l := *d.limits.Load()
	l.ReadOnly = d.ReadOnly()
	return l
}

// Mark is BLKROSET: a disk that is marked, and each partition of it, counts as read-only with those who ask from then on. As on Linux,
// who writes already, as a mounted file system does, is not stopped.
func (d *Disk) Mark(readOnly bool) { d.marked.Store(readOnly) }

// ReadOnly reports whether the device, or a mark, says so.
func (d *Disk) ReadOnly() bool {
	return d.limits.Load().ReadOnly || d.marked.Load() || d.Whole != nil && d.Whole.marked.Load()
}

// Refresh takes over what the device's Limits says now, for devices that get another size.
func (d *Disk) Refresh() {
	l := d.dev.Limits()
	d.limits.Store(&l)
}

// Size is the size in bytes.
func (d *Disk) Size() int64 { return d.limits.Load().Size }

// Stats returns the disk's counters.
func (d *Disk) Stats() *Stats { return &d.stats }

// Frames is where memory for requests comes from.
func (d *Disk) Frames() machine.Frames { return d.frames }

// Do implements Device: it checks r, splits what is too large for the device, and counts. EINVAL, EROFS, EIO, EOPNOTSUPP.
func (d *Disk) Do(r *Request) error {
	l := d.limits.Load()
	if err := l.check(r); err != nil {
		return err
	}
	switch {
	case r.Op == Flush && !l.Cached:
		return nil
	case r.Op == WriteZeroes && l.MaxZeroes == 0:
		return d.writeZeros(r)
	}
	start := d.now()
	d.stats.InFlight.Add(1)
	err := d.split(r, l)
	d.stats.InFlight.Add(-1)
	ns := uint64(d.now() - start)
	d.stats.Requests[r.Op].Add(1)
	d.stats.Sectors[r.Op].Add(uint64(r.Len / SectorSize))
	d.stats.NS[r.Op].Add(ns)
	d.stats.BusyNS.Add(ns)
	return err
}

// split hands r to the device in pieces that it can take.
func (d *Disk) split(r *Request, l *Limits) error {
	switch r.Op {
	case Flush:
		return d.dev.Do(r)
	case Discard, WriteZeroes:
		most := l.MaxDiscard
		if r.Op == WriteZeroes {
			most = l.MaxZeroes
		}
		for off, left := r.Off, r.Len; left > 0; {
			n := min(left, most)
			if err := d.dev.Do(&Request{Op: r.Op, Off: off, Len: n, Allocated: r.Allocated}); err != nil {
				return err
			}
			off, left = off+n, left-n
		}
		return nil
	}
	if l.fits(r) {
		return d.dev.Do(r)
	}
	part := Request{Op: r.Op, Off: r.Off, Durable: r.Durable}
	for i := 0; i < len(r.Data); i++ {
		for seg := r.Data[i]; len(seg.Bytes) > 0; {
			n := len(seg.Bytes)
			if most := l.MaxBytes; most != 0 {
				n = int(min(int64(n), most-part.Len))
			}
			part.Data = append(part.Data, Segment{seg.Bytes[:n], seg.Addr})
			part.Len += int64(n)
			seg = Segment{seg.Bytes[n:], seg.Addr + uint64(n)}
			last := i == len(r.Data)-1 && len(seg.Bytes) == 0
			if last || part.Len == l.MaxBytes || len(part.Data) == l.MaxSegments {
				if err := d.dev.Do(&part); err != nil {
					return err
				}
				part = Request{Op: r.Op, Off: part.Off + part.Len, Durable: r.Durable, Data: part.Data[:0]}
			}
		}
	}
	return nil
}

func (l *Limits) fits(r *Request) bool {
	return (l.MaxBytes == 0 || r.Len <= l.MaxBytes) && (l.MaxSegments == 0 || len(r.Data) <= l.MaxSegments)
}

// What Bounce gives at most, and what ReadAt and WriteAt take of it, in pages.
const (
	MaxBounce    = 256
	bounceFrames = 16
)

// reserve is a frame for when memory is short, so that what is in memory can be written to disks, which frees memory.
type reserve struct {
	reclaim func(pages int) int // may be nil
	frame   chan machine.Frame  // holds the frame, unless it is in use
}

// A Bounce is memory between a disk and what the disk cannot reach.
type Bounce struct {
	Bytes []byte
	addr  uint64
	d     *Disk
	frame machine.Frame
	pages int // 0: it is the reserve
}

// Bounce returns memory for n bytes, at most MaxBounce pages, or for less where memory is short; it waits for the registry's reserve when there is no
// other. What was in it is somebody else's. ENOMEM.
func (d *Disk) Bounce(n int) (*Bounce, error) {
	pages := min((n+machine.PageSize-1)/machine.PageSize, MaxBounce)
	f, err := d.frames.AllocRaw(pages)
	for ; err != nil && pages > 1; f, err = d.frames.AllocRaw(pages) {
		pages /= 2
	}
	if err != nil && d.reserve != nil && d.reserve.reclaim != nil && d.reserve.reclaim(2*bounceFrames) > 0 {
		f, err = d.frames.AllocRaw(1)
	}
	if err != nil {
		if d.reserve == nil || d.reserve.frame == nil {
			return nil, unix.ENOMEM
		}
		f, pages = <-d.reserve.frame, 0
	}
	memory := d.frames.Bytes(f, max(pages, 1))
	return &Bounce{Bytes: memory[:min(n, len(memory))], addr: uint64(f) * machine.PageSize, d: d, frame: f, pages: pages}, nil
}

// Close gives the memory back.
func (b *Bounce) Close() {
	if b.pages == 0 {
		b.d.reserve.frame <- b.frame
		return
	}
	b.d.frames.Free(b.frame, b.pages)
}

// Move reads the first n bytes from the disk at off, or writes them there.
func (b *Bounce) Move(op Op, n int, off int64, durable bool) error {
	return b.d.Do(&Request{Op: op, Off: off, Len: int64(n), Durable: durable, Data: []Segment{{b.Bytes[:n], b.addr}}})
}

// ReadAt reads len(p) bytes at off, both multiples of the logical block size, into any memory: EIO, EINVAL, ENOMEM.
func (d *Disk) ReadAt(p []byte, off int64) error {
	return d.copy(Read, p, off, false)
}

// WriteAt is ReadAt in the other direction; also EROFS, ENOSPC.
func (d *Disk) WriteAt(p []byte, off int64, durable bool) error {
	return d.copy(Write, p, off, durable)
}

func (d *Disk) copy(op Op, p []byte, off int64, durable bool) error {
	if len(p) == 0 {
		return nil
	}
	b, err := d.Bounce(min(len(p), bounceFrames*machine.PageSize))
	if err != nil {
		return err
	}
	defer b.Close()
	for len(p) > 0 {
		n := min(len(p), len(b.Bytes))
		if op == Write {
			copy(b.Bytes, p[:n])
		}
		if err := b.Move(op, n, off, durable); err != nil {
			return err
		}
		if op == Read {
			copy(p, b.Bytes[:n])
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// Flush makes all completed writes durable: EIO.
func (d *Disk) Flush() error { return d.Do(&Request{Op: Flush}) }

// Discard says that n bytes at off are not needed: EOPNOTSUPP, EINVAL, EIO, EROFS.
func (d *Disk) Discard(off, n int64) error { return d.Do(&Request{Op: Discard, Off: off, Len: n}) }

// Zero makes n bytes at off zeros, by the device's own means where it has them: EINVAL, EIO, EROFS, ENOMEM.
func (d *Disk) Zero(off, n int64) error { return d.Do(&Request{Op: WriteZeroes, Off: off, Len: n}) }

// writeZeros writes zeros from memory.
func (d *Disk) writeZeros(r *Request) error {
	b, err := d.Bounce(int(min(r.Len, bounceFrames*machine.PageSize)))
	if err != nil {
		return err
	}
	defer b.Close()
	clear(b.Bytes)
	for off, left := r.Off, r.Len; left > 0; {
		n := min(left, int64(len(b.Bytes)))
		if err := b.Move(Write, int(n), off, false); err != nil {
			return err
		}
		off, left = off+n, left-n
	}
	return nil
}

// Claim makes holder (comparable, not nil) the one user of the disk, as a mount or an open with O_EXCL is:
// EBUSY when it has another, or when a partition of it or the disk that it is a partition of is claimed. The same holder
// may claim again; each claim needs a Release.
func (d *Disk) Claim(holder any) error {
	w := d.Whole
	if w == nil {
		_, err := d.claim(holder)
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.holder != nil {
		return unix.EBUSY
	}
	first, err := d.claim(holder)
	if first {
		w.claimed++
	}
	return err
}

// claim is Claim without a look at the whole disk; first says that there was no claim.
func (d *Disk) claim(holder any) (first bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.claimed > 0 || d.holder != nil && d.holder != holder {
		return false, unix.EBUSY
	}
	d.holder = holder
	d.shares++
	return d.shares == 1, nil
}

// Release ends a Claim.
func (d *Disk) Release() {
	w := d.Whole
	if w == nil {
		d.release()
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if d.release() {
		w.claimed--
	}
}

// release is Release without a look at the whole disk; last says that there is no claim any more.
func (d *Disk) release() (last bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.shares--; d.shares > 0 {
		return false
	}
	d.holder = nil
	return true
}

// Claimed reports whether the disk or a partition of it is claimed.
func (d *Disk) Claimed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.holder != nil || d.claimed > 0
}

// Private returns what the layer of device files keeps for the disk, made by create at first.
func (d *Disk) Private(create func() any) any {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.private == nil {
		d.private = create()
	}
	return d.private
}

// Parts returns the partitions in the order of their numbers.
func (d *Disk) Parts() []*Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]*Disk(nil), d.parts...)
}

// partName is the name of partition n of a disk: a p comes between digits (nvme0n1p1).
func partName(disk string, n int) string {
	if last := disk[len(disk)-1]; last >= '0' && last <= '9' {
		disk += "p"
	}
	return disk + strconv.Itoa(n)
}

// First returns the frame with the disk's first page when its contents can be used in place (InMemory): NoFrame for other disks, and
// for partitions that begin within a page.
func (d *Disk) First() machine.Frame {
	if d.Whole != nil {
		if f := d.Whole.First(); f != machine.NoFrame && d.Start%machine.PageSize == 0 {
			return f + machine.Frame(d.Start/machine.PageSize)
		}
		return machine.NoFrame
	}
	if m, ok := d.dev.(InMemory); ok {
		return m.First()
	}
	return machine.NoFrame
}

// part is the Device of a partition.
type part struct {
	whole *Disk
	start int64
	size  int64
}

func (p *part) Limits() Limits {
	l := *p.whole.limits.Load()
	l.Size = p.size
	return l
}

func (p *part) Do(r *Request) error {
	moved := *r
	if r.Op != Flush {
		moved.Off += p.start
	}
	return p.whole.Do(&moved)
}
