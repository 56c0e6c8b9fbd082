package syscall

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/task"
	"gosv/machine"
)

// Memory policies (mempolicy(7), numa(7)) on a machine with one node: every policy puts pages there. They are checked as Linux does,
// and a thread's is kept for it to read.

func numaRows(r *table) {
	r.set(unix.SYS_GET_MEMPOLICY, call5("get_mempolicy", aAddr, aAddr, aUlong, aAddr, aUlong, getMempolicy))
	r.set(unix.SYS_SET_MEMPOLICY, call3("set_mempolicy", aInt, aAddr, aUlong, setMempolicy))
	r.set(unix.SYS_MBIND, call6("mbind", aAddr, aUlong, aInt, aAddr, aUlong, aUint, mbind))
	r.set(unix.SYS_MIGRATE_PAGES, call4("migrate_pages", aPID, aUlong, aAddr, aAddr, migratePages))
	r.set(unix.SYS_MOVE_PAGES, call6("move_pages", aPID, aUlong, aAddr, aAddr, aAddr, aInt, movePages))
}

// Modes and flags of set_mempolicy(2), get_mempolicy(2), mbind(2) and move_pages(2).
const (
	mpolDefault       = 0
	mpolPreferred     = 1
	mpolBind          = 2
	mpolInterleave    = 3
	mpolLocal         = 4
	mpolPreferredMany = 5
	mpolFlags         = 0xe000 // static nodes, relative nodes, NUMA balancing
	mpolFNode         = 1
	mpolFAddr         = 2
	mpolFAllowed      = 4
	mpolMoves         = 7 // MPOL_MF_STRICT, MOVE, MOVE_ALL
	mpolMoveAll       = 4
	maxNodes          = 4096 * 8 // bits of a mask
)

// nodes reads a mask of nodes of max bits: EINVAL for too many, and for nodes that there are not.
func nodes(t *task.Task, addr, max uint64) (uint64, error) {
	if addr == 0 || max <= 1 {
		return 0, nil
	}
	max-- // as Linux
	if max > maxNodes {
		return 0, unix.EINVAL
	}
	b := make([]byte, (max+63)/64*8)
	if err := copyIn(t, b, addr); err != nil {
		return 0, err
	}
	first := le.Uint64(b)
	if max < 64 {
		first &= 1<<max - 1
	}
	rest := first &^ 1
	for i := 8; i < len(b); i += 8 {
		rest |= le.Uint64(b[i:])
	}
	if rest != 0 {
		return 0, unix.EINVAL
	}
	return first, nil
}

// policy checks a mode with its mask: EINVAL.
func policy(t *task.Task, mode int32, addr, max uint64) (uint64, error) {
	mask, err := nodes(t, addr, max)
	if err != nil {
		return 0, err
	}
	switch mode &^ mpolFlags {
	case mpolDefault:
		if mask != 0 || mode != mpolDefault {
			return 0, unix.EINVAL
		}
	case mpolPreferred, mpolLocal:
		if mode&^mpolFlags == mpolLocal && mask != 0 {
			return 0, unix.EINVAL
		}
	case mpolBind, mpolInterleave, mpolPreferredMany:
		if mask == 0 {
			return 0, unix.EINVAL
		}
	default:
		return 0, unix.EINVAL
	}
	return mask, nil
}

func setMempolicy(t *task.Task, mode int32, addr, max uint64) (uint64, error) {
	mask, err := policy(t, mode, addr, max)
	if err != nil {
		return 0, err
	}
	t.SetMempolicy(mode, mask)
	return 0, nil
}

