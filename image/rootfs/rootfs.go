// Package rootfs puts together the root file system of a virtual machine and
// packs it as an initramfs.
//
// A Tree is filled from the host's files, as they are or under other names, with
// files made up here, and with what container images hold (Put, Link, Remove).
// It is written in sorted order, so that equal files give equal bytes when
// Options.MTime is set. Host files are root's, unless Options.Owners says so.
package rootfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gosv/image/cpio"
	"gosv/image/sysroot"
)

// Options say how a Tree is made.
type Options struct {
	Source sysroot.Root // where Import and Copy find files
	MTime  *time.Time   // one modification time for everything; nil keeps that of the host's files
	Newest *time.Time   // files that are younger get this time; nil for no limit
	Made   time.Time    // the time of what is made up here; zero for now
	Owners bool         // keep the owners and the extended attributes of the host's files
}

// Tree is a root file system in the making. It is for one goroutine.
type Tree struct {
	options Options
	made    time.Time // modification time of what no host file gives one
	nodes   map[string]*node
	links   map[[2]uint64]*node // host files with several names, by device and inode
}

// node is one file of a Tree, under its absolute path. A file with several names is
// under each of them.
type node struct {
	Entry
	host    string              // host file with the contents
	implied bool                // a directory made only because something lies below it
	names   map[string]struct{} // what lies in a directory
}

// Entry describes a file.
type Entry struct {
	Mode         fs.FileMode
	UID, GID     uint32
	MTime        time.Time
	Target       string                        // of a symbolic link
	Size         int64                         // bytes
	Open         func() (io.ReadCloser, error) // contents of a regular file; nil when there are none
	Major, Minor uint32                        // of a device
	Changed      time.Time                     // of a host file: when it was last changed in any way (st_ctime); it is not written
	Xattrs       map[string]string
}

// New returns a Tree that holds nothing but the root directory.
func New(o Options) *Tree {
	t := &Tree{options: o, made: o.Made, nodes: map[string]*node{}}
	if t.made.IsZero() {
		t.made = time.Now()
	}
	t.nodes["/"] = t.newDir(0o755)
	return t
}

// Dir makes a directory, and those above it. Where there is one it only sets
// its permissions.
func (t *Tree) Dir(name string, perm fs.FileMode) error {
	return t.add(name, t.newDir(perm))
}

func (t *Tree) newDir(perm fs.FileMode) *node {
	return &node{Entry: Entry{Mode: fs.ModeDir | perm, MTime: t.made}}
}

// File makes a regular file, and the directories above it. It replaces a file.
func (t *Tree) File(name string, perm fs.FileMode, data []byte) error {
	return t.add(name, &node{Entry: Entry{Mode: perm, MTime: t.made, Size: int64(len(data)), Open: func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(data)), nil
	}}})
}

// Has says whether the tree has a file of that name; symbolic links on the way
// are followed, the last is not.
func (t *Tree) Has(name string) bool {
	full, err := t.locate(name)
	return err == nil && t.nodes[full] != nil
}

// Import adds a file of the source under its own name, with every directory and
// symbolic link that a lookup of it goes through: what opens name there opens
// the same file in the tree. A directory is added without its contents.
func (t *Tree) Import(name string) error {
	steps, err := t.options.Source.Walk(name)
	if err != nil {
		return err
	}
	for _, s := range steps {
		n, err := t.hostNode(s.Path, s.Info)
		if err != nil {
			return err
		}
		if n.Mode.IsDir() && !t.options.Made.IsZero() {
			n.MTime = t.made // a folder's own time changes with files that have no part in this
		}
		if have := t.nodes[s.Path]; have != nil && !have.implied && have.Mode.Type() == n.Mode.Type() && have.Target == n.Target {
			continue
		}
		if err := t.put(s.Path, n); err != nil {
			return err
		}
	}
	return nil
}

