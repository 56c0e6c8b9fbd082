package syscall

import (
	"sync"
	"sync/atomic"

	"gosv/kernel/ipc"
	"gosv/kernel/mqueue"
	"gosv/kernel/namespace"
	"gosv/kernel/task"
)

// ipcSpaces is an IPC namespace (ipc_namespaces(7)): what System V's and POSIX's identifiers and names stand for.
type ipcSpaces struct {
	namespace.Head
	once sync.Once
	made atomic.Bool
	k    *task.Kernel
	sysv *ipc.Space // both are made when they are needed first
	mq   *mqueue.Space
}

func (n *ipcSpaces) make() {
	n.once.Do(func() {
		k := n.k
		now := func() int64 { return k.Clock.Wall() / 1e9 }
		n.sysv, n.mq = ipc.New(k.Pool, now, n.Owner()), mqueue.New(now)
		n.made.Store(true)
	})
}

// SysV implements ipc.Holder.
func (n *ipcSpaces) SysV() *ipc.Space {
	n.make()
	return n.sysv
}

// Queues implements mqueue.Holder.
func (n *ipcSpaces) Queues() *mqueue.Space {
	n.make()
	return n.mq
}

// end removes what nobody can name any more.
func (n *ipcSpaces) end() {
	if n.made.Load() {
		n.sysv.Clear()
		n.mq.Clear()
	}
}

// ipcOf returns the IPC namespace of t.
func ipcOf(t *task.Task) *ipcSpaces {
	return t.Namespaces().List[namespace.IPC].(*ipcSpaces)
}

// Ended is what task.Config.Ended is set to.
func (s *Calls) Ended(t *task.Task) {
	if n := ipcOf(t); n.made.Load() {
		n.sysv.Exited(t.PID())
		n.mq.Exited(t.PID())
	}
}

// Bind says whose namespace the first is; task.New calls it.
func (n *ipcSpaces) Bind(k *task.Kernel) { n.k = k }

// Firsts are the namespaces of the first process that belong here: for task.Config.
func (s *Calls) Firsts() (l [namespace.Kinds]namespace.Object) {
	l[namespace.IPC] = &s.ipc
	return l
}

// Makers make such namespaces: for task.Config.
func (s *Calls) Makers() (l [namespace.Kinds]task.Maker) {
	l[namespace.IPC] = func(old namespace.Object, owner *namespace.User) (namespace.Object, error) {
		n := &ipcSpaces{k: old.(*ipcSpaces).k}
		return n, n.Init(namespace.IPC, owner, n.end)
	}
	return l
}
