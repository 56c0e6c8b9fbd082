package procfs

import "gosv/machine"

// What the processors did (proc_stat(5), proc_uptime(5), proc_interrupts(5)).

func showStat(v *view, b *out) error {
	each := make([]times, v.CPUs)
	var all times
	for i := range each {
		t := &each[i]
		t.user, t.system, t.idle = v.Kernel.Spent(i)
		all.user, all.system, all.idle = all.user+t.user, all.system+t.system, all.idle+t.idle
	}
	all.show(b.str("cpu "))
	for i, t := range each {
		t.show(b.str("cpu").num(int64(i)))
	}
	lines := v.Kernel.Machine.Lines()
	sum := v.came(machine.VectorTimer) + v.came(machine.VectorCall)
	for _, l := range lines {
		sum += v.came(l.Vector)
	}
	b.str("intr ").num(sum)
	next := 0
	for _, l := range lines {
		for ; next < int(l.Vector); next++ {
			b.str(" 0")
		}
		b.str(" ").num(v.came(l.Vector))
		next++
	}
	_, forks, _ := v.Kernel.Counts()
	b.str("\nctxt ").num(v.Kernel.Total().Switches).str("\nbtime ").num((v.Clock.Timebase().WallOffset - v.ahead()) / 1e9).nl()
	b.str("processes ").unum(forks).str("\nprocs_running ").unum(v.Kernel.Active()).str("\nprocs_blocked 0\n")
	return nil
}

// times are a processor's, in ns.
type times struct{ user, system, idle int64 }

func (t times) show(b *out) {
	b.nums(ticks(t.user), 0, ticks(t.system), ticks(t.idle), 0, 0, 0, 0, 0, 0).nl()
}

// came is how many interrupts came to all processors by a vector.
func (f *FS) came(vector uint8) (sum int64) {
	for i := range f.CPUs {
		sum += int64(f.Kernel.Machine.Came(i, vector))
	}
	return sum
}

func showUptime(v *view, b *out) error {
	sum := int64(0)
	for i := range v.CPUs {
		_, _, idle := v.Kernel.Spent(i)
		sum += idle
	}
	b.hundredths(v.Clock.Now() + v.ahead()).str(" ").hundredths(sum).nl()
	return nil
}

// showInterrupts shows a line for each vector: that is the number of the interrupt here.
func showInterrupts(v *view, b *out) error {
	b.str("           ")
	for i := range v.CPUs {
		at := len(b.b)
		b.str("CPU").num(int64(i)).pad(at, 11)
	}
	b.nl()
	for _, l := range v.Kernel.Machine.Lines() {
		v.counts(b.right(uint64(l.Vector), 3), l.Vector)
		switch {
		case l.Input < 0:
			b.str("  PCI-MSI ").num(int64(l.Vector)).str("-edge     ")
		case l.Level:
			b.str("  IO-APIC ").num(int64(l.Input)).str("-fasteoi  ")
		default:
			b.str("  IO-APIC ").num(int64(l.Input)).str("-edge     ")
		}
		b.str("  ", l.Name).nl()
	}
	v.counts(b.str("LOC"), machine.VectorTimer)
	b.str("  Local timer interrupts\n")
	v.counts(b.str("CAL"), machine.VectorCall)
	b.str("  Function call interrupts\n")
	return nil
}

// counts shows how many interrupts came to each processor by a vector.
func (f *FS) counts(b *out, vector uint8) {
	b.str(":")
	for i := range f.CPUs {
		b.str(" ").right(uint64(f.Kernel.Machine.Came(i, vector)), 10)
	}
}