func getMempolicy(t *task.Task, mode, mask, max, addr, flags uint64) (uint64, error) {
	if flags&^(mpolFNode|mpolFAddr|mpolFAllowed) != 0 || mask != 0 && max < 1 ||
		flags&mpolFAllowed != 0 && flags&(mpolFNode|mpolFAddr) != 0 || flags&mpolFAddr == 0 && addr != 0 {
		return 0, unix.EINVAL
	}
	m, set := t.Mempolicy()
	switch {
	case flags&mpolFAllowed != 0:
		m, set = 0, 1
	case flags&mpolFAddr != 0:
		if !t.Mem().Mapped(addr) {
			return 0, unix.EFAULT
		}
		if m, set = mpolDefault, 0; flags&mpolFNode != 0 {
			m = 0 // the node
		}
	case flags&mpolFNode != 0:
		if m&^mpolFlags != mpolInterleave {
			return 0, unix.EINVAL
		}
		m = 0
	}
	if mode != 0 {
		if err := lInt32.store(t, mode, m); err != nil {
			return 0, err
		}
	}
	if mask == 0 {
		return 0, nil
	}
	b := make([]byte, (min(max, maxNodes)+63)/64*8)
	le.PutUint64(b, set)
	return done(copyOut(t, mask, b))
}

func mbind(t *task.Task, addr, length uint64, mode int32, mask, max uint64, flags uint32) (uint64, error) {
	if flags&^mpolMoves != 0 || addr%machine.PageSize != 0 {
		return 0, unix.EINVAL
	}
	if flags&mpolMoveAll != 0 && !t.Cred().Capable(unix.CAP_SYS_NICE) {
		return 0, unix.EPERM
	}
	if _, err := policy(t, mode, mask, max); err != nil {
		return 0, err
	}
	end := addr + (length+machine.PageSize-1)&^(machine.PageSize-1)
	if end < addr {
		return 0, unix.EINVAL
	}
	for at := addr; at < end; {
		next, ok := t.Mem().AreaEnd(at)
		if !ok {
			return 0, unix.EFAULT
		}
		at = next
	}
	return 0, nil
}

func migratePages(t *task.Task, pid int32, max, from, to uint64) (uint64, error) {
	if _, err := nodes(t, from, max); err != nil {
		return 0, err
	}
	if _, err := nodes(t, to, max); err != nil {
		return 0, err
	}
	_, err := memoryOwner(t, pid)
	return 0, err
}

// memoryOwner finds the process whose pages are to be moved: ESRCH, EPERM.
func memoryOwner(t *task.Task, pid int32) (*task.Process, error) {
	p := t.Process()
	if pid != 0 {
		if p = t.Kernel().Process(pid); p == nil {
			return nil, unix.ESRCH
		}
	}
	return p, t.MayAccess(p)
}

// movePages is move_pages(2): all pages are on node 0 already.
func movePages(t *task.Task, pid int32, count, pages, to, status uint64, flags int32) (uint64, error) {
	if flags&^6 != 0 {
		return 0, unix.EINVAL
	}
	if flags&mpolMoveAll != 0 && !t.Cred().Capable(unix.CAP_SYS_NICE) {
		return 0, unix.EPERM
	}
	p, err := memoryOwner(t, pid)
	if err != nil {
		return 0, err
	}
	m := p.Memory()
	if m == nil {
		return 0, unix.ESRCH
	}
	defer m.Release()
	for i := range count {
		if t.Interrupted() {
			return 0, unix.EINTR
		}
		addr, err := lUint64.load(t, pages+8*i)
		if err != nil {
			return 0, err
		}
		if to != 0 {
			node, err := lInt32.load(t, to+4*i)
			if err != nil {
				return 0, err
			}
			if node != 0 {
				return 0, unix.ENODEV
			}
		}
		st := -int32(unix.ENOENT)
		if !m.Mapped(addr) {
			st = -int32(unix.EFAULT)
		} else if _, _, ok := m.Space().Lookup(addr &^ (machine.PageSize - 1)); ok {
			st = 0
		}
		if status != 0 || to == 0 {
			if err := lInt32.store(t, status+4*i, st); err != nil {
				return 0, err
			}
		}
	}
	return 0, nil
}
