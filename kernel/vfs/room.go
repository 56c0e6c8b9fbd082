package vfs

import (
	"golang.org/x/sys/unix"

	"gosv/machine"
)

// The bounds on mounts: those of a mount namespace (/proc/sys/fs/mount-max), and those of all, with those that lie nowhere, by the memory of the
// machine: they may have an eighth of it. Else a program with a user namespace of its own takes all: each recursive bind mount can double them.
const (
	defaultMountMax = 100000
	mountShare      = 8 * mountBytes // bytes of memory for each
	mountBytes      = 2048           // what one takes, with the collector's share and a list of them for a reader
	leastMounts     = 256
)

// MountMax returns how many mounts a mount namespace may have.
func (ns *Namespace) MountMax() int { return int(ns.mountMax.Load()) }

// SetMountMax sets it: EINVAL.
func (ns *Namespace) SetMountMax(n int) error {
	if n < 1 || n > 1<<31-1 {
		return unix.EINVAL
	}
	ns.mountMax.Store(int32(n))
	return nil
}

// room reports whether there may be n mounts more in all: ENOSPC. ns.mu is held.
//
// +checklocks:ns.mu
func (ns *Namespace) room(n int) error {
	if ns.Pool == nil {
		return nil // the one mount of files without a name
	}
	pages, _ := ns.Pool.Usage()
	if uint64(len(ns.all)+n) > max(pages*machine.PageSize/mountShare, leastMounts) {
		return unix.ENOSPC
	}
	return nil
}

// fits reports whether the mounts in list may have a copy of tree each, and to, if it has not, tree itself: ENOSPC. ns.mu is held.
//
// +checklocks:ns.mu
func (ns *Namespace) fits(tree []*Mount, to *Tree, list []target) error {
	need := map[*Tree]int{}
	for _, m := range tree {
		if m.in != to {
			need[to]++
		}
	}
	for _, t := range list {
		if t.m.in != nil {
			need[t.m.in] += len(tree)
		}
	}
	for t, n := range need {
		if t.mounts+n > ns.MountMax() {
			return unix.ENOSPC
		}
	}
	return ns.room(len(list) * len(tree))
}

// count makes m one of the mounts of t, nil: of none. ns.mu is held.
func (m *Mount) count(t *Tree) {
	if m.in != nil {
		m.in.mounts--
	}
	if m.in = t; t != nil {
		t.mounts++
	}
}
