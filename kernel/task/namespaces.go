package task

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gosv/kernel/namespace"
	"gosv/kernel/vfs"
)

// Namespaces are those of a task but for its user and PID namespace (Linux's struct nsproxy). They never change: a task gets others. The fields are there in
// the order of namespace.Kind.
type Namespaces struct {
	users atomic.Int64
	// List has at the place of its Kind each namespace; for PID and time that of the children. nil: there is only one of that kind.
	List [namespace.Kinds]namespace.Object
	// time is the time namespace of the task itself, nil for the first; List has that of its children, and moves says that it is another.
	time  *TimeNamespace
	moves bool
}

// UTS is a UTS namespace (uts_namespaces(7)).
type UTS struct {
	namespace.Head
	mu           sync.Mutex
	host, domain string // guarded by mu
}

// Names returns what gethostname(2) and getdomainname(2) tell.
func (u *UTS) Names() (host, domain string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.host, u.domain
}

// SetHost changes the host's name, which is cut to 64 bytes.
func (u *UTS) SetHost(name string) {
	u.mu.Lock()
	u.host = name[:min(len(name), 64)]
	u.mu.Unlock()
}

// SetDomain changes the domain's name, which is cut to 64 bytes.
func (u *UTS) SetDomain(name string) {
	u.mu.Lock()
	u.domain = name[:min(len(name), 64)]
	u.mu.Unlock()
}

// plain is a namespace of a kind that holds nothing yet.
type plain struct{ namespace.Head }

// newPlain returns the first namespace of a kind that has nothing in it.
func newPlain(k namespace.Kind) *plain {
	p := new(plain)
	p.First(k)
	return p
}

// firstNamespaces makes the namespaces that the first process is in.
func (k *Kernel) firstNamespaces() {
	k.pids = &PIDNamespace{k: k}
	k.pids.First(namespace.PID)
	u := &UTS{host: k.Hostname, domain: "(none)"}
	if u.host == "" {
		u.host = "(none)"
	}
	u.First(namespace.UTS)
	n := &Namespaces{}
	n.users.Store(1)
	n.List[namespace.PID], n.List[namespace.UTS] = k.pids, u
	n.List[namespace.Cgroup] = newPlain(namespace.Cgroup)
	tn := &TimeNamespace{initial: true, frozen: true}
	tn.First(namespace.Time)
	n.List[namespace.Time] = tn
	if k.Namespace != nil {
		n.List[namespace.Mount] = k.Namespace.First()
	}
	for kind, o := range k.Firsts {
		if o != nil {
			n.List[kind] = o
		}
		if b, ok := o.(interface{ Bind(*Kernel) }); ok {
			b.Bind(k)
		}
	}
	k.first = n
}

// First returns the namespaces of the first process.
func (k *Kernel) First() *Namespaces { return k.first }

// UTS returns the UTS namespace.
func (n *Namespaces) UTS() *UTS { return n.List[namespace.UTS].(*UTS) }

// Namespaces returns t's; the caller is t.
func (t *Task) Namespaces() *Namespaces { return t.ns }

// NamespaceOf returns a namespace of t, or for children; nil when t has ended.
func (t *Task) NamespaceOf(kind namespace.Kind, children bool) namespace.Object {
	t.proc.mu.Lock()
	ns, mem := t.ns, t.mem
	t.proc.mu.Unlock()
	switch {
	case kind == namespace.Users:
		return t.Cred().User.Object()
	case kind == namespace.PID && !children:
		return t.proc.pids
	case ns == nil || mem == nil:
		return nil
	case kind == namespace.Time && !children:
		if ns.time != nil {
			return ns.time
		}
		return t.k.first.List[kind]
	case kind == namespace.PID && ns.List[kind].(*PIDNamespace) != t.proc.pids && t.k.unborn(ns.List[kind].(*PIDNamespace)):
		return nil
	}
	return ns.List[kind]
}

// unborn reports whether a PID namespace has no process yet.
func (k *Kernel) unborn(ns *PIDNamespace) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return ns.parent != nil && ns.init == nil && !ns.dead
}

