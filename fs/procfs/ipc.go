package procfs

import (
	"strconv"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
	"gosv/kernel/ipc"
	"gosv/kernel/mqueue"
	"gosv/kernel/namespace"
)

// ipcRows is what /proc/sys has of the IPC namespace of who looks.
func ipcRows() (list []row) {
	for _, l := range []struct {
		name      string
		of        func(*mqueue.Limits) *atomic.Int32
		low, high int
	}{
		{"msg_default", func(l *mqueue.Limits) *atomic.Int32 { return &l.DefaultMessages }, 1, mqueue.MaxMessages},
		{"msg_max", func(l *mqueue.Limits) *atomic.Int32 { return &l.Messages }, 1, mqueue.MaxMessages},
		{"msgsize_default", func(l *mqueue.Limits) *atomic.Int32 { return &l.DefaultSize }, mqueue.MinSize, mqueue.MaxSize},
		{"msgsize_max", func(l *mqueue.Limits) *atomic.Int32 { return &l.Size }, mqueue.MinSize, mqueue.MaxSize},
		{"queues_max", func(l *mqueue.Limits) *atomic.Int32 { return &l.Queues }, 0, mqueue.MaxQueues},
	} {
		list = append(list, row{path: "sys/fs/mqueue/" + l.name, mode: rw,
			show: func(v *view, b *out) error {
				q, err := v.queues()
				if err == nil {
					b.num(int64(l.of(&q.Limits).Load())).nl()
				}
				return err
			},
			store: func(v *view, s string) error {
				q, err := v.queues()
				if err != nil {
					return err
				}
				n, err := parse(s)
				if err != nil || n < l.low || n > l.high {
					return unix.EINVAL
				}
				l.of(&q.Limits).Store(int32(n))
				return nil
			}})
	}
	type next interface {
		Next() int32
		SetNext(int32)
	}
	for _, l := range []struct {
		name string
		of   func(*ipc.Space) next
	}{
		{"msg_next_id", func(s *ipc.Space) next { return &s.Msg }},
		{"sem_next_id", func(s *ipc.Space) next { return &s.Sem }},
		{"shm_next_id", func(s *ipc.Space) next { return &s.Shm }},
	} {
		list = append(list, row{path: "sys/kernel/" + l.name, mode: rw,
			show: func(v *view, b *out) error {
				s, err := v.sysv()
				if err == nil {
					b.num(int64(l.of(s).Next())).nl()
				}
				return err
			},
			store: func(v *view, text string) error {
				s, err := v.sysv()
				if err != nil {
					return err
				}
				n, err := parse(text)
				if err != nil || n < 0 || n > 1<<31-1 {
					return unix.EINVAL
				}
				l.of(s).SetNext(int32(n))
				return nil
			}})
	}
	return list
}

// ipcNS returns the IPC namespace of who looks, nil when there is none.
func (v *view) ipcNS() namespace.Object {
	if t := v.asker(); t != nil {
		if o := t.NamespaceOf(namespace.IPC, false); o != nil {
			return o
		}
	}
	return v.Kernel.First().List[namespace.IPC]
}

// queues returns POSIX message queues: ENOENT.
func (v *view) queues() (*mqueue.Space, error) {
	if h, ok := v.ipcNS().(mqueue.Holder); ok {
		return h.Queues(), nil
	}
	return nil, unix.ENOENT
}

// sysv returns System V's objects: ENOENT.
func (v *view) sysv() (*ipc.Space, error) {
	if h, ok := v.ipcNS().(ipc.Holder); ok {
		return h.SysV(), nil
	}
	return nil, unix.ENOENT
}

// sysvRows is /proc/sysvipc (proc(5)): the columns are those of Linux.
var sysvRows = []row{
	{path: "sysvipc/msg", mode: ro, show: showMessages},
	{path: "sysvipc/sem", mode: ro, show: showSemaphores},
	{path: "sysvipc/shm", mode: ro, show: showSegments},
}

