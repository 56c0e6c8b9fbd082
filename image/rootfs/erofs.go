package rootfs

import (
	"io"
	"path"

	"gosv/image/erofs"
)

// WriteEROFS writes the tree as an EROFS file system and returns its size in bytes.
func (t *Tree) WriteEROFS(out io.WriterAt, o erofs.Options) (int64, error) {
	inodes := make(map[*node]*erofs.Inode, len(t.nodes))
	for _, name := range t.sorted() {
		n := t.nodes[name]
		i := inodes[n]
		if i == nil {
			i = t.inode(n)
			inodes[n] = i
		}
		if name != "/" {
			inodes[t.nodes[path.Dir(name)]].Entries[path.Base(name)] = i
		}
	}
	return erofs.Write(out, inodes[t.nodes["/"]], o)
}

func (t *Tree) inode(n *node) *erofs.Inode {
	when := t.mtime(n)
	i := &erofs.Inode{Mode: unixMode(n.Mode), UID: n.UID, GID: n.GID, MTime: when.Unix(), Nanosec: uint32(when.Nanosecond()),
		Major: n.Major, Minor: n.Minor, Size: n.Size, Open: n.Open, Target: n.Target, Xattrs: n.Xattrs}
	if n.Mode.IsDir() {
		i.Entries = make(map[string]*erofs.Inode, len(n.names))
	}
	return i
}
