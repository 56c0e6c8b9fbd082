package blockdev

import (
	"strconv"
	"strings"

	"gosv/kernel/block"
)

// Tree is a /proc or a /sys.
type Tree interface {
	Add(path string, mode uint32, show func() string, store func(string) error)
	AddLink(path, target string)
	AddDir(path string)
	Remove(path string)
}

// ShowLists adds /proc/partitions and /proc/diskstats (proc(5)).
func (b *Files) ShowLists(proc Tree) {
	proc.Add("partitions", 0o444, func() string {
		var s strings.Builder
		s.WriteString("major minor  #blocks  name\n\n")
		for _, d := range b.disks.Disks() {
			if d.Size() > 0 {
				s.WriteString(pad(uint64(d.Major), 4) + "  " + pad(uint64(d.Minor), 7) + " " + pad(uint64(d.Size()/1024), 10) + " " + d.Name + "\n")
			}
		}
		return s.String()
	}, nil)
	proc.Add("diskstats", 0o444, func() string {
		var s strings.Builder
		for _, d := range b.disks.Disks() {
			s.WriteString(pad(uint64(d.Major), 4) + " " + pad(uint64(d.Minor), 7) + " " + d.Name + " " + stat(d, " ") + "\n")
		}
		return s.String()
	}, nil)
}

func pad(n uint64, width int) string {
	s := strconv.FormatUint(n, 10)
	return strings.Repeat(" ", max(0, width-len(s))) + s
}

// stat is the line of /sys/block/NAME/stat, for diskstats with other gaps.
func stat(d *block.Disk, gap string) string {
	s := d.Stats()
	var list []string
	add := func(n uint64) { list = append(list, strconv.FormatUint(n, 10)) }
	ops := func(op block.Op) {
		add(s.Requests[op].Load())
		add(0) // requests that were merged: none are
		add(s.Sectors[op].Load())
		add(s.NS[op].Load() / 1e6)
	}
	ops(block.Read)
	ops(block.Write)
	add(uint64(max(s.InFlight.Load(), 0)))
	add(s.BusyNS.Load() / 1e6)
	add(s.BusyNS.Load() / 1e6)
	ops(block.Discard)
	add(s.Requests[block.Flush].Load())
	add(s.NS[block.Flush].Load() / 1e6)
	return strings.Join(list, gap)
}

// place is where a disk is in /sys.
func place(d *block.Disk) string {
	if d.Whole != nil {
		return "devices/virtual/block/" + d.Whole.Name + "/" + d.Name
	}
	return "devices/virtual/block/" + d.Name
}

func number(d *block.Disk) string {
	return strconv.FormatUint(uint64(d.Major), 10) + ":" + strconv.FormatUint(uint64(d.Minor), 10)
}

// SetSys says where Show and loop devices are shown; before there are any.
func (b *Files) SetSys(sys Tree) { b.sys = sys }

// Show adds a disk to /sys, under the names that lsblk(8), blkid(8) and fdisk(8) look for.
func (b *Files) Show(d *block.Disk) {
	sys := b.sys
	at := place(d)
	text := func(name string, show func() string) {
		sys.Add(at+"/"+name, 0o444, func() string { return show() + "\n" }, nil)
	}
	num := func(name string, show func() int64) {
		text(name, func() string { return strconv.FormatInt(show(), 10) })
	}
	fixed := func(name string, n int64) { num(name, func() int64 { return n }) }
	flag := func(name string, on func(l block.Limits) bool) {
		num(name, func() int64 {
			if on(d.Limits()) {
				return 1
			}
			return 0
		})
	}
	text("dev", func() string { return number(d) })
	num("size", func() int64 { return d.Size() / block.SectorSize })
	flag("ro", func(l block.Limits) bool { return l.ReadOnly })
	text("stat", func() string { return stat(d, " ") })
	text("inflight", func() string { return strconv.FormatInt(max(d.Stats().InFlight.Load(), 0), 10) + " 0" })
	fixed("alignment_offset", 0)
	fixed("discard_alignment", 0)
	sys.AddDir(at + "/holders")
	sys.AddLink(at+"/subsystem", strings.Repeat("../", strings.Count(at, "/")+1)+"class/block")
	kind := "disk"
	if d.Whole != nil {
		kind = "partition"
		fixed("partition", int64(d.Number))
		fixed("start", d.Start/block.SectorSize)
	} else {
		showQueue(d, text, num, fixed, flag)
		sys.AddDir(at + "/slaves")
	}
	text("uevent", func() string {
		s := "MAJOR=" + strconv.Itoa(int(d.Major)) + "\nMINOR=" + strconv.Itoa(int(d.Minor)) + "\nDEVNAME=" + d.Name + "\nDEVTYPE=" + kind
		if d.Whole != nil {
			s += "\nPARTN=" + strconv.Itoa(d.Number)
			if d.Label != "" {
				s += "\nPARTNAME=" + d.Label
			}
		}
		return s
	})
	if d.Whole == nil {
		sys.AddLink("block/"+d.Name, "../"+at)
	}
	sys.AddLink("class/block/"+d.Name, "../../"+at)
	sys.AddLink("dev/block/"+number(d), "../../"+at)
}

// showQueue adds what only whole disks have.
func showQueue(d *block.Disk, text func(string, func() string), num func(string, func() int64), fixed func(string, int64), flag func(string, func(block.Limits) bool)) {
	limit := func(name string, of func(l block.Limits) int64) {
		num("queue/"+name, func() int64 { return of(d.Limits()) })
	}
	limit("logical_block_size", func(l block.Limits) int64 { return int64(l.BlockSize) })
	limit("hw_sector_size", func(l block.Limits) int64 { return int64(l.BlockSize) })
	limit("physical_block_size", func(l block.Limits) int64 { return int64(l.PhysicalSize) })
	limit("minimum_io_size", func(l block.Limits) int64 { return int64(l.PhysicalSize) })
	limit("optimal_io_size", func(l block.Limits) int64 { return int64(l.OptimalSize) })
	limit("discard_max_bytes", func(l block.Limits) int64 { return l.MaxDiscard })
	limit("discard_max_hw_bytes", func(l block.Limits) int64 { return l.MaxDiscard })
	limit("discard_granularity", func(l block.Limits) int64 { return l.DiscardAlign })
	limit("write_zeroes_max_bytes", func(l block.Limits) int64 { return l.MaxZeroes })
	limit("max_segments", func(l block.Limits) int64 { return int64(l.MaxSegments) })
	limit("max_sectors_kb", func(l block.Limits) int64 { return l.MaxBytes / 1024 })
	flag("queue/rotational", func(l block.Limits) bool { return l.Rotational })
	fixed("queue/read_ahead_kb", 1024)
	fixed("queue/discard_zeroes_data", 0)
	fixed("queue/add_random", 0)
	fixed("queue/zoned_capacity", 0)
	text("queue/zoned", func() string { return "none" })
	text("queue/scheduler", func() string { return "[none]" })
	text("queue/write_cache", func() string {
		if d.Limits().Cached {
			return "write back"
		}
		return "write through"
	})
	fixed("removable", 0)
	fixed("hidden", 0)
	fixed("range", 16)
	fixed("ext_range", 256)
	if d.Serial != "" {
		text("serial", func() string { return d.Serial })
	}
}

// Unshow takes a disk out of /sys.
func (b *Files) Unshow(d *block.Disk) {
	sys := b.sys
	if d.Whole == nil {
		sys.Remove("block/" + d.Name)
	}
	sys.Remove("class/block/" + d.Name)
	sys.Remove("dev/block/" + number(d))
	sys.Remove(place(d))
}
