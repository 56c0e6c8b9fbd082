package syscall

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/abi"
	"gosv/kernel/cred"
	"gosv/kernel/share"
	"gosv/kernel/task"
)

// Versions of capget(2) and capset(2) (include/uapi/linux/capability.h).
const (
	capVersion1 = 0x19980330
	capVersion2 = 0x20071026
	capVersion3 = 0x20080522
)

func credRows(r *table) {
	get := func(f func(*cred.Cred) uint32) func(*task.Task) (uint64, error) {
		return func(t *task.Task) (uint64, error) { return uint64(f(t.Cred())), nil }
	}
	r.set(unix.SYS_GETUID, call0("getuid", get(func(c *cred.Cred) uint32 { return c.User.ShowUID(c.UID) })))
	r.set(unix.SYS_GETGID, call0("getgid", get(func(c *cred.Cred) uint32 { return c.User.ShowGID(c.GID) })))
	r.set(unix.SYS_GETEUID, call0("geteuid", get(func(c *cred.Cred) uint32 { return c.User.ShowUID(c.EUID) })))
	r.set(unix.SYS_GETEGID, call0("getegid", get(func(c *cred.Cred) uint32 { return c.User.ShowGID(c.EGID) })))
	r.set(unix.SYS_SETUID, call1("setuid", aUID, func(t *task.Task, id uint32) (uint64, error) { return setCred(t)(t.Cred().SetUID(id)) }))
	r.set(unix.SYS_SETGID, call1("setgid", aGID, func(t *task.Task, id uint32) (uint64, error) { return setCred(t)(t.Cred().SetGID(id)) }))
	r.set(unix.SYS_SETREUID, call2("setreuid", aUID, aUID, func(t *task.Task, r, e uint32) (uint64, error) { return setCred(t)(t.Cred().SetREUID(r, e)) }))
	r.set(unix.SYS_SETREGID, call2("setregid", aGID, aGID, func(t *task.Task, r, e uint32) (uint64, error) { return setCred(t)(t.Cred().SetREGID(r, e)) }))
	r.set(unix.SYS_SETRESUID, call3("setresuid", aUID, aUID, aUID, func(t *task.Task, r, e, s uint32) (uint64, error) {
		return setCred(t)(t.Cred().SetRESUID(r, e, s))
	}))
	r.set(unix.SYS_SETRESGID, call3("setresgid", aGID, aGID, aGID, func(t *task.Task, r, e, s uint32) (uint64, error) {
		return setCred(t)(t.Cred().SetRESGID(r, e, s))
	}))
	r.set(unix.SYS_GETRESUID, call3("getresuid", out(lUint32), out(lUint32), out(lUint32), func(t *task.Task, r, e, s dest[uint32]) (uint64, error) {
		c := t.Cred()
		return putThree(t, r, e, s, c.User.ShowUID(c.UID), c.User.ShowUID(c.EUID), c.User.ShowUID(c.SUID))
	}))
	r.set(unix.SYS_GETRESGID, call3("getresgid", out(lUint32), out(lUint32), out(lUint32), func(t *task.Task, r, e, s dest[uint32]) (uint64, error) {
		c := t.Cred()
		return putThree(t, r, e, s, c.User.ShowGID(c.GID), c.User.ShowGID(c.EGID), c.User.ShowGID(c.SGID))
	}))
	r.set(unix.SYS_SETFSUID, call1("setfsuid", aUint.as(aUID.formatter), func(t *task.Task, id uint32) (uint64, error) {
		old := t.Cred()
		t.SetCred(old.SetFSUID(old.User.RealUID(id)))
		return uint64(old.User.ShowUID(old.FSUID)), nil
	}))
	r.set(unix.SYS_SETFSGID, call1("setfsgid", aUint.as(aGID.formatter), func(t *task.Task, id uint32) (uint64, error) {
		old := t.Cred()
		t.SetCred(old.SetFSGID(old.User.RealGID(id)))
		return uint64(old.User.ShowGID(old.FSGID)), nil
	}))
	r.set(unix.SYS_GETGROUPS, call2("getgroups", aInt, aAddr, sysGetgroups))
	r.set(unix.SYS_SETGROUPS, call2("setgroups", aInt, aAddr, sysSetgroups))
	r.set(unix.SYS_CAPGET, call2("capget", aAddr, aAddr, sysCapget))
	r.set(unix.SYS_CAPSET, call2("capset", aAddr, aAddr, sysCapset))
}

// setCred makes what a method of cred.Cred returned the credentials of t.
func setCred(t *task.Task) func(*cred.Cred, error) (uint64, error) {
	return func(c *cred.Cred, err error) (uint64, error) {
		if err == nil {
			t.SetCred(c)
		}
		return 0, err
	}
}

