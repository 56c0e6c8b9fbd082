package syscall

import (
	"errors"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gosv/kernel/mem"
	"gosv/kernel/task"
	"gosv/machine"
)

// Calls serves the system calls of one kernel.
type Calls struct {
	rows table
	o    Options

	ipc   ipcSpaces // the first
	timex clockState
	// told are the missing calls that were logged already.
	told [numbers]atomic.Bool
}

// Table returns the calls by number, nil for those that are not implemented, and
// Failed what a program gets for an error: task.Config.Calls and Failed. Under strace, and when missing files are told, there
// are none, so that all go to Dispatch.
func (s *Calls) Table() []func(*task.Task) (uint64, error) {
	if s.o.Strace || s.o.Missing != nil {
		return nil
	}
	t := make([]func(*task.Task) (uint64, error), numbers)
	for nr, r := range s.rows {
		t[nr] = r.call
	}
	return t
}

// Failed is the value of RAX after a call that failed with err.
func (s *Calls) Failed(err error) uint64 { return negated(err) }

// Dispatch serves the system call that t is at, and leaves the result in RAX:
// a value, or a negated errno. It is what task.Config.Dispatch is set to.
func (s *Calls) Dispatch(t *task.Task) {
	nr := uint32(t.Ctx.OrigRAX)
	var r *row
	if nr < numbers {
		r = s.rows[nr]
	}
	var tr *trace
	if s.o.Strace {
		tr = begin(t, nr, r)
		if r != nil && r.final {
			t.Kernel().Log(string(tr.endless()))
			tr = nil
		}
	}
	var v uint64
	var err error
	if r != nil && r.call != nil {
		v, err = r.call(t)
	} else {
		err = s.missing(t, nr, r)
	}
	if tr != nil {
		t.Kernel().Log(string(tr.end(t, v, err)))
	}
	if err != nil {
		if err == unix.ENOENT && s.o.Missing != nil && r != nil {
			s.notFound(t, r)
		}
		v = negated(err)
	}
	t.Ctx.RAX = v
}

// missing logs a call that is not implemented, once, and returns its errno.
func (s *Calls) missing(t *task.Task, nr uint32, r *row) error {
	if r == nil || r.name == "" {
		return unix.ENOSYS
	}
	if !s.told[nr].Swap(true) {
		t.Kernel().Log(t.Comm() + ": system call " + r.name + " is not implemented: " + r.note)
	}
	return r.errno
}

func negated(err error) uint64 { return -uint64(errnoOf(err)) }

// errnoOf is the errno that a program sees for err.
func errnoOf(err error) unix.Errno {
	if e, ok := err.(unix.Errno); ok {
		return e
	}
	switch {
	case errors.Is(err, machine.ErrNoMemory):
		return unix.ENOMEM
	case errors.Is(err, mem.ErrBeyondEOF):
		return unix.EFAULT
	}
	return unix.EIO
}
