// Package overlay joins directories (layers) into one tree, as Linux's overlayfs does (Documentation/filesystems/overlayfs.rst):
// what is changed goes to the upper layer, copied there first when it came from a lower one. A character device 0:0
// in a layer (a whiteout) hides a name of the layers below it, the attribute trusted.overlay.opaque of a directory all
// that they have in it. Without an upper layer nothing can be changed.
//
// Different from Linux's default: hard links of a lower file stay links of one file after it is copied up, as with
// index=on, as long as the file system is mounted; and a file that was opened for reading before sees what is written later.
// Renaming a directory that has a lower part is EXDEV (redirect_dir=nofollow); a redirected or metadata-only entry of
// another overlay is EIO.
//
// The layers must not be changed by others meanwhile. Inode numbers are those of the layers, marked with the layer, and stay
// when a file is copied up.
//
// Lock order: the locks of package vfs for the overlay's names and inodes → node.mu, a child before its parent →
// the locks of the layers' file systems. node.list is a leaf.
package overlay

import (
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
	"gosv/kernel/vfs"
)

// maxLowers is the most lower layers (Linux's OVL_MAX_STACK).
const maxLowers = 500

// Config says which directories become one.
type Config struct {
	Namespace *vfs.Namespace // that the layers are in
	// Lower are the layers that are only read, the topmost first: at least one.
	Lower []vfs.Path
	// Upper is the layer that takes changes; not Valid: none. Work is an empty directory on the same file system.
	Upper, Work vfs.Path
	// Cred has the rights for work on the layers.
	Cred *cred.Cred
	// UserXattr makes the overlay's own attributes user.overlay.* in place of trusted.overlay.*.
	UserXattr bool
	Now       func() int64 // ns
}

// overlay is one mounted overlay.
type overlay struct {
	fs     *vfs.FS
	ctx    *vfs.Context // for work on the layers
	upper  vfs.Path
	work   vfs.Path
	lowers []vfs.Path
	layers map[*vfs.FS]uint64 // mark of each layer's file system in inode numbers
	prefix string             // of the overlay's own attributes
	known  vfs.InodeTable[*vfs.Inode]
	temp   atomic.Uint64 // last number of a temporary name
	pins   pins
}

// New returns the file system; it keeps the layers busy until it is unmounted. EINVAL when the layers do not fit together,
// and what making the work directory's folders gives.
func New(c Config, r *vfs.MountRequest) (*vfs.FS, error) {
	switch {
	case len(c.Lower) == 0:
		return nil, r.Fail(unix.EINVAL, "no lowerdir")
	case len(c.Lower) > maxLowers:
		return nil, r.Fail(unix.EINVAL, "too many lower layers")
	case c.Upper.Valid() != c.Work.Valid():
		return nil, r.Fail(unix.EINVAL, "upperdir and workdir go together")
	}
	o := &overlay{layers: make(map[*vfs.FS]uint64), prefix: "trusted.overlay."}
	if c.UserXattr {
		o.prefix = "user.overlay."
	}
	for _, p := range append([]vfs.Path{c.Upper, c.Work}, c.Lower...) {
		if p.Valid() && !p.Inode().IsDir() {
			return nil, r.Fail(unix.ENOTDIR, "a layer is not a directory")
		}
	}
	if err := checkApart(c, r); err != nil {
		return nil, err
	}
	if c.Upper.Valid() {
		if err := checkUpper(c, r); err != nil {
			return nil, err
		}
		o.upper = c.Namespace.Private(c.Upper, 0)
		o.work = vfs.Path{Mount: o.upper.Mount, Dentry: c.Work.Dentry} // renames go from one to the other
		o.mark(c.Upper.Mount.FS)
	}
	for _, p := range c.Lower {
		o.lowers = append(o.lowers, c.Namespace.Private(p, unix.MS_RDONLY))
		o.mark(p.Mount.FS)
	}
	start := o.lowers[0]
	if o.upper.Valid() {
		start = o.upper
	}
	o.ctx = &vfs.Context{Root: start, Cwd: start, Cred: c.Cred}
	if o.upper.Valid() {
		if err := o.prepareWork(); err != nil {
			o.Unmounted()
			return nil, r.Fail(err, "the work directory cannot be used")
		}
	}
	o.fs = vfs.NewFS("overlay", o, c.Now)
	o.fs.Cached, o.fs.NoAtime, o.fs.ReadOnly = true, true, !o.upper.Valid()
	o.fs.SetRoot(o.inode(nil, "", o.upper, o.lowers, o.number(start)))
	return o.fs, nil
}