func putThree(t *task.Task, a, b, c dest[uint32], va, vb, vc uint32) (uint64, error) {
	if err := a.put(t, va); err != nil {
		return 0, err
	}
	if err := b.put(t, vb); err != nil {
		return 0, err
	}
	return done(c.put(t, vc))
}

func sysGetgroups(t *task.Task, n int32, addr uint64) (uint64, error) {
	groups := t.Cred().Groups
	switch {
	case n < 0:
		return 0, unix.EINVAL
	case n == 0:
		return uint64(len(groups)), nil
	case int(n) < len(groups):
		return 0, unix.EINVAL
	}
	b := make([]byte, 4*len(groups))
	for i, g := range groups {
		le.PutUint32(b[4*i:], t.Cred().User.ShowGID(g))
	}
	return uint64(len(groups)), copyOut(t, addr, b)
}

// fewGroups do not count in share.Groups.
const fewGroups = 32

func sysSetgroups(t *task.Task, n int32, addr uint64) (uint64, error) {
	if c := t.Cred(); !c.CapableOwn(unix.CAP_SETGID) || !c.User.MaySetgroups() {
		return 0, unix.EPERM
	}
	if n < 0 || n > cred.MaxGroups {
		return 0, unix.EINVAL
	}
	b := make([]byte, 4*n)
	if err := copyIn(t, b, addr); err != nil {
		return 0, err
	}
	groups := make([]uint32, n)
	if cost := int64(4 * n); n > fewGroups {
		if !share.Groups.TakeCollected(cost) {
			return 0, unix.ENOMEM
		}
		share.Collected(share.Groups, &groups[0], cost)
	}
	for i := range groups {
		g, err := realID(le.Uint32(b[4*i:]), t.Cred().User.RealGID)
		if err != nil {
			return 0, err
		}
		groups[i] = g
	}
	return setCred(t)(t.Cred().SetGroups(groups))
}

// capHeader reads the header of capget and capset and returns how many data structures follow: EINVAL,
// after telling the program the preferred version, for an unknown one.
func capHeader(t *task.Task, addr uint64) (h unix.CapUserHeader, words int, err error) {
	h, err = lCapHeader.load(t, addr)
	if err != nil {
		return h, 0, err
	}
	switch h.Version {
	case capVersion1:
		return h, 1, nil
	case capVersion2, capVersion3:
		return h, 2, nil
	}
	if err := lUint32.store(t, addr, capVersion3); err != nil {
		return h, 0, err
	}
	return h, 0, unix.EINVAL
}

func sysCapget(t *task.Task, header, data uint64) (uint64, error) {
	h, words, err := capHeader(t, header)
	if err == unix.EINVAL && data == 0 {
		return 0, nil // only the version was asked for
	}
	if err != nil {
		return 0, err
	}
	c := t.Cred()
	switch {
	case h.Pid < 0:
		return 0, unix.EINVAL
	case h.Pid != 0 && h.Pid != t.OwnTID():
		other := t.Kernel().Task(t.Process().PIDs().Global(h.Pid))
		if other == nil {
			return 0, unix.ESRCH
		}
		c = other.Cred()
	}
	if data == 0 {
		return 0, nil
	}
	b := t.Scratch[:words*abi.SizeofCapUserData]
	for i := range words {
		shift := 32 * uint(i)
		abi.PutCapUserData(b[i*abi.SizeofCapUserData:], unix.CapUserData{
			Effective: uint32(c.Effective >> shift), Permitted: uint32(c.Permitted >> shift), Inheritable: uint32(c.Inheritable >> shift),
		})
	}
	return done(copyOut(t, data, b))
}

func sysCapset(t *task.Task, header, data uint64) (uint64, error) {
	h, words, err := capHeader(t, header)
	if err != nil {
		return 0, err
	}
	if h.Pid != 0 && h.Pid != t.OwnTID() {
		return 0, unix.EPERM
	}
	b := t.Scratch[:words*abi.SizeofCapUserData]
	if err := copyIn(t, b, data); err != nil {
		return 0, err
	}
	var e, p, i cred.Cap
	for n := range words {
		d, shift := abi.GetCapUserData(b[n*abi.SizeofCapUserData:]), 32*uint(n)
		e |= cred.Cap(d.Effective) << shift
		p |= cred.Cap(d.Permitted) << shift
		i |= cred.Cap(d.Inheritable) << shift
	}
	return setCred(t)(t.Cred().SetCaps(e, p, i))
}
