package cred

import (
	"slices"
	"sort"

	"golang.org/x/sys/unix"

	"gosv/kernel/namespace"
)

// fixup adapts the capabilities of n, made from c, to a change of user IDs
// (capabilities(7), "Effect of user ID changes on capabilities").
func (n *Cred) fixup(c *Cred) *Cred {
	if c.Securebits&SecureNoSetuidFixup != 0 {
		return n
	}
	root := c.root()
	wasRoot := c.UID == root || c.EUID == root || c.SUID == root
	isRoot := n.UID == root || n.EUID == root || n.SUID == root
	if wasRoot && !isRoot {
		if c.Securebits&SecureKeepCaps == 0 {
			n.Permitted, n.Effective = 0, 0
		}
		n.Ambient = 0
	}
	if c.EUID == root && n.EUID != root {
		n.Effective = 0
	}
	if c.EUID != root && n.EUID == root {
		n.Effective = n.Permitted
	}
	return n.fixupFS(c.FSUID)
}

// fixupFS follows a change of the file system user ID from old.
func (n *Cred) fixupFS(old uint32) *Cred {
	root := n.root()
	switch {
	case n.Securebits&SecureNoSetuidFixup != 0:
	case old == root && n.FSUID != root:
		n.Effective &^= fsCaps
	case old != root && n.FSUID == root:
		n.Effective |= fsCaps & n.Permitted
	}
	return n
}

// SetUID is setuid(2): EPERM, EINVAL.
func (c *Cred) SetUID(uid uint32) (*Cred, error) {
	if uid == Keep {
		return nil, unix.EINVAL
	}
	n := *c
	switch {
	case c.own(unix.CAP_SETUID):
		n.UID, n.SUID = uid, uid
	case uid != c.UID && uid != c.SUID:
		return nil, unix.EPERM
	}
	n.EUID, n.FSUID = uid, uid
	return n.fixup(c), nil
}

// SetGID is setgid(2): EPERM, EINVAL.
func (c *Cred) SetGID(gid uint32) (*Cred, error) {
	if gid == Keep {
		return nil, unix.EINVAL
	}
	n := *c
	switch {
	case c.own(unix.CAP_SETGID):
		n.GID, n.SGID = gid, gid
	case gid != c.GID && gid != c.SGID:
		return nil, unix.EPERM
	}
	n.EGID, n.FSGID = gid, gid
	return &n, nil
}

func oneOf(id uint32, ids ...uint32) bool { return id == Keep || slices.Contains(ids, id) }

func set(dst *uint32, id uint32) {
	if id != Keep {
		*dst = id
	}
}

// SetREUID is setreuid(2): EPERM.
func (c *Cred) SetREUID(r, e uint32) (*Cred, error) {
	if !c.own(unix.CAP_SETUID) && (!oneOf(r, c.UID, c.EUID) || !oneOf(e, c.UID, c.EUID, c.SUID)) {
		return nil, unix.EPERM
	}
	n := *c
	set(&n.UID, r)
	set(&n.EUID, e)
	if r != Keep || e != Keep && e != c.UID {
		n.SUID = n.EUID
	}
	n.FSUID = n.EUID
	return n.fixup(c), nil
}

// SetREGID is setregid(2): EPERM.
func (c *Cred) SetREGID(r, e uint32) (*Cred, error) {
	if !c.own(unix.CAP_SETGID) && (!oneOf(r, c.GID, c.EGID) || !oneOf(e, c.GID, c.EGID, c.SGID)) {
		return nil, unix.EPERM
	}
	n := *c
	set(&n.GID, r)
	set(&n.EGID, e)
	if r != Keep || e != Keep && e != c.GID {
		n.SGID = n.EGID
	}
	n.FSGID = n.EGID
	return &n, nil
}

// SetRESUID is setresuid(2): EPERM.
func (c *Cred) SetRESUID(r, e, s uint32) (*Cred, error) {
	if !c.own(unix.CAP_SETUID) {
		for _, id := range [...]uint32{r, e, s} {
			if !oneOf(id, c.UID, c.EUID, c.SUID) {
				return nil, unix.EPERM
			}
		}
	}
	n := *c
	set(&n.UID, r)
	set(&n.EUID, e)
	set(&n.SUID, s)
	n.FSUID = n.EUID
	return n.fixup(c), nil
}