// Copy adds the source's file or directory from, with all that lies below it,
// under the name to. A symbolic link at from is followed; those below are kept.
func (t *Tree) Copy(from, to string) error {
	real, info, err := t.options.Source.Resolve(from)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		n, err := t.hostNode(real, info)
		if err != nil {
			return err
		}
		return t.add(to, n)
	}
	base := t.options.Source.Host(real)
	return filepath.WalkDir(base, func(host string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		below := strings.TrimPrefix(host, base)
		n, err := t.hostNode(path.Join(real, below), info)
		if errors.Is(err, errSpecial) {
			return nil // sockets and devices of the host mean nothing in the guest, nor do pipes that are no part of a root
		}
		if err != nil {
			return err
		}
		return t.add(path.Join(to, below), n)
	})
}

var errSpecial = errors.New("neither a file, a directory nor a symbolic link")

// hostNode describes the source's file at a resolved name.
func (t *Tree) hostNode(name string, info fs.FileInfo) (*node, error) {
	host := t.options.Source.Host(name)
	n := &node{Entry: Entry{Mode: info.Mode() & (fs.ModeType | fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky), MTime: info.ModTime()}}
	switch {
	case info.Mode().IsRegular():
		n.host, n.Size = host, info.Size()
		n.Open = func() (io.ReadCloser, error) { return os.Open(host) }
	case info.IsDir(), info.Mode().Type() == fs.ModeNamedPipe && t.options.Owners:
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(host)
		if err != nil {
			return nil, err
		}
		n.Target = target
	default:
		return nil, &fs.PathError{Op: "copy", Path: host, Err: errSpecial}
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if ok {
		n.Changed = time.Unix(st.Ctim.Unix())
	}
	if ok && t.options.Owners {
		n.UID, n.GID = st.Uid, st.Gid
		var err error
		if n.Xattrs, err = hostXattrs(host); err != nil {
			return nil, err
		}
		if st.Nlink > 1 && n.Mode.IsRegular() {
			return t.hardLink(st, n), nil
		}
	}
	return n, nil
}

// hardLink returns the node of a file that has several names: one for all of them.
func (t *Tree) hardLink(st *syscall.Stat_t, n *node) *node {
	id := [2]uint64{st.Dev, st.Ino}
	if t.links == nil {
		t.links = map[[2]uint64]*node{}
	}
	if have := t.links[id]; have != nil {
		return have
	}
	t.links[id] = n
	return n
}

// hostXattrs reads the extended attributes of a host file that an image can
// keep. Those of SELinux and of overlay file systems belong to the host.
func hostXattrs(host string) (map[string]string, error) {
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(host, buf)
	if err == unix.ENOTSUP || n == 0 && err == nil {
		return nil, nil
	}
	if err != nil {
		return nil, &fs.PathError{Op: "listxattr", Path: host, Err: err}
	}
	list := map[string]string{}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		if !KeepXattr(name) {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(host, name, value)
		if err != nil {
			return nil, &fs.PathError{Op: "getxattr", Path: host, Err: err}
		}
		list[name] = string(value[:n])
	}
	return list, nil
}

// KeepXattr says whether an extended attribute is part of a file, and not of
// the system that it lay on.
func KeepXattr(name string) bool {
	return strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "user.overlay.") || name == "security.capability"
}

// add puts n at name, symbolic links of the tree followed in the directories
// above it, which are made where they are missing.
func (t *Tree) add(name string, n *node) error {
	full, err := t.locate(name)
	if err != nil {
		return err
	}
	return t.put(full, n)
}

// put puts n at a path whose directories are none of them symbolic links.
func (t *Tree) put(full string, n *node) error {
	have := t.nodes[full]
	if have != nil && have.Mode.IsDir() != n.Mode.IsDir() {
		return &fs.PathError{Op: "pack", Path: full, Err: fmt.Errorf("%w: it would be a directory and a file at once", fs.ErrExist)}
	}
	above := path.Dir(full)
	for t.nodes[above] == nil && above != "/" {
		above = path.Dir(above)
	}
	if n := t.nodes[above]; n != nil && !n.Mode.IsDir() {
		return &fs.PathError{Op: "pack", Path: full, Err: syscall.ENOTDIR}
	}
	for at := full; at != "/"; at = path.Dir(at) {
		dir := path.Dir(at)
		parent := t.nodes[dir]
		if parent == nil {
			parent = t.newDir(0o755)
			parent.implied = true
			t.nodes[dir] = parent
		}
		if parent.names == nil {
			parent.names = map[string]struct{}{}
		}
		if _, ok := parent.names[path.Base(at)]; ok {
			break
		}
		parent.names[path.Base(at)] = struct{}{}
	}
	if have != nil {
		n.names = have.names
	}
	t.nodes[full] = n
	return nil
}

