package procfs

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"gosv/kernel/mm"
	"gosv/kernel/vfs"
)

// areas lists /proc/PID/map_files (proc_pid_map_files(5)): a link to the file of each area that maps one, named by the addresses.
type areas struct{}

// mapFileRows are such a link, of a file that is open for reading alone, and of one that is open for writing.
var mapFileRows = [2]*row{
	{mode: unix.S_IFLNK | 0o400, jump: jumpMapFile, follow: mayFollowMapFile, private: true},
	{mode: unix.S_IFLNK | 0o600, jump: jumpMapFile, follow: mayFollowMapFile, private: true},
}

func (areas) names(v *view) (list []string) {
	v.memory(func(as *mm.AddressSpace) {
		for _, a := range as.Areas() {
			if _, ok := a.Object.(*vfs.File); ok {
				list = append(list, strconv.FormatUint(a.Start, 16)+"-"+strconv.FormatUint(a.End, 16))
			}
		}
	})
	return list
}

func (areas) findName(v *view, name string) (*row, subject, error) {
	s := v.subject
	var ok bool
	if s.start, s.end, ok = parseArea(name); !ok {
		return nil, s, unix.ENOENT
	}
	f, err := v.mapFile(s)
	if err != nil {
		return nil, s, err
	}
	defer f.DecRef()
	if f.Writable() {
		return mapFileRows[1], s, nil
	}
	return mapFileRows[0], s, nil
}

// parseArea reads the name of a link: two hexadecimal numbers without leading zeros.
func parseArea(name string) (start, end uint64, ok bool) {
	from, to, ok := strings.Cut(name, "-")
	if !ok || len(from) > 1 && from[0] == '0' || len(to) > 1 && to[0] == '0' {
		return 0, 0, false
	}
	start, err := strconv.ParseUint(from, 16, 64)
	if err != nil {
		return 0, 0, false
	}
	end, err = strconv.ParseUint(to, 16, 64)
	return start, end, err == nil
}

// mapFile returns the file of an area with a reference: ENOENT.
func (v *view) mapFile(s subject) (f *vfs.File, err error) {
	err = unix.ENOENT
	v.memory(func(as *mm.AddressSpace) {
		o := as.Object(s.start, s.end)
		if o == nil {
			return
		}
		var ok bool
		if f, ok = o.(*vfs.File); !ok {
			o.DecRef()
			return
		}
		err = nil
	})
	return f, err
}

func jumpMapFile(v *view) (vfs.Path, error) {
	f, err := v.mapFile(v.subject)
	if err != nil {
		return vfs.Path{}, err
	}
	defer f.DecRef()
	return f.Path(), nil
}

// mayFollowMapFile is EPERM for all but root of the machine, since a mapping may outlive the right to open its file.
func mayFollowMapFile(v *view) error {
	if c := v.ctx.Cred; !c.Capable(unix.CAP_CHECKPOINT_RESTORE) && !c.Capable(unix.CAP_SYS_ADMIN) {
		return unix.EPERM
	}
	return nil
}