// SetRESGID is setresgid(2): EPERM.
func (c *Cred) SetRESGID(r, e, s uint32) (*Cred, error) {
	if !c.own(unix.CAP_SETGID) {
		for _, id := range [...]uint32{r, e, s} {
			if !oneOf(id, c.GID, c.EGID, c.SGID) {
				return nil, unix.EPERM
			}
		}
	}
	n := *c
	set(&n.GID, r)
	set(&n.EGID, e)
	set(&n.SGID, s)
	n.FSGID = n.EGID
	return &n, nil
}

// SetFSUID is setfsuid(2), which never fails: it returns c when it may not change.
func (c *Cred) SetFSUID(id uint32) *Cred {
	if id == Keep || !c.own(unix.CAP_SETUID) && !oneOf(id, c.UID, c.EUID, c.SUID, c.FSUID) {
		return c
	}
	n := *c
	n.FSUID = id
	return n.fixupFS(c.FSUID)
}

// SetFSGID is setfsgid(2), which never fails: it returns c when it may not change.
func (c *Cred) SetFSGID(id uint32) *Cred {
	if id == Keep || !c.own(unix.CAP_SETGID) && !oneOf(id, c.GID, c.EGID, c.SGID, c.FSGID) {
		return c
	}
	n := *c
	n.FSGID = id
	return &n
}

// byID sorts groups. The code of sort.Sort is part of the kernel anyway, that of slices.Sort would be once
// more for each type.
type byID []uint32

func (g byID) Len() int           { return len(g) }
func (g byID) Less(i, j int) bool { return g[i] < g[j] }
func (g byID) Swap(i, j int)      { g[i], g[j] = g[j], g[i] }

// SetGroups is setgroups(2): EPERM, EINVAL. It keeps the slice, and sorts it.
func (c *Cred) SetGroups(groups []uint32) (*Cred, error) {
	if !c.own(unix.CAP_SETGID) || !c.User.MaySetgroups() {
		return nil, unix.EPERM
	}
	if len(groups) > MaxGroups || slices.Contains(groups, Keep) {
		return nil, unix.EINVAL
	}
	sort.Sort(byID(groups))
	n := *c
	n.Groups = groups
	return &n, nil
}

// SetCaps is capset(2) on the task itself: EPERM.
func (c *Cred) SetCaps(effective, permitted, inheritable Cap) (*Cred, error) {
	effective, permitted, inheritable = effective&AllCaps, permitted&AllCaps, inheritable&AllCaps
	if permitted&^c.Permitted != 0 || effective&^permitted != 0 || inheritable&^(c.Inheritable|c.Bounding) != 0 ||
		!c.own(unix.CAP_SETPCAP) && inheritable&^(c.Inheritable|c.Permitted) != 0 {
		return nil, unix.EPERM
	}
	n := *c
	n.Effective, n.Permitted, n.Inheritable = effective, permitted, inheritable
	n.Ambient &= permitted & inheritable
	return &n, nil
}

// DropBounding is prctl(PR_CAPBSET_DROP): EINVAL, EPERM.
func (c *Cred) DropBounding(capability int) (*Cred, error) {
	if capability < 0 || capability > unix.CAP_LAST_CAP {
		return nil, unix.EINVAL
	}
	if !c.own(unix.CAP_SETPCAP) {
		return nil, unix.EPERM
	}
	n := *c
	n.Bounding &^= 1 << uint(capability)
	return &n, nil
}

// RaiseAmbient and LowerAmbient are prctl(PR_CAP_AMBIENT): EINVAL, EPERM.
func (c *Cred) RaiseAmbient(capability int) (*Cred, error) {
	if capability < 0 || capability > unix.CAP_LAST_CAP {
		return nil, unix.EINVAL
	}
	if !c.Permitted.Has(capability) || !c.Inheritable.Has(capability) || c.Securebits&SecureNoAmbient != 0 {
		return nil, unix.EPERM
	}
	n := *c
	n.Ambient |= 1 << uint(capability)
	return &n, nil
}

