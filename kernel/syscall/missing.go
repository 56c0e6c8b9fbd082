package syscall

import (
	"strings"

	"golang.org/x/sys/unix"

	"gosv/kernel/task"
	"gosv/kernel/vfs"
)

// notFound tells Options.Missing the names that a call with the result ENOENT had been given.
func (s *Calls) notFound(t *task.Task, r *row) {
	a := argsOf(t.Ctx)
	from := int32(unix.AT_FDCWD)
	for i, f := range r.args {
		switch f {
		case aDirFD.formatter:
			from = int32(a[i])
		case aPath.formatter, aOptPath.formatter:
			name, err := decodePath(t, a[i])
			if err != nil || name == "" {
				continue
			}
			s.o.Missing(absolute(t, from, name))
		}
	}
}

// absolute returns a name with the directory that it is relative to, where that has one.
func absolute(t *task.Task, from int32, name string) string {
	if strings.HasPrefix(name, "/") {
		return name
	}
	p, err := at(t, from, name)
	if err != nil {
		return name
	}
	defer p.done()
	base := p.Path
	if from == unix.AT_FDCWD {
		base = t.FS.Cwd()
	}
	dir, err := vfs.PathName(base, t.FS.Root())
	if err != nil {
		return name
	}
	return dir + "/" + name
}
