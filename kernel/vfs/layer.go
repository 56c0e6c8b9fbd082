package vfs

import "golang.org/x/sys/unix"

// What file systems need that lie over others, as fs/overlay does.

// Private returns the place p on a mount of its own that is in nobody's tree: nothing is mounted below it, and nobody can
// reach or unmount it. EndPrivate gives it back.
func (ns *Namespace) Private(p Path, flags uint64) Path {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	return Path{ns.newMount(p.Mount.FS, p.Dentry, p.Mount.Source, flags), p.Dentry}
}

// PrivateFS is Private for the root of a file system that is mounted nowhere.
func (ns *Namespace) PrivateFS(fs *FS, source string) Path {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	return Path{ns.newMount(fs, fs.root, source, unix.MS_RELATIME), fs.root}
}

// EndPrivate ends Private and PrivateFS, once for each. Files that are open keep the file system.
func (p Path) EndPrivate() {
	m := p.Mount
	m.ns.mu.Lock()
	m.detached = true
	m.ns.mu.Unlock()
	m.unused()
}

// Make is Dentry.Make for a place, with n's owner and mode as they are: EROFS, EEXIST, ENOSPC.
func (p Path) Make(name string, n *NewNode) (Path, error) {
	if p.Mount.Flags()&unix.MS_RDONLY != 0 {
		return Path{}, unix.EROFS
	}
	d, err := p.Dentry.Make(name, n)
	return Path{p.Mount, d}, err
}

// MakeNameless makes a file without a name in the directory p (O_TMPFILE), which may get one unless O_EXCL is in n's flags:
// EOPNOTSUPP, EROFS, ENOSPC.
func (p Path) MakeNameless(n *NewNode) (Path, error) {
	if p.Mount.Flags()&unix.MS_RDONLY != 0 {
		return Path{}, unix.EROFS
	}
	i, err := p.Inode().ops.Create(p.Inode(), "", n)
	if err != nil {
		return Path{}, err
	}
	i.nlink.Store(0)
	i.linkable.Store(n.Flags&unix.O_EXCL == 0)
	d := newDentry(p.Dentry, "#"+itoa(i.Ino), i)
	d.gone.Store(true)
	return Path{p.Mount, d}, nil
}

// MayHaveXattrs is false when i has no extended attributes, without asking anybody.
func (i *Inode) MayHaveXattrs() bool {
	if _, ok := i.ops.(XattrOps); ok {
		return true
	}
	return i.rare.Load() != nil
}

// Namespace returns the tree that p is in.
func (p Path) Namespace() *Namespace { return p.Mount.ns }
