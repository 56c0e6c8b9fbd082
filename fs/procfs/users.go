package procfs

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
	"gosv/kernel/namespace"
)

// user returns the user namespace of who opened the file.
func (v *view) user() *namespace.User {
	if v.ctx == nil || v.ctx.Cred == nil {
		return nil
	}
	return v.ctx.Cred.User
}

// showMap is uid_map and gid_map (user_namespaces(7)): the outside is told in numbers of who reads, or of the parent to who is inside.
func showMap(groups bool) func(*view, *out) error {
	return func(v *view, b *out) error {
		ns, to := v.t.Cred().User, v.user()
		if to == ns && to != nil {
			to = to.Parent()
		}
		for _, e := range ns.Map(groups) {
			outside := to.UID(e.Outside)
			if groups {
				outside = to.GID(e.Outside)
			}
			for _, n := range [...]uint32{e.Inside, outside, e.Count} {
				b.right(uint64(n), 10).str(" ")
			}
			b.b[len(b.b)-1] = '\n'
		}
		return nil
	}
}

// storeMap takes a map, once: EINVAL, EPERM.
func storeMap(groups bool) func(*view, string) error {
	return func(v *view, s string) error {
		lines, err := parseMap(s)
		if err != nil {
			return err
		}
		ns, c := v.t.Cred().User, v.ctx.Cred
		if ns == nil || c.User != ns && c.User != ns.Parent() || !c.CapableIn(ns, unix.CAP_SYS_ADMIN) {
			return unix.EPERM
		}
		may := mayMap(v, ns.Parent(), c, groups)
		if !may && !mapsOwn(ns, c, groups, lines) {
			return unix.EPERM
		}
		return ns.SetMap(groups, lines, !may)
	}
}

// mapsOwn reports whether the lines are the one that anybody may write: the own ID of who made the namespace.
func mapsOwn(ns *namespace.User, c *cred.Cred, groups bool, lines []namespace.Extent) bool {
	uid, _ := ns.Creator()
	if len(lines) != 1 || lines[0].Count != 1 || uid != c.EUID {
		return false
	}
	if groups {
		return ns.Parent().RealGID(lines[0].Outside) == c.EGID
	}
	return ns.Parent().RealUID(lines[0].Outside) == c.EUID
}

// mayMap reports whether the opener and the writer may map any ID of the parent.
func mayMap(v *view, parent *namespace.User, c *cred.Cred, groups bool) bool {
	capability := unix.CAP_SETUID
	if groups {
		capability = unix.CAP_SETGID
	}
	t := v.asker()
	return c.CapableIn(parent, capability) && (t == nil || t.Cred().CapableIn(parent, capability))
}

func parseMap(s string) (lines []namespace.Extent, err error) {
	for l := range strings.Lines(strings.TrimRight(s, "\n")) {
		f := strings.Fields(l)
		if len(f) != 3 || len(lines) >= namespace.MaxExtents {
			return nil, unix.EINVAL
		}
		var n [3]uint32
		for i := range f {
			u, err := strconv.ParseUint(f[i], 10, 32)
			if err != nil {
				return nil, unix.EINVAL
			}
			n[i] = uint32(u)
		}
		lines = append(lines, namespace.Extent{Inside: n[0], Outside: n[1], Count: n[2]})
	}
	if lines == nil {
		return nil, unix.EINVAL
	}
	return lines, nil
}

func showSetgroups(v *view, b *out) error {
	s := "deny\n"
	if v.t.Cred().User.Setgroups() {
		s = "allow\n"
	}
	b.str(s)
	return nil
}

// storeSetgroups takes "deny", and "allow" where that is so: EINVAL, EPERM.
func storeSetgroups(v *view, s string) error {
	ns := v.t.Cred().User
	if !v.ctx.Cred.CapableIn(ns, unix.CAP_SYS_ADMIN) {
		return unix.EPERM
	}
	switch strings.TrimRight(s, " \n") {
	case "allow":
		if !ns.Setgroups() {
			return unix.EPERM
		}
		return nil
	case "deny":
		return ns.DenySetgroups()
	}
	return unix.EINVAL
}
