package block

import (
	"slices"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"gosv/machine"
)

// Majors of block devices: as Linux's where they are fixed (Documentation/admin-guide/devices.txt), and from
// the range for local use where Linux takes what is free.
const (
	MajorLoop     = 7
	MajorSCSI     = 8
	MajorVirtio   = 254
	MajorExtended = 259 // NVMe, persistent memory, and partitions that have no minor of their own
)

// A Kind is a family of disks that share a way of naming and numbering.
type Kind struct {
	Prefix string
	Major  uint32
	// Minors is how many minors each disk has: itself and its partitions; the others get extended ones.
	Minors uint32
	// Numbered makes names of numbers (loop0, nvme0n1), not letters (vda).
	Numbered bool
	Suffix   string // behind the number
}

// The kinds.
var (
	Virtio = Kind{Prefix: "vd", Major: MajorVirtio, Minors: 16}
	SCSI   = Kind{Prefix: "sd", Major: MajorSCSI, Minors: 16}
	NVMe   = Kind{Prefix: "nvme", Major: MajorExtended, Numbered: true, Suffix: "n1"}
	Pmem   = Kind{Prefix: "pmem", Major: MajorExtended, Numbered: true}
	Loop   = Kind{Prefix: "loop", Major: MajorLoop, Minors: 1, Numbered: true}
)

// name returns the name of disk i: vda to vdz, then vdaa.
func (k *Kind) name(i int) string {
	if k.Numbered {
		return k.Prefix + strconv.Itoa(i) + k.Suffix
	}
	s := ""
	for i++; i > 0; i = (i - 1) / 26 {
		s = string(rune('a'+(i-1)%26)) + s
	}
	return k.Prefix + s
}

// Registry knows all disks of the machine.
type Registry struct {
	frames machine.Frames
	now    func() int64
	spare  *reserve

	// scanning serialises Rescan and Remove, and is held while a partition table is read.
	scanning sync.Mutex

	mu sync.Mutex
	// disks has the partitions behind each disk.
	disks []*Disk // +checklocks:mu
	// count is the next number of each kind, by prefix.
	count map[string]int // +checklocks:mu
	// extended is the next minor of MajorExtended.
	extended uint32 // +checklocks:mu
	// freed are extended minors given back.
	freed   []uint32    // +checklocks:mu
	added   func(*Disk) // +checklocks:mu
	removed func(*Disk) // +checklocks:mu
}

// NewRegistry returns an empty registry. now tells the time in ns.
func NewRegistry(frames machine.Frames, now func() int64) *Registry {
	return &Registry{frames: frames, now: now, count: map[string]int{}}
}

// Reserve takes a frame for when memory is short, and reclaim as the means to get more (mem.Pool.Reclaim), before disks are
// added. It costs nothing in a machine without disks.
func (r *Registry) Reserve(reclaim func(pages int) int) error {
	f, err := r.frames.AllocRun(1)
	if err != nil {
		return unix.ENOMEM
	}
	r.spare = &reserve{reclaim: reclaim, frame: make(chan machine.Frame, 1)}
	r.spare.frame <- f
	return nil
}

// OnChange says what is to be told of disks that come and go; at first it is told of all that are there. The functions
// must not call the registry.
func (r *Registry) OnChange(added, removed func(*Disk)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.added, r.removed = added, removed
	for _, d := range r.disks {
		added(d)
	}
}

// Add makes a device known under the next name of its kind and looks for partitions.
func (r *Registry) Add(k Kind, dev Device) *Disk {
	r.mu.Lock()
	n := r.count[k.Prefix]
	r.count[k.Prefix]++
	r.mu.Unlock()
	return r.AddNumber(k, n, dev)
}

