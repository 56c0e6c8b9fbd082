package overlay

import (
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
	"gosv/kernel/vfs"
)

// node is the overlay's part of an inode.
type node struct {
	vfs.InodeDefaults
	o     *overlay
	inode weakInode
	// lowers are where the file is in the lower layers: of a directory all that are merged, else one at most.
	lowers []vfs.Path

	// mu is held while the file is copied up, and guards what follows.
	mu     sync.Mutex
	parent *node  // nil: the root
	name   string // one of the names of the file
	links  int    // names that are left, of a file that was copied up from one with several
	hidden uint32 // names that were hidden while the file was in a lower layer

	upper atomic.Pointer[vfs.Path] // nil: not there; set once

	list listing // of a directory
}

// real returns where the file is: in the upper layer if it is there.
func (n *node) real() vfs.Path {
	if p := n.upper.Load(); p != nil {
		return *p
	}
	return n.lowers[0]
}

// merged reports whether several layers have the file.
func (n *node) merged() bool {
	return len(n.lowers) > 1 || len(n.lowers) == 1 && n.upper.Load() != nil
}

func nodeOf(i *vfs.Inode) *node { return i.Ops().(*node) }

// inode returns the overlay's inode for a file that is found in the layers.
func (o *overlay) inode(parent *node, name string, upper vfs.Path, lowers []vfs.Path, number uint64) *vfs.Inode {
	key := upper
	if len(lowers) > 0 {
		key = lowers[0]
	}
	if upper.Valid() {
		if i := o.known.Peek(upper.Inode()); i != nil {
			return i
		}
	}
	return o.known.Get(key.Inode(), func() *vfs.Inode {
		n := &node{o: o, lowers: slices.Clone(lowers), parent: parent, name: name}
		if upper.Valid() {
			n.upper.Store(&upper)
		}
		r := n.real().Inode()
		i := o.fs.NewInode(n, &vfs.NewNode{Mode: r.Mode(), UID: r.UID(), GID: r.GID(), Rdev: r.Rdev}, nil)
		i.Ino = number
		n.inode.set(i)
		n.refresh(i)
		runtime.AddCleanup(i, func(key *vfs.Inode) { o.known.Drop(key, nil) }, key.Inode())
		return i
	})
}

// Lookup implements vfs.InodeOps.
func (n *node) Lookup(_ *vfs.Context, _ *vfs.Dentry, name string) (*vfs.Inode, error) {
	e, err := n.find(name)
	if err != nil {
		return nil, err
	}
	if !e.visible() {
		return nil, unix.ENOENT
	}
	return n.o.inode(n, name, e.upper, e.lowers, e.number), nil
}

// entry is what the layers have under a name in a directory.
type entry struct {
	upper  vfs.Path // not Valid: nothing; a whiteout too
	hidden bool     // upper is a whiteout
	// lowers are those that are seen, and below says whether there is anything in the lower layers that a whiteout would hide.
	lowers []vfs.Path
	below  bool
	number uint64
}

func (e *entry) visible() bool { return e.upper.Valid() && !e.hidden || len(e.lowers) > 0 }

// find looks a name up in the layers of a directory.
func (n *node) find(name string) (e entry, err error) {
	stop := false // what lies deeper is not seen
	if up := n.upper.Load(); up != nil {
		switch e.upper, err = n.o.child(*up, name); {
		case err == nil:
			e.hidden = isWhiteout(e.upper)
			stop = e.hidden || !e.upper.Inode().IsDir()
			if !stop {
				stop, err = n.o.opaque(e.upper)
			}
		case err == unix.ENOENT:
			err = nil
		}
		if err != nil {
			return e, err
		}
	}
	for _, dir := range n.lowers {
		p, err := n.o.child(dir, name)
		if err == unix.ENOENT {
			continue
		}
		if err != nil {
			return e, err
		}
		if isWhiteout(p) {
			break
		}
		e.below = true
		isDir := p.Inode().IsDir()
		if stop || len(e.lowers) > 0 && !isDir || e.upper.Valid() && !isDir {
			break
		}
		e.lowers = append(e.lowers, p)
		if !isDir {
			break
		}
		if opaque, err := n.o.opaque(p); err != nil {
			return e, err
		} else if opaque {
			break
		}
	}
	return e, n.o.numberEntry(&e)
}

// numberEntry finds the inode number of an entry: that of its lowest origin which is known.
func (o *overlay) numberEntry(e *entry) error {
	switch {
	case !e.visible():
	case len(e.lowers) > 0:
		e.number = o.number(e.lowers[0])
	default:
		e.number = o.origin(e.upper)
	}
	return nil
}

func isWhiteout(p vfs.Path) bool {
	i := p.Inode()
	return i.Type() == unix.S_IFCHR && i.Rdev == 0
}

// opaque reports whether a directory of a layer hides those below it: EIO when it asks for what is not supported.
func (o *overlay) opaque(dir vfs.Path) (bool, error) {
	if !hasXattrs(dir) {
		return false, nil
	}
	if _, err := vfs.Getxattr(o.ctx, dir, o.prefix+"redirect"); err == nil {
		return false, unix.EIO
	}
	v, err := vfs.Getxattr(o.ctx, dir, o.prefix+"opaque")
	return err == nil && string(v) == "y", nil
}

// hasXattrs is false when a look at the attributes can be spared.
func hasXattrs(p vfs.Path) bool { return p.Inode().MayHaveXattrs() }

// The attribute origin holds the inode number of a file that was copied up. Its form is Linux's (struct ovl_fb), with a
// version that Linux passes over.
var originHead = [...]byte{1, 0xfb, originSize, 0, 0xff}

const originSize = 5 + 16 + 8

