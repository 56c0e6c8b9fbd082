package vfs

import (
	"sort"

	"golang.org/x/sys/unix"
)

// A Type is a type of file system that mount(2) knows.
type Type struct {
	Name string
	// OnDevice says that the source is a block device; /proc/filesystems has "nodev" before the others.
	OnDevice bool
	// Anyone says that root of any user namespace may mount it in a mount namespace of its own.
	Anyone bool
	// New makes an instance, or returns one that is mounted already: EINVAL for an option that it does not know.
	New func(r *MountRequest) (*FS, error)
}

// A MountRequest is what mount(2) or the host asks of a type.
type MountRequest struct {
	Ctx     *Context // whose mount it is
	Source  string   // as given: a path, a tag, a name
	Options string   // what belongs to the type, separated by commas
	Flags   uint64   // MS_RDONLY and the other MS_ flags
	// Held is set by a type that returns an instance which is mounted already, with a hold on it (Hold) for the new mount.
	Held bool
	// Problem says in words what was wrong, for the kernel's log; empty when the errno says it all.
	Problem string
}

// ReadOnly reports whether the file system is to be left as it is.
func (r *MountRequest) ReadOnly() bool { return r.Flags&unix.MS_RDONLY != 0 }

// Fail keeps the reason and returns err.
func (r *MountRequest) Fail(err error, why string) error {
	r.Problem = why
	return err
}

// AddType makes a type of file system known to mount(2).
func (ns *Namespace) AddType(t Type) {
	ns.mu.Lock()
	ns.types[t.Name] = t
	ns.mu.Unlock()
}

// Types returns the known types, sorted by name.
func (ns *Namespace) Types() []Type {
	ns.mu.RLock()
	defer ns.mu.RUnlock()
	names := make([]string, 0, len(ns.types))
	for n := range ns.types {
		names = append(names, n)
	}
	sort.Sort(sort.StringSlice(names)) //lint:ignore S1032 sort.Strings would bring a second sort into the kernel
	list := make([]Type, len(names))
	for i, n := range names {
		list[i] = ns.types[n]
	}
	return list
}

// NewFS makes a file system of a type: ENODEV when there is no such type, and what the type says. A problem goes to
// the log, too.
func (ns *Namespace) NewFS(typ string, r *MountRequest) (*FS, error) {
	ns.mu.RLock()
	t, ok := ns.types[typ]
	ns.mu.RUnlock()
	if !ok {
		return nil, r.Fail(unix.ENODEV, "unknown type of file system")
	}
	r.takeFlags()
	if !t.Anyone && r.Ctx != nil && r.Ctx.Cred != nil && !r.Ctx.Cred.Capable(unix.CAP_SYS_ADMIN) {
		return nil, unix.EPERM
	}
	fs, err := t.New(r)
	if err != nil {
		ns.complain(typ, r)
	} else if fs.mounts.Load() == 0 { // nobody has it yet
		fs.readOnly.Store(r.Flags & unix.MS_RDONLY)
	}
	return fs, err
}

// complain logs why a mount was refused, if that is known.
func (ns *Namespace) complain(typ string, r *MountRequest) {
	if r.Problem != "" && ns.Log != nil {
		ns.Log("gosv: mount: " + typ + ": " + r.Problem)
	}
}