// checkApart refuses lower layers that are another layer, or in one: ELOOP.
func checkApart(c Config, r *vfs.MountRequest) error {
	all := append([]vfs.Path{c.Upper, c.Work}, c.Lower...)
	for i, p := range c.Lower {
		for k, q := range all {
			if q.Valid() && k != i+2 && p.Mount.FS == q.Mount.FS && below(p.Dentry, q.Dentry) {
				return r.Fail(unix.ELOOP, "layers overlap")
			}
		}
	}
	return nil
}

func checkUpper(c Config, r *vfs.MountRequest) error {
	switch {
	case c.Upper.Mount.FS != c.Work.Mount.FS || c.Upper.Mount != c.Work.Mount:
		return r.Fail(unix.EINVAL, "workdir and upperdir must be on one mount")
	case below(c.Upper.Dentry, c.Work.Dentry) || below(c.Work.Dentry, c.Upper.Dentry):
		return r.Fail(unix.EINVAL, "workdir and upperdir must be apart")
	case c.Upper.Mount.Flags()&unix.MS_RDONLY != 0:
		return r.Fail(unix.EROFS, "upperdir is on a read-only mount")
	}
	return nil
}

// below reports whether d is a or below it.
func below(d, a *vfs.Dentry) bool {
	for ; d != nil; d = d.Parent() {
		if d == a {
			return true
		}
	}
	return false
}

// mark gives a layer's file system a number of its own in the overlay's inode numbers.
func (o *overlay) mark(fs *vfs.FS) {
	if _, ok := o.layers[fs]; !ok {
		o.layers[fs] = uint64(len(o.layers))
	}
}

// number is the overlay's inode number for a file of a layer, if it has that of the layer's file.
func (o *overlay) number(p vfs.Path) uint64 {
	return p.Inode().Ino ^ o.layers[p.Mount.FS]<<48
}

const workName = "work"

// prepareWork makes the directory for what is in the making, and empties one that is left.
func (o *overlay) prepareWork() error {
	if p, err := o.child(o.work, workName); err == nil {
		if err := o.clear(p); err != nil {
			return err
		}
		o.work.Dentry, err = p.Dentry, nil
		return err
	}
	p, err := o.work.Make(workName, &vfs.NewNode{Mode: unix.S_IFDIR})
	if err != nil {
		return err
	}
	o.work.Dentry = p.Dentry
	return nil
}

// tempName returns a name for the work directory.
func (o *overlay) tempName() string { return "#" + strconv.FormatUint(o.temp.Add(1), 16) }

// child looks a name up in a directory of a layer: ENOENT.
func (o *overlay) child(dir vfs.Path, name string) (vfs.Path, error) {
	return vfs.Lookup(o.ctx, dir, name, unix.AT_SYMLINK_NOFOLLOW)
}

// clear removes all that is in a directory of a layer.
func (o *overlay) clear(dir vfs.Path) error {
	names, err := o.names(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := o.remove(dir, name); err != nil {
			return err
		}
	}
	return nil
}

// names lists a directory of a layer.
func (o *overlay) names(dir vfs.Path) (names []string, err error) {
	err = vfs.ReadDir(o.ctx, dir, func(e vfs.Dirent) bool {
		names = append(names, e.Name)
		return true
	})
	return names, err
}

