package rootfs

import (
	"io/fs"
	"path"
	"strings"
	"syscall"
)

// Put puts a file at a path, in place of what is there. Symbolic links of the tree
// are followed in the directories above it, which are made where they are missing.
// A directory that takes the place of a directory keeps what is in that. It returns
// the path without symbolic links.
func (t *Tree) Put(name string, e Entry) (string, error) {
	full, err := t.locate(name)
	if err != nil {
		return "", err
	}
	if have := t.nodes[full]; have != nil && !(have.Mode.IsDir() && e.Mode.IsDir()) {
		t.remove(full)
	}
	return full, t.put(full, &node{Entry: e})
}

// Link gives the file at old, no directory, a second name. It returns the name without symbolic links.
func (t *Tree) Link(name, old string) (string, error) {
	from, err := t.locate(old)
	if err != nil {
		return "", err
	}
	full, err := t.locate(name)
	if err != nil {
		return "", err
	}
	n := t.nodes[from]
	switch {
	case n == nil:
		return "", &fs.PathError{Op: "link", Path: old, Err: fs.ErrNotExist}
	case n.Mode.IsDir():
		return "", &fs.PathError{Op: "link", Path: old, Err: syscall.EPERM}
	case from == full:
		return full, nil
	}
	if t.nodes[full] != nil {
		t.remove(full)
	}
	return full, t.put(full, n)
}

// Remove takes away the file or directory at a path, but for what keep says stays,
// and the directories above that. The root itself stays.
func (t *Tree) Remove(name string, keep func(full string) bool) error {
	full, err := t.locate(name)
	if err != nil {
		return err
	}
	if t.nodes[full] != nil {
		t.prune(full, keep)
	}
	return nil
}

// Clear empties a directory, but for what keep says stays.
func (t *Tree) Clear(name string, keep func(full string) bool) error {
	full, err := t.locate(name)
	if err != nil {
		return err
	}
	if n := t.nodes[full]; n != nil {
		for child := range n.names {
			t.prune(path.Join(full, child), keep)
		}
	}
	return nil
}

func (t *Tree) remove(full string) { t.prune(full, func(string) bool { return false }) }

// prune removes what lies at full and below, and reports whether all of it went.
func (t *Tree) prune(full string, keep func(string) bool) bool {
	n := t.nodes[full]
	gone := !keep(full) && full != "/"
	for child := range n.names {
		gone = t.prune(path.Join(full, child), keep) && gone
	}
	if gone {
		delete(t.nodes, full)
		delete(t.nodes[path.Dir(full)].names, path.Base(full))
	}
	return gone
}

// Stat returns what is at a path; all symbolic links are followed.
func (t *Tree) Stat(name string) (full string, e Entry, err error) {
	for range 40 {
		if full, err = t.locate(name); err != nil {
			return "", Entry{}, err
		}
		n := t.nodes[full]
		if n == nil {
			return full, Entry{}, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
		}
		if n.Mode&fs.ModeSymlink == 0 {
			return full, n.Entry, nil
		}
		name = n.Target
		if !strings.HasPrefix(name, "/") {
			name = path.Dir(full) + "/" + name
		}
	}
	return "", Entry{}, &fs.PathError{Op: "stat", Path: name, Err: syscall.ELOOP}
}

// Size returns how many bytes the regular files have together.
func (t *Tree) Size() (total int64) {
	for _, n := range t.nodes {
		total += n.Size
	}
	return total
}

// Scratch returns those of the directories that hold nothing: where a file system in
// memory can be mounted when the root cannot be changed.
func (t *Tree) Scratch(dirs ...string) []string {
	var list []string
	for _, name := range dirs {
		if full, e, err := t.Stat(name); err == nil && e.Mode.IsDir() && len(t.nodes[full].names) == 0 {
			list = append(list, name)
		}
	}
	return list
}

// Walk calls visit for every file, in the order of the paths.
func (t *Tree) Walk(visit func(full string, e Entry) error) error {
	for _, name := range t.sorted() {
		if err := visit(name, t.nodes[name].Entry); err != nil {
			return err
		}
	}
	return nil
}
