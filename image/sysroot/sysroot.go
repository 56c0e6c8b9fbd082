// Package sysroot looks at a directory tree the way a program sees it that has
// the tree as its root: absolute symbolic links start at the tree's root and
// ".." cannot leave it (path_resolution(7)).
package sysroot

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
)

// maxLinks is how many symbolic links one lookup follows before it fails with
// ELOOP, as on Linux.
const maxLinks = 40

// Root is the directory that is "/". The zero value is the machine's own root.
type Root struct{ dir string }

// At returns the root that is directory dir.
func At(dir string) Root { return Root{dir: dir} }

// Host returns the machine's name for a path inside the root, none of whose
// components is a symbolic link (see Step.Path and Resolve).
func (r Root) Host(name string) string {
	if r.dir == "" {
		return path.Clean("/" + name)
	}
	return filepath.Join(r.dir, path.Clean("/"+name))
}

// Step is one directory entry that a lookup goes through.
type Step struct {
	Path   string // absolute inside the root; only its last component may be a symbolic link
	Info   fs.FileInfo
	Target string // what the symbolic link says, when Info is one
}

// Walk looks name up and returns every entry on the way, the root excepted: the
// directories, the symbolic links and, last, the file itself. It fails with
// fs.ErrNotExist, ENOTDIR, ELOOP or what lstat(2) returns, as *fs.PathError.
func (r Root) Walk(name string) ([]Step, error) {
	steps, _, err := r.walk(name)
	return steps, err
}

// walk also returns where the lookup ended, free of symbolic links.
func (r Root) walk(name string) (steps []Step, end string, err error) {
	at, rest, links := "/", name, 0
	fail := func(err error) ([]Step, string, error) {
		return nil, "", &fs.PathError{Op: "open", Path: name, Err: err}
	}
	for {
		rest = strings.TrimLeft(rest, "/")
		if rest == "" {
			return steps, at, nil
		}
		component, tail, _ := strings.Cut(rest, "/")
		rest = tail
		switch component {
		case ".":
			continue
		case "..":
			at = path.Dir(at)
			continue
		}
		here := path.Join(at, component)
		info, err := os.Lstat(r.Host(here))
		if err != nil {
			return fail(underlying(err))
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			if tail != "" && !info.IsDir() {
				return fail(syscall.ENOTDIR)
			}
			steps = append(steps, Step{Path: here, Info: info})
			at = here
			continue
		}
		if links++; links > maxLinks {
			return fail(syscall.ELOOP)
		}
		target, err := os.Readlink(r.Host(here))
		if err != nil {
			return fail(underlying(err))
		}
		steps = append(steps, Step{Path: here, Info: info, Target: target})
		if strings.HasPrefix(target, "/") {
			at = "/"
		}
		rest = target + "/" + tail
	}
}

// Resolve returns name with all symbolic links followed, and what is there.
func (r Root) Resolve(name string) (string, fs.FileInfo, error) {
	_, end, err := r.walk(name)
	if err != nil {
		return "", nil, err
	}
	info, err := os.Lstat(r.Host(end))
	return end, info, err
}

// Open opens name for reading, symbolic links followed inside the root.
func (r Root) Open(name string) (*os.File, error) {
	real, _, err := r.Resolve(name)
	if err != nil {
		return nil, err
	}
	return os.Open(r.Host(real))
}

// ReadFile reads a whole file, symbolic links followed inside the root.
func (r Root) ReadFile(name string) ([]byte, error) {
	real, _, err := r.Resolve(name)
	if err != nil {
		return nil, err
	}
	return os.ReadFile(r.Host(real))
}

func underlying(err error) error {
	if e, ok := err.(*fs.PathError); ok {
		return e.Err
	}
	return err
}
