package floor

import "testing"

// A model of two CPUs that load and leave spaces by PCID (setSpaceSI), while a third takes a translation away from a space (retag,
// flushSpace). All orders of their steps are tried: once the third is done, nobody may use the translation. The processors that the tests run on
// have no PCIDs, or keep no translations by them.

// tagCPU is a CPU of the model. Its program loads space 1, uses it, loads space 2, which has the same PCID, and loads space 1 again.
type tagCPU struct {
	step        int8
	space, root int8    // P_SPACE, and the space that CR3 is of; 0: the kernel's
	next        int8    // being loaded
	flush       bool    // the load forgets
	slot        int8    // tag at the PCID both spaces share
	known       [3]int8 // version of the translation of each space that lies under the shared PCID; -1: none
	asked, done int8
}

type tagState struct {
	cpus    [2]tagCPU
	mask    [3]uint8 // of each space: CPUs that may have it loaded
	tag     [3]int8
	version int8 // of space 1's translation, 0 or 1
	flusher int8
	seen    uint8
}

func (c *tagCPU) forget() {
	c.slot, c.known = 0, [3]int8{-1, -1, -1}
}

// load is one step of setSpaceSI; it reports whether the last was done.
func (s *tagState) load(i int, space int8, part int8) {
	c := &s.cpus[i]
	switch part {
	case 0: // LOCK OR of the mask
		s.mask[space] |= 1 << i
		c.next = space
	case 1: // the tag is looked at and noted
		c.flush = c.slot != s.tag[space]
		c.slot = s.tag[space]
	case 2: // CR3
		if c.flush {
			c.known = [3]int8{-1, -1, -1}
		}
		c.root = space
	case 3: // LOCK AND of the old space's mask
		if old := c.space; old != 0 {
			s.mask[old] &^= 1 << i
		}
		c.space = space
	}
}

// use walks the tables when nothing is known of space 1, and reports whether what is used is of this version.
func (s *tagState) use(i int) int8 {
	c := &s.cpus[i]
	if c.known[1] < 0 {
		c.known[1] = s.version
	}
	return c.known[1]
}

// next returns the states after each possible step; bad says that a CPU used what was taken away.
func (s tagState) next(visit func(tagState), bad func(tagState)) {
	for i := range s.cpus {
		c := s.cpus[i]
		inLoad := c.step%5 < 4 && c.step%5 > 0 // interrupts are off
		if c.asked != c.done && !inLoad {
			n := s
			n.cpus[i].forget()
			n.cpus[i].done = c.asked
			visit(n)
		}
		if c.root == 1 && c.known[1] < 0 { // processors walk the tables ahead of use
			n := s
			n.use(i)
			visit(n)
		}
		if c.step >= 15 {
			continue
		}
		n := s
		space := [3]int8{1, 2, 1}[c.step/5]
		if part := c.step % 5; part < 4 {
			n.load(i, space, part)
		} else if n.cpus[i].root == 1 && n.use(i) == 0 && s.flusher == 5 {
			bad(n)
		}
		n.cpus[i].step++
		visit(n)
	}
	n := s
	switch s.flusher {
	case 0: // the entry in the table
		n.version = 1
	case 1: // retag
		n.tag[1] = 3
	case 2: // who has it loaded
		n.seen = s.mask[1]
	case 3: // they are asked
		for i := range n.cpus {
			if n.seen>>i&1 != 0 {
				n.cpus[i].asked++
			}
		}
	case 4: // and have answered
		for i := range n.cpus {
			if s.cpus[i].asked != s.cpus[i].done {
				return
			}
		}
	default:
		return
	}
	n.flusher++
	visit(n)
}

func tagsExplore(first tagState, skipRetag bool) (states, faults int) {
	seen := map[tagState]bool{first: true}
	work := []tagState{first}
	for len(work) > 0 {
		s := work[len(work)-1]
		work = work[:len(work)-1]
		s.next(func(n tagState) {
			if skipRetag && s.flusher == 1 && n.flusher == 2 {
				n.tag = s.tag
			}
			if !seen[n] {
				seen[n] = true
				work = append(work, n)
			}
		}, func(tagState) { faults++ })
	}
	return len(seen), faults
}

func TestTags(t *testing.T) {
	first := tagState{tag: [3]int8{0, 1, 2}}
	for i := range first.cpus {
		first.cpus[i].forget()
	}
	if states, faults := tagsExplore(first, false); faults != 0 || states < 5000 {
		t.Errorf("%d of %d states use what was taken away", faults, states)
	}
	// Without the new tag a CPU that had the space before uses what was taken away: the model can fail.
	alone := first
	alone.cpus[1].step = 15
	alone.cpus[0].slot, alone.cpus[0].known = 1, [3]int8{-1, 0, -1} // it had space 1 a while ago
	if _, faults := tagsExplore(alone, true); faults == 0 {
		t.Error("the model finds no fault without the new tag")
	}
	if _, faults := tagsExplore(alone, false); faults != 0 {
		t.Error("a space that was loaded before shows what was taken away")
	}
}
