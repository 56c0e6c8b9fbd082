// Package namespace is what all kinds of namespaces (namespaces(7)) share: a number, an owner, a count of those who use
// them, and limits; and user namespaces (user_namespaces(7)), which are nothing else but that and two maps.
//
// What a namespace holds belongs to the room that it is about: process IDs to kernel/task, mounts to kernel/vfs and so on.
//
// User.mu guards the maps of one user namespace, users.mu the list of them; both are leaves.
package namespace

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A Kind is one kind of namespace.
type Kind int

// The kinds, in the order of their names in /proc/PID/ns.
const (
	Cgroup Kind = iota
	IPC
	Mount
	Net
	PID
	Time
	Users
	UTS
	Kinds
)

// kinds tells of each kind its name, the flag of clone(2), and the number of its first namespace (Linux's
// include/linux/proc_ns.h; those of mount and network are numbers like any other there).
var kinds = [Kinds]struct {
	name  string
	flag  uint64
	first uint64
	most  int32
}{
	Cgroup: {"cgroup", unix.CLONE_NEWCGROUP, 0xeffffffb, 1024},
	IPC:    {"ipc", unix.CLONE_NEWIPC, 0xefffffff, 1024},
	Mount:  {"mnt", unix.CLONE_NEWNS, 0xf0000001, 1024},
	Net:    {"net", unix.CLONE_NEWNET, 0xf0000000, 64},
	PID:    {"pid", unix.CLONE_NEWPID, 0xeffffffc, 1024},
	Time:   {"time", unix.CLONE_NEWTIME, 0xeffffffa, 1024},
	Users:  {"user", unix.CLONE_NEWUSER, 0xeffffffd, 1024},
	UTS:    {"uts", unix.CLONE_NEWUTS, 0xeffffffe, 1024},
}

// AllFlags are the flags of clone(2) that make namespaces.
const AllFlags = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER |
	unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWTIME

// Name is the name in /proc/PID/ns.
func (k Kind) Name() string { return kinds[k].name }

// Flag is the flag of clone(2).
func (k Kind) Flag() uint64 { return kinds[k].flag }

// MaxLevel is how deep PID and user namespaces may be nested.
const MaxLevel = 32

var (
	lastID atomic.Uint64
	counts [Kinds]atomic.Int32
	limits [Kinds]atomic.Int32
)

func init() {
	lastID.Store(0xf0000001)
	for k := range kinds {
		limits[k].Store(kinds[k].most)
	}
}

// Limit returns how many namespaces of a kind there may be beside the first (/proc/sys/user/max_*_namespaces).
func (k Kind) Limit() int32 { return limits[k].Load() }

// SetLimit changes it.
func (k Kind) SetLimit(n int32) { limits[k].Store(n) }

// charge counts one more: ENOSPC.
func (k Kind) charge() error {
	if counts[k].Add(1) <= limits[k].Load() {
		return nil
	}
	counts[k].Add(-1)
	return unix.ENOSPC
}

// An Object is a namespace of any kind.
type Object interface {
	NS() *Head
}

// Head is what every namespace has; it is to be embedded.
type Head struct {
	kind  Kind
	id    uint64
	owner *User
	end   func()
	refs  atomic.Int64
	// lingers: it counts until end has finished what it began; set by end.
	lingers bool
	// Node is what shows it in /proc/PID/ns; kernel/nsfs's.
	Node atomic.Pointer[any]
}

// First makes h the first namespace of its kind, which never ends.
func (h *Head) First(k Kind) {
	h.kind, h.id = k, kinds[k].first
	h.refs.Store(1)
}

// Init makes h a new namespace with one user: ENOSPC when there are too many. end, which may be nil, is called once, when
// nobody uses it any more.
func (h *Head) Init(k Kind, owner *User, end func()) error {
	if err := k.charge(); err != nil {
		return err
	}
	h.set(k, owner, end)
	return nil
}

func (h *Head) set(k Kind, owner *User, end func()) {
	h.kind, h.id, h.owner, h.end = k, lastID.Add(1), owner, end
	h.refs.Store(1)
}

// NS implements Object.
func (h *Head) NS() *Head { return h }

// Kind returns the kind.
func (h *Head) Kind() Kind { return h.kind }

// ID returns the number, an inode number.
func (h *Head) ID() uint64 { return h.id }

// Owner returns the user namespace that the namespace belongs to.
func (h *Head) Owner() *User { return h.owner }

// Get adds a user; false when the last one has gone already. User namespaces are not counted.
func (h *Head) Get() bool {
	if h.kind == Users {
		return true
	}
	for {
		n := h.refs.Load()
		if n == 0 {
			return false
		}
		if h.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Hold is Get by somebody whose own use keeps the namespace alive.
func (h *Head) Hold() {
	if h.kind != Users {
		h.refs.Add(1)
	}
}

// Put ends a use.
func (h *Head) Put() {
	if h.kind == Users || h.refs.Add(-1) != 0 {
		return
	}
	if h.end != nil {
		h.end()
	}
	if !h.lingers {
		counts[h.kind].Add(-1)
	}
}

// Linger is called within end when it leaves something behind that is to count as a namespace until done is called.
func (h *Head) Linger() (done func()) {
	h.lingers = true
	return func() { counts[h.kind].Add(-1) }
}