// LowerAmbient takes one capability out of the ambient set; EINVAL.
func (c *Cred) LowerAmbient(capability int) (*Cred, error) {
	if capability < 0 || capability > unix.CAP_LAST_CAP {
		return nil, unix.EINVAL
	}
	n := *c
	n.Ambient &^= 1 << uint(capability)
	return &n, nil
}

// ClearAmbient empties the ambient set (PR_CAP_AMBIENT_CLEAR_ALL).
func (c *Cred) ClearAmbient() *Cred {
	n := *c
	n.Ambient = 0
	return &n
}

// SetSecurebits is prctl(PR_SET_SECUREBITS): EPERM. A lock, the odd bit above
// a flag, freezes the flag and itself.
func (c *Cred) SetSecurebits(bits uint32) (*Cred, error) {
	locked := c.Securebits & secureLocks
	if bits&^secureAll != 0 || (bits^c.Securebits)&(locked|locked>>1) != 0 || !c.own(unix.CAP_SETPCAP) {
		return nil, unix.EPERM
	}
	n := *c
	n.Securebits = bits
	return &n, nil
}

// SetKeepCaps is prctl(PR_SET_KEEPCAPS): EPERM when the flag is locked.
func (c *Cred) SetKeepCaps(on bool) (*Cred, error) {
	if c.Securebits&(SecureKeepCaps<<1) != 0 {
		return nil, unix.EPERM
	}
	n := *c
	n.Securebits &^= SecureKeepCaps
	if on {
		n.Securebits |= SecureKeepCaps
	}
	return &n, nil
}

// SetNoNewPrivs is prctl(PR_SET_NO_NEW_PRIVS).
func (c *Cred) SetNoNewPrivs() *Cred {
	n := *c
	n.NoNewPrivs = true
	return &n
}

// Exec returns the credentials after an execve(2) of a file with the given
// mode and owner (capabilities(7), "Transformation of capabilities during
// execve"), and whether the program is to run in secure mode (AT_SECURE).
// nosuid is true when the file's mount or tracing forbids gaining privileges.
// File capabilities do not exist here.
func (c *Cred) Exec(mode, uid, gid uint32, nosuid bool) (n *Cred, secure bool) {
	// Who has no number in the user namespace cannot be become there.
	nosuid = nosuid || c.NoNewPrivs || c.User.UID(uid) == namespace.None || c.User.GID(gid) == namespace.None
	root := c.root()
	x := *c
	if !nosuid {
		if mode&unix.S_ISUID != 0 {
			x.EUID = uid
		}
		if mode&(unix.S_ISGID|unix.S_IXGRP) == unix.S_ISGID|unix.S_IXGRP {
			x.EGID = gid
		}
	}
	x.SUID, x.FSUID, x.SGID, x.FSGID = x.EUID, x.EUID, x.EGID, x.EGID
	gained := x.EUID != c.EUID || x.EGID != c.EGID
	if gained {
		x.Ambient = 0
	}
	x.Permitted, x.Effective = x.Ambient, x.Ambient
	if c.Securebits&SecureNoRoot == 0 && (x.UID == root || x.EUID == root) {
		x.Permitted = x.Inheritable | x.Bounding
		if x.EUID == root {
			x.Effective = x.Permitted
		}
	}
	x.Securebits &^= SecureKeepCaps
	secure = gained || x.EUID != x.UID || x.EGID != x.GID
	if x.same(c) {
		return c, secure
	}
	return &x, secure
}

// same compares all that Exec changes.
func (c *Cred) same(o *Cred) bool {
	return c.EUID == o.EUID && c.SUID == o.SUID && c.FSUID == o.FSUID &&
		c.EGID == o.EGID && c.SGID == o.SGID && c.FSGID == o.FSGID &&
		c.Permitted == o.Permitted && c.Effective == o.Effective && c.Ambient == o.Ambient && c.Securebits == o.Securebits
}
