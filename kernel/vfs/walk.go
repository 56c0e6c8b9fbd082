package vfs

import (
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A walk resolves one path (path_resolution(7)).
type walk struct {
	ctx     *Context
	ns      *Namespace
	root    Path
	resolve uint64 // RESOLVE_ flags of openat2(2)
	links   int    // symbolic links met
	slash   bool   // the path ended in a slash
	umount  bool   // it is for umount2(2), which does not count as a use of the mount
}

// Ways to walk.
const (
	follow = 1 << iota // the last component, if a symbolic link
	parent             // stop before the last component, and return it
)

func newWalk(ctx *Context) walk {
	return walk{ctx: ctx, ns: ctx.Root.Mount.ns, root: ctx.Root}
}

// Lookup finds the file that path names from at: ENOENT, ENOTDIR, EACCES,
// ELOOP, ENAMETOOLONG. flags: AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH.
func Lookup(ctx *Context, at Path, path string, flags int) (Path, error) {
	if path == "" && flags&unix.AT_EMPTY_PATH != 0 {
		return ctx.start(at), nil
	}
	w := newWalk(ctx)
	how := follow
	if flags&unix.AT_SYMLINK_NOFOLLOW != 0 {
		how = 0
	}
	p, _, err := w.walk(ctx.start(at), path, how)
	return p, err
}

// lookupParent finds the directory that holds the last component of path.
func lookupParent(ctx *Context, at Path, path string) (w walk, dir Path, last string, err error) {
	w = newWalk(ctx)
	dir, last, err = w.walk(ctx.start(at), path, parent)
	return w, dir, last, err
}

// walk resolves path from cur. With parent, last is the last component, which may be . or .. and
// is empty for a root; then w.slash says whether a slash followed it.
func (w *walk) walk(cur Path, path string, how int) (p Path, last string, err error) {
	if path == "" {
		return p, "", unix.ENOENT
	}
	if len(path) >= PathMax {
		return p, "", unix.ENAMETOOLONG
	}
	for {
		if path[0] == '/' {
			if cur, err = w.absolute(cur); err != nil {
				return p, "", err
			}
		}
		name, rest := split(path)
		if name == "" {
			break
		}
		if err := cur.search(w.ctx); err != nil {
			return p, "", err
		}
		if len(name) > NameMax {
			return p, "", unix.ENAMETOOLONG
		}
		behind := strings.TrimLeft(rest, "/")
		if how&parent != 0 && behind == "" {
			w.slash = rest != ""
			w.use(cur.Mount)
			return cur, name, nil
		}
		next, err := w.step(cur, name)
		if err != nil {
			return p, "", err
		}
		if next.Inode().Type() == unix.S_IFLNK && (rest != "" || how&follow != 0) {
			target, err := w.readlink(cur, next)
			if err != nil {
				return p, "", err
			}
			if target.jump.Valid() {
				next = target.jump
			} else {
				path = target.text + rest
				if path == "" {
					return p, "", unix.ENOENT
				}
				continue
			}
		}
		cur = next
		if behind == "" {
			if rest != "" && !cur.Inode().IsDir() {
				return p, "", unix.ENOTDIR
			}
			break
		}
		path = behind
	}
	w.use(cur.Mount)
	return cur, "", nil
}

// use says that a path that somebody has leads to a mount (MNT_EXPIRE).
func (w *walk) use(m *Mount) {
	if m.expiring.Load() && !w.umount {
		m.expiring.Store(false)
	}
}

// split cuts the first component off; rest begins with a slash or is empty.
func split(path string) (name, rest string) {
	i := 0
	for i < len(path) && path[i] == '/' {
		i++
	}
	j := i
	for j < len(path) && path[j] != '/' {
		j++
	}
	return path[i:j], path[j:]
}

// absolute returns where a path, or the target of a link found in cur, that begins with a slash starts: EXDEV.
func (w *walk) absolute(cur Path) (Path, error) {
	if w.resolve&unix.RESOLVE_BENEATH != 0 {
		return Path{}, unix.EXDEV
	}
	if w.resolve&unix.RESOLVE_NO_XDEV != 0 && w.links > 0 && cur.Mount != w.root.Mount {
		return Path{}, unix.EXDEV
	}
	return w.root, nil
}

// search checks that names may be looked up in p: ENOTDIR, EACCES.
func (p Path) search(ctx *Context) error {
	if i := p.Inode(); !i.IsDir() {
		return unix.ENOTDIR
	} else {
		return i.permits(ctx, MayExec)
	}
}

// step goes from a directory to one of its entries, and to what is mounted there.
func (w *walk) step(cur Path, name string) (Path, error) {
	switch name {
	case ".":
		return cur, nil
	case "..":
		return w.up(cur)
	}
	d, err := cur.Dentry.lookup(w.ctx, name)
	if err != nil {
		return Path{}, err
	}
	next := Path{cur.Mount, d}
	if d.mounts.Load() != 0 {
		next = w.ns.top(next)
		if w.resolve&unix.RESOLVE_NO_XDEV != 0 && next.Mount != cur.Mount {
			return Path{}, unix.EXDEV
		}
	}
	return next, nil
}

// lookup finds an entry by name: ENOENT.
func (d *Dentry) lookup(ctx *Context, name string) (*Dentry, error) {
	if d.dir != nil {
		if c := d.Child(name); c != nil {
			return c, nil
		}
		return nil, unix.ENOENT
	}
	if d.names != nil {
		return d.findCached(ctx, name)
	}
	i, err := d.inode.ops.Lookup(ctx, d, name)
	if err != nil {
		return nil, err
	}
	return newDentry(d, name, i).anchored(), nil
}

// up goes to the parent directory, which the root of the task is to itself.
func (w *walk) up(cur Path) (Path, error) {
	for {
		if cur == w.root {
			if w.resolve&unix.RESOLVE_BENEATH != 0 {
				return Path{}, unix.EXDEV
			}
			return cur, nil
		}
		if cur.Dentry != cur.Mount.Root {
			break
		}
		above, ok := w.ns.above(cur.Mount)
		if !ok {
			return cur, nil
		}
		if w.resolve&unix.RESOLVE_NO_XDEV != 0 {
			return Path{}, unix.EXDEV
		}
		cur = above
	}
	dir := cur.Dentry.parent.Load()
	if dir == nil {
		return cur, nil
	}
	top := w.ns.topOf(Path{cur.Mount, dir})
	if w.resolve&unix.RESOLVE_NO_XDEV != 0 && top.Mount != cur.Mount {
		return Path{}, unix.EXDEV
	}
	return top, nil
}

func (ns *Namespace) topOf(p Path) Path {
	if p.Dentry.mounts.Load() == 0 {
		return p
	}
	return ns.top(p)
}

// A linkTarget is where a symbolic link leads: a text, or at once a place.
type linkTarget struct {
	text string
	jump Path
}

// readlink returns where link, found in dir, leads: ELOOP, EACCES.
func (w *walk) readlink(dir, link Path) (t linkTarget, err error) {
	w.links++
	if w.links > maxLinks || w.resolve&unix.RESOLVE_NO_SYMLINKS != 0 || link.Mount.Flags()&unix.MS_NOSYMFOLLOW != 0 {
		return t, unix.ELOOP
	}
	i := link.Inode()
	if err := w.mayFollow(dir.Inode(), i); err != nil {
		return t, err
	}
	i.accessed(link.Mount)
	if t.jump, err = i.ops.Follow(w.ctx, i); err != nil {
		return t, err
	}
	if !t.jump.Valid() {
		t.text, err = i.ops.Readlink(w.ctx, i)
		return t, err
	}
	switch {
	case w.resolve&unix.RESOLVE_NO_MAGICLINKS != 0:
		return t, unix.ELOOP
	case w.resolve&(unix.RESOLVE_BENEATH|unix.RESOLVE_IN_ROOT) != 0:
		return t, unix.EXDEV
	case w.resolve&unix.RESOLVE_NO_XDEV != 0 && t.jump.Mount != link.Mount:
		return t, unix.EXDEV
	}
	return t, nil
}

// ProtectLinks is /proc/sys/fs/protected_symlinks and protected_hardlinks (proc(5)), both on.
var ProtectSymlinks, ProtectHardlinks = newFlag(true), newFlag(true)

func newFlag(v bool) *atomic.Bool {
	b := new(atomic.Bool)
	b.Store(v)
	return b
}

// mayFollow keeps others' links in sticky directories that all may write to from being followed.
func (w *walk) mayFollow(dir, link *Inode) error {
	const open = unix.S_ISVTX | unix.S_IWOTH
	if dir.mode.Load()&open != open || !ProtectSymlinks.Load() {
		return nil
	}
	owner := link.uid.Load()
	if owner == w.ctx.Cred.FSUID || owner == dir.uid.Load() {
		return nil
	}
	return unix.EACCES
}

// PathName returns the absolute name of p as a task whose root is root sees
// it, with " (deleted)" behind it when p has no name any more. ENOENT when
// p cannot be reached from root.
func PathName(p, root Path) (string, error) {
	var parts []string
	ns := p.Mount.ns
	deleted := false
	for p != root {
		if p.Dentry == p.Mount.Root {
			above, ok := ns.above(p.Mount)
			if !ok {
				return "", unix.ENOENT
			}
			p = above
			continue
		}
		dir := p.Dentry.parent.Load()
		if dir == nil {
			return "", unix.ENOENT
		}
		deleted = deleted || p.Dentry.gone.Load()
		parts = append(parts, p.Dentry.Name())
		p.Dentry = dir
	}
	size := len(parts)
	for _, s := range parts {
		size += len(s)
	}
	var b strings.Builder
	b.Grow(size + len(deletedMark) + 1)
	for i := len(parts) - 1; i >= 0; i-- {
		b.WriteByte('/')
		b.WriteString(parts[i])
	}
	if len(parts) == 0 {
		b.WriteByte('/')
	}
	if deleted {
		b.WriteString(deletedMark)
	}
	return b.String(), nil
}

const deletedMark = " (deleted)"

// top returns the highest directory above p: the root of its namespace, or of what was unmounted with p in it.
func top(p Path) Path {
	m := p.Mount
	for {
		above, ok := m.ns.above(m)
		if !ok {
			return Path{m, m.Root}
		}
		m = above.Mount
	}
}

// Getcwd is getcwd(2): ENOENT when the directory was removed, and
// "(unreachable)/…" when it is outside the root, in another namespace or unmounted.
func Getcwd(ctx *Context) (string, error) {
	if ctx.Cwd.Dentry.gone.Load() {
		return "", unix.ENOENT
	}
	name, err := PathName(ctx.Cwd, ctx.Root)
	if err != nil {
		name, err = PathName(ctx.Cwd, top(ctx.Cwd))
		name = "(unreachable)" + name
	}
	return name, err
}
