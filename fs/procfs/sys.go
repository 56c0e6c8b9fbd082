package procfs

import (
	"strconv"

	"golang.org/x/sys/unix"

	"gosv/kernel/mem"
	"gosv/machine"
)

const emptyDir = unix.S_IFDIR | 0o555

// sysRows is all of /sys but what there is once for each processor
// (Documentation/ABI/ in Linux's source).
var sysRows = []row{
	{path: "block", mode: emptyDir},
	{path: "bus", mode: emptyDir},
	{path: "class", mode: emptyDir},
	{path: "dev/block", mode: emptyDir},
	{path: "dev/char", mode: emptyDir},
	{path: "devices/system/cpu/kernel_max", mode: ro, show: func(v *view, b *out) error { b.num(int64(v.CPUs - 1)).nl(); return nil }},
	{path: "devices/system/cpu/offline", mode: ro, show: text("\n")},
	{path: "devices/system/cpu/online", mode: ro, show: showCPURange},
	{path: "devices/system/cpu/possible", mode: ro, show: showCPURange},
	{path: "devices/system/cpu/present", mode: ro, show: showCPURange},
	{path: "devices/system/node/has_cpu", mode: ro, show: text("0\n")},
	{path: "devices/system/node/has_memory", mode: ro, show: text("0\n")},
	{path: "devices/system/node/online", mode: ro, show: text("0\n")},
	{path: "devices/system/node/possible", mode: ro, show: text("0\n")},
	{path: "devices/system/node/node0/cpulist", mode: ro, show: showCPURange},
	{path: "devices/system/node/node0/cpumap", mode: ro, show: showCPUMap},
	{path: "devices/system/node/node0/distance", mode: ro, show: text("10\n")},
	{path: "devices/system/node/node0/meminfo", mode: ro, show: showNodeMemory},
	{path: "fs/cgroup", mode: emptyDir},
	{path: "kernel/mm/hugepages/hugepages-2048kB/free_hugepages", mode: ro, show: showHuge(func(s mem.HugeStats) uint64 { return s.Free })},
	{path: "kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", mode: rw, show: showHugeTotal, store: storeHugeTotal},
	{path: "kernel/mm/hugepages/hugepages-2048kB/nr_overcommit_hugepages", mode: rw, show: showHugeOvercommit, store: storeHugeOvercommit},
	{path: "kernel/mm/hugepages/hugepages-2048kB/resv_hugepages", mode: ro, show: showHuge(func(s mem.HugeStats) uint64 { return s.Reserved })},
	{path: "kernel/mm/hugepages/hugepages-2048kB/surplus_hugepages", mode: ro, show: showHuge(func(s mem.HugeStats) uint64 { return s.Surplus })},
	{path: "kernel/mm/transparent_hugepage/enabled", mode: ro, show: text("[always] madvise never\n")},
	{path: "kernel/mm/transparent_hugepage/hpage_pmd_size", mode: ro, show: number10(machine.HugeSize)},
}

// cpuRows is /sys/devices/system/cpu/cpuN: each processor is a core of one package.
func (f *FS) cpuRows() (list []row) {
	for n := range f.CPUs {
		dir := "devices/system/cpu/cpu" + strconv.Itoa(n) + "/"
		own := func(v *view, b *out) error { b.cpuMask(n, n+1, v.CPUs).nl(); return nil }
		ownList := number10(int64(n))
		list = append(list,
			row{path: dir + "online", mode: ro, show: text("1\n")},
			row{path: dir + "topology/core_cpus", mode: ro, show: own},
			row{path: dir + "topology/core_cpus_list", mode: ro, show: ownList},
			row{path: dir + "topology/core_id", mode: ro, show: ownList},
			row{path: dir + "topology/core_siblings", mode: ro, show: showCPUMap},
			row{path: dir + "topology/core_siblings_list", mode: ro, show: showCPURange},
			row{path: dir + "topology/package_cpus", mode: ro, show: showCPUMap},
			row{path: dir + "topology/package_cpus_list", mode: ro, show: showCPURange},
			row{path: dir + "topology/physical_package_id", mode: ro, show: text("0\n")},
			row{path: dir + "topology/thread_siblings", mode: ro, show: own},
			row{path: dir + "topology/thread_siblings_list", mode: ro, show: ownList},
		)
	}
	return list
}

// showCPURange lists all processors, as cpuset(7) has lists.
func showCPURange(v *view, b *out) error {
	b.str("0")
	if v.CPUs > 1 {
		b.str("-").num(int64(v.CPUs - 1))
	}
	b.nl()
	return nil
}

func showCPUMap(v *view, b *out) error {
	b.cpuMask(0, v.CPUs, v.CPUs).nl()
	return nil
}

// cpuMask appends the set of processors from first up to end of count, in cpuset(7)'s
// format of masks: words of 32 bits, the highest first.
func (o *out) cpuMask(first, end, count int) *out {
	for w := (count - 1) / 32; w >= 0; w-- {
		var mask uint64
		for bit := range 32 {
			if n := w*32 + bit; n >= first && n < end {
				mask |= 1 << bit
			}
		}
		o.hex(mask, (min(count-w*32, 32)+3)/4)
		if w > 0 {
			o.str(",")
		}
	}
	return o
}

func showNodeMemory(v *view, b *out) error {
	total, free := v.Pool.Usage()
	for _, f := range []struct {
		name  string
		pages uint64
	}{{"MemTotal", total}, {"MemFree", free}, {"MemUsed", total - free}} {
		b.str("Node 0 ").kb(f.name, f.pages, 16)
	}
	return nil
}
