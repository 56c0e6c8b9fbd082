package procfs

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/namespace"
	"gosv/kernel/vfs"
)

// nsRows is /proc/PID/ns.
var nsRows = func() (list []*row) {
	add := func(k namespace.Kind, name string, children bool) {
		list = append(list, &row{path: name, mode: unix.S_IFLNK | 0o777, private: true, jump: func(v *view) (vfs.Path, error) {
			o, err := v.namespace(k, children)
			if err != nil {
				return vfs.Path{}, err
			}
			return v.Namespaces.Path(o), nil
		}})
	}
	for k := range namespace.Kinds {
		add(k, k.Name(), false)
		if k == namespace.PID || k == namespace.Time {
			add(k, k.Name()+"_for_children", true)
		}
	}
	return list
}()

// namespace returns one of the process: ENOENT when it has ended, or there is none.
func (v *view) namespace(k namespace.Kind, children bool) (namespace.Object, error) {
	if v.Namespaces == nil {
		return nil, unix.ENOENT
	}
	o := v.t.NamespaceOf(k, children)
	if o == nil {
		return nil, unix.ENOENT
	}
	return o, nil
}

// limitRows is /proc/sys/user.
func limitRows() (list []row) {
	for k := range namespace.Kinds {
		name := k.Name()
		list = append(list, row{path: "sys/user/max_" + name + "_namespaces", mode: rw,
			show: func(_ *view, b *out) error { b.num(int64(k.Limit())).nl(); return nil },
			store: func(v *view, s string) error {
				if !v.ctx.Cred.Capable(unix.CAP_SYS_RESOURCE) {
					return unix.EPERM
				}
				n, err := parse(s)
				if err != nil || n < 0 || n > 1<<20 {
					return unix.EINVAL
				}
				k.SetLimit(int32(n))
				return nil
			}})
	}
	return list
}