func (o *overlay) origin(p vfs.Path) uint64 {
	if hasXattrs(p) {
		if v, err := vfs.Getxattr(o.ctx, p, o.prefix+"origin"); err == nil && len(v) == originSize && [5]byte(v) == originHead {
			var number uint64
			for _, b := range v[originSize-8:] {
				number = number<<8 | uint64(b)
			}
			return number
		}
	}
	return o.number(p)
}

func (o *overlay) setOrigin(p vfs.Path, number uint64) error {
	v := make([]byte, originSize)
	copy(v, originHead[:])
	for i := range 8 {
		v[originSize-1-i] = byte(number >> (8 * i))
	}
	err := vfs.Setxattr(o.ctx, p, o.prefix+"origin", v, 0)
	if err == unix.EOPNOTSUPP {
		return nil // then the number changes when the file is found again
	}
	return err
}

// refresh copies the attributes of the real file.
func (n *node) refresh(i *vfs.Inode) {
	var st unix.Stat_t
	r := n.real().Inode()
	r.Stat(&st)
	nlink := uint32(st.Nlink)
	n.mu.Lock()
	switch {
	case n.links > 0:
		nlink = uint32(n.links)
	case n.upper.Load() == nil:
		nlink -= n.hidden
	}
	n.mu.Unlock()
	if i.IsDir() && n.merged() {
		nlink = 1 // as Linux: nobody has counted
	}
	if i.Nlink() == 0 && i.IsDir() {
		nlink = 0 // removed, though a layer has it
	}
	i.Restore(st.Mode, st.Uid, st.Gid, nlink)
	i.SetTimes(st.Atim.Nano(), st.Mtim.Nano(), st.Ctim.Nano())
	i.SetFlags(r.EnforcedFlags())
}

// Flags implements vfs.FlagOps: those of the real file.
func (n *node) Flags(*vfs.Inode) (uint32, error) {
	r := n.real().Inode()
	if o, ok := r.Ops().(vfs.FlagOps); ok {
		return o.Flags(r)
	}
	return 0, unix.ENOTTY
}

// ChangeFlags implements vfs.FlagOps.
func (n *node) ChangeFlags(c *cred.Cred, i *vfs.Inode, flags uint32) error {
	if err := n.copyUp(i, -1); err != nil {
		return err
	}
	err := n.real().Inode().ChangeFlags(c, flags)
	n.refresh(i)
	return err
}

// Refresh implements vfs.AttrOps.
func (n *node) Refresh(i *vfs.Inode) error {
	if err := n.real().Inode().Refresh(); err != nil {
		return err
	}
	n.refresh(i)
	return nil
}

// Space implements vfs.AttrOps.
func (n *node) Space(*vfs.Inode) (size, blocks int64) {
	var st unix.Stat_t
	n.real().Inode().Stat(&st)
	return st.Size, st.Blocks
}

// SetAttr implements vfs.AttrOps.
func (n *node) SetAttr(c *cred.Cred, i *vfs.Inode, a *vfs.Attr) error {
	data := int64(-1)
	if a.Valid&vfs.AttrSize != 0 {
		data = a.Size
	}
	if err := n.copyUp(i, data); err != nil {
		return err
	}
	err := n.real().Inode().Change(c, a)
	n.refresh(i)
	return err
}

// MayChange implements vfs.InodeOps.
func (n *node) MayChange(*vfs.Inode) error { return n.o.writable() }

// MaySetAttr implements vfs.InodeOps.
func (n *node) MaySetAttr(*vfs.Inode) error { return n.o.writable() }

// writable is EROFS when nothing can be changed.
func (o *overlay) writable() error {
	if !o.upper.Valid() {
		return unix.EROFS
	}
	return nil
}

// Readlink implements vfs.InodeOps.
func (n *node) Readlink(*vfs.Context, *vfs.Inode) (string, error) {
	r := n.real().Inode()
	return r.Ops().Readlink(n.o.ctx, r)
}

// own reports whether an attribute is the overlay's, which nobody sees.
func (o *overlay) own(name string) bool { return strings.HasPrefix(name, o.prefix) }

// Getxattr implements vfs.XattrOps.
func (n *node) Getxattr(_ *vfs.Inode, name string) ([]byte, error) {
	if n.o.own(name) {
		return nil, unix.EOPNOTSUPP
	}
	return vfs.Getxattr(n.o.ctx, n.real(), name)
}

// Listxattr implements vfs.XattrOps.
func (n *node) Listxattr(*vfs.Inode) ([]byte, error) {
	all, err := vfs.Listxattr(n.o.ctx, n.real())
	var list []byte
	for name := range strings.SplitSeq(string(all), "\x00") {
		if name != "" && !n.o.own(name) {
			list = append(append(list, name...), 0)
		}
	}
	return list, err
}

// Setxattr implements vfs.XattrOps.
func (n *node) Setxattr(i *vfs.Inode, name string, value []byte, flags int) error {
	if n.o.own(name) {
		return unix.EOPNOTSUPP
	}
	if err := n.copyUp(i, -1); err != nil {
		return err
	}
	err := vfs.Setxattr(n.o.ctx, n.real(), name, value, flags)
	n.refresh(i)
	return err
}

// Removexattr implements vfs.XattrOps.
func (n *node) Removexattr(i *vfs.Inode, name string) error {
	if n.o.own(name) {
		return unix.EOPNOTSUPP
	}
	if _, err := vfs.Getxattr(n.o.ctx, n.real(), name); err != nil {
		return err
	}
	if err := n.copyUp(i, -1); err != nil {
		return err
	}
	err := vfs.Removexattr(n.o.ctx, n.real(), name)
	n.refresh(i)
	return err
}
