package vfs

import (
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// asked is a file system that is asked for each name each time: every name is a directory.
type asked struct{ InodeDefaults }

func (asked) Statfs(*unix.Statfs_t) {}
func (asked) Sync() error           { return nil }
func (asked) Unmounted()            {}

func (asked) Lookup(_ *Context, d *Dentry, _ string) (*Inode, error) {
	return d.inode.fs.NewInode(&asked{}, &NewNode{Mode: unix.S_IFDIR | 0o755}, nil), nil
}

// The anchors are those of mounts that there are, and few more; a place that was mounted on is found again by another way too.
func TestAnchors(t *testing.T) {
	now := func() int64 { return 0 }
	newAsked := func() *FS {
		fs := NewFS("asked", &asked{}, now)
		fs.SetRoot(fs.NewInode(&asked{}, &NewNode{Mode: unix.S_IFDIR | 0o755}, nil))
		return fs
	}
	fs := newAsked()
	ns := NewNamespace(fs, nil)
	root := ns.Root()
	look := func(names ...string) *Dentry {
		d := root.Dentry
		for _, n := range names {
			var err error
			if d, err = d.lookup(nil, n); err != nil {
				t.Fatal(err)
			}
		}
		return d
	}
	early := look("a", "b")
	if once := look("a"); once == look("a") {
		t.Fatal("names are kept without a mount")
	}
	m, err := ns.attach(Path{root.Mount, early}, newAsked(), newAsked().root, "x", 0)
	if err != nil {
		t.Fatal(err)
	}
	if look("a", "b") != m.point || look("a", "b").mounts.Load() != 1 {
		t.Error("the mount is not found")
	}
	other := newDentry(newDentry(root.Dentry, "a", early.inode), "b", early.inode) // of a directory that was found before
	if other.anchored() != m.point || ns.anchor(other) != m.point {
		t.Error("another way does not lead there")
	}
	for i := range 1000 {
		name := strconv.Itoa(i)
		o, err := ns.attach(Path{root.Mount, look("c", name)}, newAsked(), newAsked().root, "x", 0)
		if err != nil {
			t.Fatal(err)
		}
		if look("c", name) != o.point {
			t.Fatal("not found:", name)
		}
		ns.mu.Lock()
		ns.discard(o)
		ns.mu.Unlock()
		if len(fs.anchors.at) > minAnchors+2 {
			t.Fatal(len(fs.anchors.at), "anchors")
		}
	}
	if look("a", "b") != m.point {
		t.Error("the mount was lost")
	}
}