// hold adds a task.
func (n *Namespaces) hold() *Namespaces {
	n.users.Add(1)
	return n
}

// drop ends the use by a task; with the last the namespaces lose a user.
func (n *Namespaces) drop() {
	if n.users.Add(-1) != 0 {
		return
	}
	for _, o := range n.List {
		if o != nil {
			o.NS().Put()
		}
	}
	if n.time != nil {
		n.time.Put()
	}
}

// with returns a copy of n with one task, in which the namespaces that change is not nil for are those; whose references go over.
func (n *Namespaces) with(change [namespace.Kinds]namespace.Object) *Namespaces {
	c := &Namespaces{}
	c.users.Store(1)
	for k, o := range n.List {
		switch {
		case change[k] != nil:
			o = change[k]
		case o != nil:
			o.NS().Hold()
		}
		c.List[k] = o
	}
	if c.time = n.time; c.time != nil {
		c.time.Hold()
	}
	c.moves = n.moves || change[namespace.Time] != nil
	return c
}

// A Maker makes a new namespace of a kind for a task, like the one that the task has, for an owner: ENOSPC, ENOMEM.
type Maker func(old namespace.Object, owner *namespace.User) (namespace.Object, error)

// makeNamespaces makes the namespaces that flags ask for, in place of t's own, owned by owner. fs is whose root and current directory go over to a new tree of
// mounts. EINVAL for a kind that there is only one of.
func (t *Task) makeNamespaces(flags uint64, owner *namespace.User, fs *FS) (*Namespaces, error) {
	var change [namespace.Kinds]namespace.Object
	for _, kind := range [...]namespace.Kind{
		namespace.Cgroup, namespace.IPC, namespace.Net, namespace.PID, namespace.Time, namespace.UTS,
		namespace.Mount, // the last, as it moves fs
	} {
		if flags&kind.Flag() == 0 {
			continue
		}
		o, err := t.makeOne(kind, owner, fs)
		if err != nil {
			for _, o := range change {
				if o != nil {
					o.NS().Put()
				}
			}
			return nil, err
		}
		change[kind] = o
	}
	return t.ns.with(change), nil
}

func (t *Task) makeOne(kind namespace.Kind, owner *namespace.User, fs *FS) (namespace.Object, error) {
	old := t.ns.List[kind]
	switch kind {
	case namespace.PID:
		if old != t.proc.pids {
			return nil, unix.EINVAL
		}
		return orNil(t.proc.pids.newPIDs(owner))
	case namespace.UTS:
		u := new(UTS)
		u.host, u.domain = old.(*UTS).Names()
		return u, u.Init(kind, owner, nil)
	case namespace.Mount:
		return orNil(fs.copyTree(old.(*vfs.Tree), owner))
	case namespace.Time:
		return orNil(old.(*TimeNamespace).newTime(owner))
	case namespace.Cgroup:
		p := new(plain)
		return p, p.Init(kind, owner, nil)
	}
	if m := t.k.Makers[kind]; m != nil {
		return m(old, owner)
	}
	return nil, unix.EINVAL // as a Linux that is built without them
}

// orNil keeps a nil pointer from becoming an object.
func orNil[T namespace.Object](o T, err error) (namespace.Object, error) {
	if err != nil {
		return nil, err
	}
	return o, nil
}

// copyTree copies a tree of mounts, and moves f there.
func (f *FS) copyTree(old *vfs.Tree, owner *namespace.User) (*vfs.Tree, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return old.Copy(owner, []*vfs.Path{&f.root, &f.cwd})
}

// setNamespaces gives t others.
func (t *Task) setNamespaces(n *Namespaces) {
	if k := t.k; k.Ended != nil && n.List[namespace.IPC] != t.ns.List[namespace.IPC] {
		k.Ended(t)
	}
	t.proc.mu.Lock()
	old := t.ns
	t.ns = n
	t.proc.mu.Unlock()
	if old != nil {
		old.drop()
	}
}