// AddNumber is Add for disk n of its kind, which must be free.
func (r *Registry) AddNumber(k Kind, n int, dev Device) *Disk {
	d := NewDisk(k.name(n), dev, r.frames, r.now)
	d.reserve = r.spare
	r.mu.Lock()
	d.Major, d.Minor = k.Major, uint32(n)*k.Minors
	if k.Minors == 0 {
		d.Minor = r.extendedMinor()
	}
	d.mu.Lock()
	r.insert(d, len(r.disks))
	d.mu.Unlock()
	r.mu.Unlock()
	if k.Minors != 1 {
		_ = r.Rescan(d) // without a table that can be read it has no partitions
	}
	return d
}

// extendedMinor returns a free minor of MajorExtended.
//
// +checklocks:r.mu
func (r *Registry) extendedMinor() uint32 {
	if n := len(r.freed); n > 0 {
		m := r.freed[n-1]
		r.freed = r.freed[:n-1]
		return m
	}
	r.extended++
	return r.extended - 1
}

// +checklocks:r.mu
func (r *Registry) insert(d *Disk, at int) {
	r.disks = slices.Insert(r.disks, at, d)
	if r.added != nil {
		r.added(d)
	}
}

// +checklocks:r.mu
func (r *Registry) take(d *Disk) {
	i := slices.Index(r.disks, d)
	if i < 0 {
		return
	}
	r.disks = slices.Delete(r.disks, i, i+1)
	if d.Major == MajorExtended {
		r.freed = append(r.freed, d.Minor)
	}
	if r.removed != nil {
		r.removed(d)
	}
}

// Rescan reads the partition table of a whole disk again (BLKRRPART): EINVAL for a partition, EBUSY while one is claimed, EIO.
func (r *Registry) Rescan(d *Disk) error {
	if d.Whole != nil {
		return unix.EINVAL
	}
	r.scanning.Lock()
	defer r.scanning.Unlock()
	table, err := ReadTable(d)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.claimed > 0 {
		return unix.EBUSY
	}
	for _, p := range d.parts {
		r.take(p)
	}
	d.parts = nil
	at := slices.Index(r.disks, d)
	if at < 0 {
		return unix.ENXIO
	}
	for _, e := range table {
		p := r.newPart(d, e)
		d.parts = append(d.parts, p)
		at++
		r.insert(p, at)
	}
	return nil
}

// newPart makes a partition of d.
//
// +checklocks:r.mu
func (r *Registry) newPart(d *Disk, e Entry) *Disk {
	p := NewDisk(partName(d.Name, e.Number), &part{d, e.Start, e.Size}, r.frames, r.now)
	p.reserve = r.spare
	p.Whole, p.Start, p.Number, p.Label, p.UUID = d, e.Start, e.Number, e.Label, e.UUID
	const most = 15 // partitions that have a minor beside the disk's
	if d.Major != MajorExtended && d.Major != MajorLoop && e.Number <= most {
		p.Major, p.Minor = d.Major, d.Minor+uint32(e.Number)
	} else {
		p.Major, p.Minor = MajorExtended, r.extendedMinor()
	}
	return p
}

// Remove takes a whole disk with its partitions away: EBUSY while one is claimed.
func (r *Registry) Remove(d *Disk) error {
	r.scanning.Lock()
	defer r.scanning.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.claimed > 0 || d.holder != nil {
		return unix.EBUSY
	}
	for _, p := range d.parts {
		r.take(p)
	}
	d.parts = nil
	r.take(d)
	return nil
}

// Disks lists all disks, partitions behind their disk.
func (r *Registry) Disks() []*Disk {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.disks)
}

// ByName returns the disk of that name, nil when there is none.
func (r *Registry) ByName(name string) *Disk {
	return r.find(func(d *Disk) bool { return d.Name == name })
}

// ByNumber returns the disk of that number, nil when there is none.
func (r *Registry) ByNumber(major, minor uint32) *Disk {
	return r.find(func(d *Disk) bool { return d.Major == major && d.Minor == minor })
}

func (r *Registry) find(is func(*Disk) bool) *Disk {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := slices.IndexFunc(r.disks, is); i >= 0 {
		return r.disks[i]
	}
	return nil
}