// remove removes an entry of a layer, a directory with all that is in it.
func (o *overlay) remove(dir vfs.Path, name string) error {
	p, err := o.child(dir, name)
	if err != nil {
		return err
	}
	if !p.Inode().IsDir() {
		return vfs.Unlink(o.ctx, dir, name)
	}
	if err := o.clear(p); err != nil {
		return err
	}
	return vfs.Rmdir(o.ctx, dir, name)
}

// Statfs implements vfs.FSOps.
func (o *overlay) Statfs(s *unix.Statfs_t) {
	top := o.upper
	if !top.Valid() {
		top = o.lowers[0]
	}
	var st unix.Statfs_t
	vfs.Statfs(top, &st)
	s.Bsize, s.Frsize, s.Blocks, s.Bfree, s.Bavail, s.Files, s.Ffree = st.Bsize, st.Frsize, st.Blocks, st.Bfree, st.Bavail, st.Files, st.Ffree
	s.Type = unix.OVERLAYFS_SUPER_MAGIC
}

// Sync implements vfs.FSOps.
func (o *overlay) Sync() error {
	if o.upper.Valid() {
		return o.upper.Mount.FS.Sync()
	}
	return nil
}

// Unmounted implements vfs.FSOps.
func (o *overlay) Unmounted() {
	o.pins.drop()
	if o.fs != nil {
		o.fs.DropNames()
	}
	if o.upper.Valid() {
		o.upper.EndPrivate()
	}
	for _, p := range o.lowers {
		p.EndPrivate()
	}
}

// Type returns what makes overlays for mount(2).
func Type(now func() int64) vfs.Type {
	return vfs.Type{Name: "overlay", New: func(r *vfs.MountRequest) (*vfs.FS, error) {
		c := Config{Namespace: r.Ctx.Root.Namespace(), Cred: r.Ctx.Cred, Now: now}
		if err := c.parse(r); err != nil {
			return nil, err
		}
		return New(c, r)
	}}
}

// parse reads the mount options (Documentation/filesystems/overlayfs.rst): EINVAL, and what looking the directories up gives.
func (c *Config) parse(r *vfs.MountRequest) error {
	var failure error
	find := func(name string) (p vfs.Path) {
		if failure == nil {
			p, failure = vfs.Lookup(r.Ctx, vfs.Path{}, name, 0)
			if failure != nil {
				failure = r.Fail(failure, "no directory "+name)
			}
		}
		return p
	}
	err := r.EachOption(func(key, value string) bool {
		switch key {
		case "lowerdir":
			if len(c.Lower) > 0 {
				return false
			}
			for _, name := range splitLayers(value) {
				if name == "" {
					return false
				}
				c.Lower = append(c.Lower, find(name))
			}
		case "upperdir":
			c.Upper = find(strings.ReplaceAll(value, `\:`, ":"))
		case "workdir":
			c.Work = find(strings.ReplaceAll(value, `\:`, ":"))
		case "userxattr":
			c.UserXattr = true
		case "index", "xino":
			return value == "on" || value == "off" || value == "auto" && key == "xino"
		case "redirect_dir":
			return value == "off" || value == "nofollow"
		case "metacopy", "nfs_export":
			return value == "off"
		case "volatile":
			return value == ""
		default:
			return false
		}
		return value != "" || key == "userxattr"
	})
	if err == nil {
		err = failure
	}
	if err == nil && len(c.Lower) == 1 && !c.Upper.Valid() {
		err = r.Fail(unix.EINVAL, "without upperdir there must be two lower layers")
	}
	return err
}

// splitLayers splits at colons that have no backslash before them.
func splitLayers(s string) (names []string) {
	var b []byte
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s):
			i++
			b = append(b, s[i])
		case s[i] == ':':
			names = append(names, string(b))
			b = b[:0]
		default:
			b = append(b, s[i])
		}
	}
	return append(names, string(b))
}
