package procfs

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"gosv/kernel/task"
	"gosv/kernel/vfs"
)

// Values of hidepid.
const (
	hideOff = iota
	hideNoAccess
	hideInvisible
	hidePtraceable = 4
)

// options are those of mount(8) for proc (proc(5), "Mount options").
type options struct {
	hide    int
	gid     uint32
	pidOnly bool // subset=pid
}

// Mount makes an instance of the /proc, for the PID namespace of who mounts it, or of the /sys: EINVAL.
func (f *FS) Mount(r *vfs.MountRequest) (*vfs.FS, error) {
	n := &FS{Config: f.Config, shared: f.shared, magic: f.magic, pids: f.pids}
	if r.Ctx != nil && r.Ctx.TID != 0 {
		if t := f.Kernel.Task(r.Ctx.TID); t != nil {
			n.pids = t.Process().PIDs()
		}
	}
	if f.magic == unix.PROC_SUPER_MAGIC {
		o, err := parseOptions(r)
		if err != nil {
			return nil, err
		}
		n.opts.Store(o)
	} else if err := r.EachOption(func(string, string) bool { return false }); err != nil {
		return nil, err
	}
	if r.Ctx != nil && r.Ctx.Cred != nil && !r.Ctx.Cred.CapableIn(n.pids.Owner(), unix.CAP_SYS_ADMIN) {
		return nil, unix.EPERM
	}
	if n.pids != f.Kernel.PIDs() {
		n.pids.Hold()
	}
	n.makeFS(f.fs.Type)
	return n.fs, nil
}

// Remount implements vfs.Remounter.
func (f *FS) Remount(r *vfs.MountRequest) error {
	if r.Options == "" {
		return nil
	}
	o, err := parseOptions(r)
	if err != nil {
		return err
	}
	f.opts.Store(o)
	return nil
}

func parseOptions(r *vfs.MountRequest) (*options, error) {
	o := &options{}
	for word := range strings.SplitSeq(r.Options, ",") {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "":
		case "hidepid":
			switch value {
			case "0", "off":
				o.hide = hideOff
			case "1", "noaccess":
				o.hide = hideNoAccess
			case "2", "invisible":
				o.hide = hideInvisible
			case "4", "ptraceable":
				o.hide = hidePtraceable
			default:
				return nil, r.Fail(unix.EINVAL, "hidepid="+value)
			}
		case "gid":
			n, err := strconv.ParseUint(value, 10, 32)
			if err != nil {
				return nil, r.Fail(unix.EINVAL, "gid="+value)
			}
			o.gid = uint32(n)
		case "subset":
			if value != "pid" {
				return nil, r.Fail(unix.EINVAL, "subset="+value)
			}
			o.pidOnly = true
		default:
			return nil, r.Fail(unix.EINVAL, "unknown option "+key)
		}
	}
	return o, nil
}

// sees reports whether p is shown at all to who asks.
func (v *view) sees(p *task.Process) bool { return v.opts.Load().hide < hideInvisible || v.mayLook(p) }

// mayLook reports whether hidepid lets who asks look at p.
func (v *view) mayLook(p *task.Process) bool {
	o, t := v.opts.Load(), v.asker()
	if t == nil || o.hide == hideOff || o.hide != hidePtraceable && t.Cred().InGroup(o.gid) {
		return true
	}
	return t.MayAccess(p) == nil
}