// locate follows the tree's own symbolic links in all components of name but
// the last.
func (t *Tree) locate(name string) (string, error) {
	const maxLinks = 40
	at, rest := "/", name
	for links := 0; ; {
		rest = strings.TrimLeft(rest, "/")
		if rest == "" {
			return at, nil
		}
		component, tail, more := strings.Cut(rest, "/")
		rest = tail
		switch component {
		case ".":
			continue
		case "..":
			at = path.Dir(at)
			continue
		}
		here := path.Join(at, component)
		n := t.nodes[here]
		if !more || n == nil || n.Mode&fs.ModeSymlink == 0 {
			at = here
			continue
		}
		if links++; links > maxLinks {
			return "", &fs.PathError{Op: "pack", Path: name, Err: syscall.ELOOP}
		}
		if strings.HasPrefix(n.Target, "/") {
			at = "/"
		}
		rest = n.Target + "/" + tail
	}
}

// RunFileName is the archive entry that tells the kernel what to run. It is the
// first, and the kernel does not show it in its root file system.
const RunFileName = ".gosv/run"

// Pack writes the tree as a cpio archive. A run file, when not nil, comes first.
func (t *Tree) Pack(out io.Writer, runFile []byte) error {
	w := cpio.NewWriter(out)
	if runFile != nil {
		h := cpio.Header{Name: RunFileName, Mode: syscall.S_IFREG | 0o400, Size: int64(len(runFile))}
		if err := w.Write(h, bytes.NewReader(runFile)); err != nil {
			return err
		}
	}
	for _, name := range t.sorted() {
		if err := t.packNode(w, name, t.nodes[name]); err != nil {
			return err
		}
	}
	return w.Close()
}

// sorted returns the paths of all files; a directory comes before what it holds.
func (t *Tree) sorted() []string { return slices.Sorted(maps.Keys(t.nodes)) }

func (t *Tree) packNode(w *cpio.Writer, name string, n *node) error {
	h := cpio.Header{Name: strings.TrimPrefix(name, "/"), Mode: unixMode(n.Mode), UID: n.UID, GID: n.GID, Size: n.Size,
		MTime: t.mtime(n).Unix(), RMajor: n.Major, RMinor: n.Minor}
	if name == "/" {
		h.Name = "."
	}
	if n.Target != "" {
		h.Size = int64(len(n.Target))
		return w.Write(h, strings.NewReader(n.Target))
	}
	if n.Open == nil {
		return w.Write(h, nil)
	}
	f, err := n.Open()
	if err != nil {
		return err
	}
	defer f.Close()
	if err := w.Write(h, f); errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%s became shorter while it was packed", n.host)
	} else if err != nil {
		return err
	}
	return nil
}

func (t *Tree) mtime(n *node) time.Time {
	if t.options.MTime != nil {
		return *t.options.MTime
	}
	if newest := t.options.Newest; newest != nil && n.MTime.After(*newest) {
		return *newest
	}
	return n.MTime
}

// unixMode returns st_mode for a mode, see inode(7).
func unixMode(m fs.FileMode) uint32 {
	mode := uint32(m.Perm())
	switch m.Type() {
	case fs.ModeDir:
		mode |= syscall.S_IFDIR
	case fs.ModeSymlink:
		mode |= syscall.S_IFLNK
	case fs.ModeDevice:
		mode |= syscall.S_IFBLK
	case fs.ModeDevice | fs.ModeCharDevice:
		mode |= syscall.S_IFCHR
	case fs.ModeNamedPipe:
		mode |= syscall.S_IFIFO
	case fs.ModeSocket:
		mode |= syscall.S_IFSOCK
	default:
		mode |= syscall.S_IFREG
	}
	for bit, unix := range map[fs.FileMode]uint32{fs.ModeSetuid: syscall.S_ISUID, fs.ModeSetgid: syscall.S_ISGID, fs.ModeSticky: syscall.S_ISVTX} {
		if m&bit != 0 {
			mode |= unix
		}
	}
	return mode
}
