// Package cred holds the credentials of a task: user and group IDs,
// supplementary groups and capabilities (credentials(7), capabilities(7)).
//
// A Cred is immutable once others can see it: a change makes a new one, and
// tasks share them freely. The methods that change return an error that is a
// unix.Errno, and then no new Cred.
package cred

import (
	"slices"

	"golang.org/x/sys/unix"

	"gosv/kernel/namespace"
)

// Keep is the ID that means "leave as it is" in the set calls, (uid_t)-1.
const Keep = ^uint32(0)

// MaxGroups is NGROUPS_MAX.
const MaxGroups = 65536

// Cap is a set of capabilities: bit n stands for the capability number n.
type Cap uint64

// AllCaps holds every capability that Linux 6.1 knows.
const AllCaps Cap = 1<<(unix.CAP_LAST_CAP+1) - 1

// Has reports whether the capability is in the set.
func (c Cap) Has(capability int) bool { return c>>uint(capability)&1 != 0 }

func capsOf(list ...int) (c Cap) {
	for _, n := range list {
		c |= 1 << uint(n)
	}
	return c
}

// fsCaps are the capabilities that follow the file system user ID.
var fsCaps = capsOf(unix.CAP_CHOWN, unix.CAP_MKNOD, unix.CAP_DAC_OVERRIDE, unix.CAP_DAC_READ_SEARCH,
	unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_LINUX_IMMUTABLE, unix.CAP_MAC_OVERRIDE)

// Securebits (include/uapi/linux/securebits.h).
const (
	SecureNoRoot        = 1 << 0
	SecureNoSetuidFixup = 1 << 2
	SecureKeepCaps      = 1 << 4
	SecureNoAmbient     = 1 << 6

	secureAll   = 0xff
	secureLocks = 0xaa
)

// Cred is the credentials of a task.
type Cred struct {
	UID, EUID, SUID, FSUID uint32
	GID, EGID, SGID, FSGID uint32
	// Groups are the supplementary groups, sorted.
	Groups []uint32

	Permitted, Effective, Inheritable, Bounding, Ambient Cap

	// User is the user namespace, nil for the initial one. All IDs are those of the initial one.
	User *namespace.User

	Securebits uint32
	NoNewPrivs bool
}

var root = Cred{Permitted: AllCaps, Effective: AllCaps, Bounding: AllCaps}

// Root returns the credentials of the first process: user 0 with every capability.
func Root() *Cred { return &root }

// Capable reports whether the capability is effective in the initial user namespace: over the machine.
//
//go:noinline
func (c *Cred) Capable(capability int) bool { return c.User == nil && c.Effective.Has(capability) }

// CapableIn reports whether the capability is effective over what belongs to the user namespace ns (user_namespaces(7), "Capabilities"): in ns
// itself, in one above it, or since the caller made it.
func (c *Cred) CapableIn(ns *namespace.User, capability int) bool {
	for {
		if ns == c.User {
			return c.Effective.Has(capability)
		}
		if ns.Level() <= c.User.Level() {
			return false
		}
		if maker, _ := ns.Creator(); ns.Parent() == c.User && maker == c.EUID {
			return true
		}
		ns = ns.Parent()
	}
}

// own is CapableIn for c's own user namespace.
func (c *Cred) own(capability int) bool { return c.Effective.Has(capability) }

// CapableOwn is CapableIn for c's own user namespace.
func (c *Cred) CapableOwn(capability int) bool { return c.own(capability) }

// CapableOver is CapableOwn over a file of that owner: one that has no number in the user namespace is out of reach.
func (c *Cred) CapableOver(uid, gid uint32, capability int) bool {
	return c.own(capability) && (c.User == nil || c.User.UID(uid) != namespace.None && c.User.GID(gid) != namespace.None)
}

// CapableOverUser is CapableOver, whatever the group.
func (c *Cred) CapableOverUser(uid uint32, capability int) bool {
	return c.own(capability) && (c.User == nil || c.User.UID(uid) != namespace.None)
}

// root is the ID of user 0 of the user namespace, None when it has none.
func (c *Cred) root() uint32 {
	if c.User == nil {
		return 0
	}
	return c.User.RealUID(0)
}

// InGroup reports whether gid is the file system group ID or a supplementary group.
func (c *Cred) InGroup(gid uint32) bool {
	if gid == c.FSGID {
		return true
	}
	_, ok := slices.BinarySearch(c.Groups, gid)
	return ok
}

// InEffectiveGroup is InGroup with the effective group ID.
func (c *Cred) InEffectiveGroup(gid uint32) bool {
	if gid == c.EGID {
		return true
	}
	_, ok := slices.BinarySearch(c.Groups, gid)
	return ok
}

// RealView returns c as access(2) sees it: the real IDs in place of the file
// system IDs, with the capabilities that go with them.
func (c *Cred) RealView() *Cred {
	root := c.root()
	if c.FSUID == c.UID && c.FSGID == c.GID && (c.UID != root || c.Effective == c.Permitted) && (c.UID == root || c.Effective == 0) {
		return c
	}
	n := *c
	n.FSUID, n.FSGID = c.UID, c.GID
	if c.Securebits&SecureNoSetuidFixup == 0 {
		n.Effective = 0
		if c.UID == root {
			n.Effective = c.Permitted
		}
	}
	return &n
}

// EnterNewUser makes a user namespace below c's own, and returns c with every capability there: EPERM when c's user or group has no number in its own,
// ENOSPC.
func (c *Cred) EnterNewUser() (*Cred, error) {
	if c.User.UID(c.EUID) == namespace.None || c.User.GID(c.EGID) == namespace.None {
		return nil, unix.EPERM
	}
	u, err := namespace.NewUser(c.User, c.EUID, c.EGID)
	if err != nil {
		return nil, err
	}
	return c.InUser(u), nil
}

// InUser returns c in the user namespace u, with every capability there.
func (c *Cred) InUser(u *namespace.User) *Cred {
	n := *c
	n.User = u
	n.Permitted, n.Effective, n.Bounding = AllCaps, AllCaps, AllCaps
	n.Inheritable, n.Ambient, n.Securebits = 0, 0, 0
	return &n
}
