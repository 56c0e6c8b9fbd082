// Package rootfs puts together the root file system of a virtual machine and
// packs it as an initramfs.
//
// A Tree is filled from the host's files, as they are or under other names, and
// with files made up here. It is written in sorted order, with every file owned
// by root, so that equal files give equal bytes when Options.MTime is set.
package rootfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"gosv/image/cpio"
	"gosv/image/sysroot"
)

// Options say how a Tree is made.
type Options struct {
	Source sysroot.Root // where Import and Copy find files
	MTime  *time.Time   // one modification time for everything; nil keeps that of the host's files
}

// Tree is a root file system in the making. It is for one goroutine.
type Tree struct {
	options Options
	made    time.Time // modification time of what no host file gives one
	nodes   map[string]*node
}

// node is one file of a Tree, under its absolute path.
type node struct {
	mode    fs.FileMode
	mtime   time.Time
	target  string // of a symbolic link
	data    []byte // contents, unless they come from the host
	host    string // host file with the contents
	size    int64
	implied bool // a directory made only because something lies below it
}

// New returns a Tree that holds nothing but the root directory.
func New(o Options) *Tree {
	t := &Tree{options: o, made: time.Now(), nodes: map[string]*node{}}
	t.nodes["/"] = &node{mode: fs.ModeDir | 0o755, mtime: t.made}
	return t
}

// Dir makes a directory, and those above it. Where there is one it only sets
// its permissions.
func (t *Tree) Dir(name string, perm fs.FileMode) error {
	return t.add(name, &node{mode: fs.ModeDir | perm, mtime: t.made})
}

// File makes a regular file, and the directories above it. It replaces a file.
func (t *Tree) File(name string, perm fs.FileMode, data []byte) error {
	return t.add(name, &node{mode: perm, mtime: t.made, data: data, size: int64(len(data))})
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
		if have := t.nodes[s.Path]; have != nil && !have.implied && have.mode.Type() == n.mode.Type() && have.target == n.target {
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
			return nil // sockets, pipes and devices of the host mean nothing in the guest
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
	n := &node{mode: info.Mode() & (fs.ModeType | fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky), mtime: info.ModTime()}
	switch {
	case info.Mode().IsRegular():
		n.host, n.size = host, info.Size()
	case info.IsDir():
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(host)
		if err != nil {
			return nil, err
		}
		n.target, n.size = target, int64(len(target))
	default:
		return nil, &fs.PathError{Op: "copy", Path: host, Err: errSpecial}
	}
	return n, nil
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
	if have != nil && have.mode.IsDir() != n.mode.IsDir() {
		return &fs.PathError{Op: "pack", Path: full, Err: fmt.Errorf("%w: it would be a directory and a file at once", fs.ErrExist)}
	}
	for dir := path.Dir(full); t.nodes[dir] == nil; dir = path.Dir(dir) {
		t.nodes[dir] = &node{mode: fs.ModeDir | 0o755, mtime: t.made, implied: true}
	}
	if parent := t.nodes[path.Dir(full)]; !parent.mode.IsDir() {
		return &fs.PathError{Op: "pack", Path: full, Err: syscall.ENOTDIR}
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
		if !more || n == nil || n.mode&fs.ModeSymlink == 0 {
			at = here
			continue
		}
		if links++; links > maxLinks {
			return "", &fs.PathError{Op: "pack", Path: name, Err: syscall.ELOOP}
		}
		if strings.HasPrefix(n.target, "/") {
			at = "/"
		}
		rest = n.target + "/" + tail
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
	names := make([]string, 0, len(t.nodes))
	for name := range t.nodes {
		names = append(names, name)
	}
	slices.Sort(names) // a directory sorts before what it holds
	for _, name := range names {
		if err := t.packNode(w, name, t.nodes[name]); err != nil {
			return err
		}
	}
	return w.Close()
}

func (t *Tree) packNode(w *cpio.Writer, name string, n *node) error {
	h := cpio.Header{Name: strings.TrimPrefix(name, "/"), Mode: unixMode(n.mode), Size: n.size, MTime: n.mtime.Unix()}
	if name == "/" {
		h.Name = "."
	}
	if t.options.MTime != nil {
		h.MTime = t.options.MTime.Unix()
	}
	switch {
	case n.target != "":
		return w.Write(h, strings.NewReader(n.target))
	case n.host == "":
		return w.Write(h, bytes.NewReader(n.data))
	}
	f, err := os.Open(n.host)
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

// unixMode returns st_mode for a mode, see inode(7).
func unixMode(m fs.FileMode) uint32 {
	mode := uint32(m.Perm())
	switch m.Type() {
	case fs.ModeDir:
		mode |= syscall.S_IFDIR
	case fs.ModeSymlink:
		mode |= syscall.S_IFLNK
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
