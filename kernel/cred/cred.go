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

	Securebits uint32
	NoNewPrivs bool
}

var root = Cred{Permitted: AllCaps, Effective: AllCaps, Bounding: AllCaps}

// Root returns the credentials of the first process: user 0 with every capability.
func Root() *Cred { return &root }

// Capable reports whether the capability is effective.
//
//go:noinline
func (c *Cred) Capable(capability int) bool { return c.Effective.Has(capability) }

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
	if c.FSUID == c.UID && c.FSGID == c.GID && (c.UID != 0 || c.Effective == c.Permitted) && (c.UID == 0 || c.Effective == 0) {
		return c
	}
	n := *c
	n.FSUID, n.FSGID = c.UID, c.GID
	if c.Securebits&SecureNoSetuidFixup == 0 {
		n.Effective = 0
		if c.UID == 0 {
			n.Effective = c.Permitted
		}
	}
	return &n
}