// left are the columns that all three have on the left: key, identifier and mode.
func (o *out) left(p *ipc.Perm, id int32) *out {
	return o.column(int64(p.Key), 10).column(int64(id), 10).str(" ").column8(p.Mode, 5)
}

// column adds a space and a number of that width.
func (o *out) column(n int64, width int) *out {
	s := strconv.FormatInt(n, 10)
	for range width - len(s) {
		o.str(" ")
	}
	return o.str(s, " ")
}

// column8 is column for an octal number.
func (o *out) column8(n uint32, width int) *out {
	return o.digits(uint64(n), 8, width, ' ').str(" ")
}

// owners are the columns of users and groups.
func (v *view) owners(o *out, p *ipc.Perm) {
	u := v.user()
	for _, id := range [...]uint32{u.ShowUID(p.UID), u.ShowGID(p.GID), u.ShowUID(p.CUID), u.ShowGID(p.CGID)} {
		o.column(int64(id), 5)
	}
}

// times ends a line with times, and what is behind them.
func (o *out) times(list ...int64) {
	for _, n := range list {
		o.column(n, 10)
	}
	o.b[len(o.b)-1] = '\n'
}

// A sysvTable is one of System V's tables of objects.
type sysvTable[O any] interface {
	Last() (place, count int32)
	At(place int32) (o O, id int32, err error)
}

// showTable shows a title, and a line for each object of a table.
func showTable[O, D any](v *view, b *out, title string, table func(*ipc.Space) sysvTable[O], stat func(O, *cred.Cred, bool) (D, error), line func(o O, id int32, d *D)) error {
	b.str(title)
	s, err := v.sysv()
	if err != nil {
		return nil // the reader's namespace has none
	}
	list := table(s)
	last, _ := list.Last()
	for i := range last + 1 {
		o, id, err := list.At(i)
		if err != nil {
			continue
		}
		if d, err := stat(o, v.ctx.Cred, true); err == nil {
			line(o, id, &d)
		}
	}
	return nil
}

func showMessages(v *view, b *out) error {
	return showTable(v, b, "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      rtime      ctime\n",
		func(s *ipc.Space) sysvTable[*ipc.Messages] { return &s.Msg }, (*ipc.Messages).Stat, func(_ *ipc.Messages, id int32, d *ipc.MsgDS) {
			b.left(&d.Perm, id).column(int64(d.Bytes), 11).column(int64(d.Count), 10).column(int64(v.pids.Local(d.LSPID)), 5).column(int64(v.pids.Local(d.LRPID)), 5)
			v.owners(b, &d.Perm)
			b.times(d.STime, d.RTime, d.CTime)
		})
}

func showSemaphores(v *view, b *out) error {
	return showTable(v, b, "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n",
		func(s *ipc.Space) sysvTable[*ipc.Semaphores] { return &s.Sem }, (*ipc.Semaphores).Stat, func(_ *ipc.Semaphores, id int32, d *ipc.SemDS) {
			b.left(&d.Perm, id).column(int64(d.Count), 10)
			v.owners(b, &d.Perm)
			b.times(d.OTime, d.CTime)
		})
}

func showSegments(v *view, b *out) error {
	return showTable(v, b, "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime                   rss                  swap\n",
		func(s *ipc.Space) sysvTable[*ipc.Segment] { return &s.Shm }, (*ipc.Segment).Stat, func(q *ipc.Segment, id int32, d *ipc.ShmDS) {
			b.left(&d.Perm, id).column(int64(d.Size), 21).column(int64(v.pids.Local(d.CPID)), 5).column(int64(v.pids.Local(d.LPID)), 5).column(d.Attached, 6)
			v.owners(b, &d.Perm)
			b.times(d.ATime, d.DTime, d.CTime)
			b.b = b.b[:len(b.b)-1]
			b.str(" ").column(int64(q.MapCache().Pages())*4096, 21)
			b.str(" ").digits(0, 10, 20, ' ').nl()
		})
}
