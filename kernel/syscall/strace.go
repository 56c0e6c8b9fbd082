package syscall

import (
	"strconv"

	"golang.org/x/sys/unix"

	"gosv/kernel/abi"
	"gosv/kernel/task"
)

// A trace is one line of strace output on its way: what goes before the call
// is shown when it starts, because the call may change it.
type trace struct {
	line []byte
	r    *row
	a    args
	// cut is where the line goes on behind each argument that is shown after the call.
	outs [6]int
}

// begin shows the call as far as it is known before it is made.
func begin(t *task.Task, nr uint32, r *row) *trace {
	tr := &trace{r: r, a: argsOf(t.Ctx), line: make([]byte, 0, 160)}
	tr.line = strconv.AppendInt(tr.line, int64(t.TID()), 10)
	tr.line = append(tr.line, ' ')
	if r == nil || r.name == "" {
		tr.line = appendHex(append(tr.line, "syscall_"...), uint64(nr))
	} else {
		tr.line = append(tr.line, r.name...)
	}
	tr.line = append(tr.line, '(')
	if r == nil || r.call == nil {
		for i, v := range tr.a {
			if i > 0 {
				tr.line = append(tr.line, ", "...)
			}
			tr.line = appendHex(tr.line, v)
		}
		return tr
	}
	for i, f := range r.args {
		if i > 0 {
			tr.line = append(tr.line, ", "...)
		}
		if f.out == nil {
			tr.line = f.before(tr.line, t, &tr.a, i)
		}
		tr.outs[i] = len(tr.line)
	}
	return tr
}

// end shows the result and returns the whole line.
func (tr *trace) end(t *task.Task, v uint64, err error) []byte {
	b := tr.line
	if tr.r != nil && tr.r.hasOut() {
		b = make([]byte, 0, 2*len(tr.line))
		from := 0
		for i, f := range tr.r.args {
			b = append(b, tr.line[from:tr.outs[i]]...)
			from = tr.outs[i]
			switch {
			case f.out == nil:
			case err == nil:
				b = f.out(b, t, &tr.a, i, v)
			default:
				b = f.before(b, t, &tr.a, i)
			}
		}
	}
	b = append(b, ") = "...)
	switch {
	case err != nil:
		b = appendError(b, errnoOf(err))
	case tr.r != nil && tr.r.result != nil:
		b = tr.r.result(b, v)
	default:
		b = appendInt(b, int64(v))
	}
	return b
}

// before shows an argument before the call.
func (f *formatter) before(b []byte, t *task.Task, a *args, i int) []byte {
	if f.in != nil {
		return f.in(b, t, a, i)
	}
	return f.raw(b, a[i])
}

// endless is the line of a call that does not return.
func (tr *trace) endless() []byte { return append(tr.line, ") = ?"...) }

func (r *row) hasOut() bool {
	for _, f := range r.args {
		if f.out != nil {
			return true
		}
	}
	return false
}

func appendError(b []byte, e unix.Errno) []byte {
	switch e {
	case abi.ERESTARTSYS:
		return append(b, "? ERESTARTSYS (To be restarted if SA_RESTART is set)"...)
	case abi.ERESTARTNOINTR:
		return append(b, "? ERESTARTNOINTR (To be restarted)"...)
	case abi.ERESTARTNOHAND:
		return append(b, "? ERESTARTNOHAND (To be restarted if no handler)"...)
	case abi.ERESTART_RESTARTBLOCK:
		return append(b, "? ERESTART_RESTARTBLOCK (Interrupted by signal)"...)
	}
	b = append(b, "-1 "...)
	if name := unix.ErrnoName(e); name != "" {
		b = append(b, name...)
	} else {
		b = strconv.AppendInt(b, int64(e), 10)
	}
	return append(append(append(b, " ("...), e.Error()...), ')')
}
