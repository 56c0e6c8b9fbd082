package oci

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"gosv/image/rootfs"
)

// Limits of an image's contents.
const (
	maxEntries = 4 << 20
	maxPath    = 4096
	maxXattr   = 64 << 10
	maxMajor   = 1<<12 - 1 // of Linux's device numbers
	maxMinor   = 1<<20 - 1
)

// ErrHostile is wrapped by what is refused in an archive, since no proper tool writes it.
var ErrHostile = errors.New("refused")

func refuse(name, format string, args ...any) error {
	return fmt.Errorf("%w: %.200q: %s", ErrHostile, name, fmt.Sprintf(format, args...))
}

// Names of whiteouts (OCI image specification, layer.md).
const (
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"
)

// Store keeps the contents of files until the image is written. It is for one goroutine.
type Store struct {
	File interface {
		io.ReaderAt
		io.WriterAt
	}
	Limit    int64       // bytes that all files may have together
	Progress func(int64) // takes how many bytes are kept by now; may be nil
	used     int64
}

// add copies size bytes, and returns how to read them. Zeros are not written.
func (s *Store) add(in io.Reader, size int64) (func() (io.ReadCloser, error), error) {
	if size < 0 || size > s.Limit-s.used {
		return nil, fmt.Errorf("%w: the files have more than %d MiB", ErrHostile, s.Limit>>20)
	}
	at := s.used
	buf := make([]byte, 256<<10)
	for done := int64(0); done < size; {
		b := buf[:min(size-done, int64(len(buf)))]
		if _, err := io.ReadFull(in, b); err != nil {
			return nil, truncated(err)
		}
		if !zero(b) {
			if _, err := s.File.WriteAt(b, at+done); err != nil {
				return nil, err
			}
		}
		done += int64(len(b))
		if s.Progress != nil {
			s.Progress(at + done)
		}
	}
	s.used += size
	return func() (io.ReadCloser, error) {
		return io.NopCloser(&section{in: s.File, at: at, end: at + size}), nil
	}, nil
}

func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// section reads a part of the store; what lies behind its end are zeros.
type section struct {
	in      io.ReaderAt
	at, end int64
}

func (s *section) Read(p []byte) (int, error) {
	if s.at == s.end {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), s.end-s.at)]
	n, err := s.in.ReadAt(p, s.at)
	if errors.Is(err, io.EOF) {
		clear(p[n:])
		n, err = len(p), nil
	}
	s.at += int64(n)
	return n, err
}

func truncated(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the archive ends early")
	}
	return err
}

// Apply puts a layer, a tar archive, on the tree. Whiteouts take away what the
// layers below brought, never what this one brings.
func Apply(tree *rootfs.Tree, store *Store, in io.Reader, warn func(string)) error {
	l := &layer{tree: tree, store: store, mine: map[string]bool{}, warn: warn}
	r := tar.NewReader(in)
	for count := 0; ; count++ {
		h, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return truncated(err)
		}
		if count > maxEntries {
			return fmt.Errorf("%w: more than %d files", ErrHostile, maxEntries)
		}
		if err := l.entry(h, r); err != nil {
			return err
		}
	}
}

type layer struct {
	tree  *rootfs.Tree
	store *Store
	mine  map[string]bool // what this layer brought, with the directories above it
	warn  func(string)
}

// entry applies one entry of the archive.
func (l *layer) entry(h *tar.Header, body io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := cleanName(h.Name)
	if err != nil {
		return err
	}
	dir, base := path.Split(name)
	switch {
	case base == opaque:
		return l.tree.Clear(dir, l.kept)
	case strings.Contains(name, "/.wh..wh."):
		return nil // AUFS's own
	case strings.HasPrefix(base, whiteout):
		hidden := strings.TrimPrefix(base, whiteout)
		if hidden == "" || hidden == "." || hidden == ".." {
			return refuse(h.Name, "a whiteout without a name")
		}
		return l.tree.Remove(dir+hidden, l.kept)
	}
	if h.Typeflag == tar.TypeLink {
		old, err := cleanName(h.Linkname)
		if err != nil {
			return fmt.Errorf("%.200q is a link: %w", h.Name, err)
		}
		full, err := l.tree.Link(name, old)
		if errors.Is(err, fs.ErrNotExist) {
			return refuse(h.Name, "a link to %.200q, which is not there", h.Linkname)
		}
		return l.brought(full, err)
	}
	e, ok, err := l.describe(h, name, body)
	if err != nil || !ok {
		return err
	}
	return l.brought(l.tree.Put(name, e))
}

func (l *layer) kept(full string) bool { return l.mine[full] }

// brought takes note of a file of this layer.
func (l *layer) brought(full string, err error) error {
	for ; err == nil && full != "/" && !l.mine[full]; full = path.Dir(full) {
		l.mine[full] = true
	}
	return err
}

// describe returns the file that an entry is; ok is false when it is to be left out.
func (l *layer) describe(h *tar.Header, name string, body io.Reader) (e rootfs.Entry, ok bool, err error) {
	if h.Uid < 0 || h.Gid < 0 || int64(h.Uid) > 1<<32-2 || int64(h.Gid) > 1<<32-2 {
		return e, false, refuse(h.Name, "owner %d:%d", h.Uid, h.Gid)
	}
	e = rootfs.Entry{Mode: h.FileInfo().Mode() &^ fs.ModeType, UID: uint32(h.Uid), GID: uint32(h.Gid), MTime: h.ModTime}
	if e.Xattrs, err = xattrs(h); err != nil {
		return e, false, err
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse:
		e.Size = h.Size
		if h.Size > 0 {
			if e.Open, err = l.store.add(body, h.Size); err != nil {
				return e, false, fmt.Errorf("%.200q: %w", h.Name, err)
			}
		}
	case tar.TypeDir:
		e.Mode |= fs.ModeDir
	case tar.TypeSymlink:
		if h.Linkname == "" || len(h.Linkname) >= maxPath || strings.IndexByte(h.Linkname, 0) >= 0 {
			return e, false, refuse(h.Name, "a symbolic link with a target of %d bytes", len(h.Linkname))
		}
		e.Mode = fs.ModeSymlink | 0o777
		e.Target = h.Linkname
	case tar.TypeFifo:
		e.Mode |= fs.ModeNamedPipe
	case tar.TypeChar, tar.TypeBlock:
		if strings.HasPrefix(name, "/dev/") {
			l.warn(fmt.Sprintf("%s is left out: the kernel makes its devices itself", name))
			return e, false, nil
		}
		if h.Devmajor < 0 || h.Devmajor > maxMajor || h.Devminor < 0 || h.Devminor > maxMinor {
			return e, false, refuse(h.Name, "the device %d:%d", h.Devmajor, h.Devminor)
		}
		e.Mode |= fs.ModeDevice
		if h.Typeflag == tar.TypeChar {
			e.Mode |= fs.ModeCharDevice
		}
		e.Major, e.Minor = uint32(h.Devmajor), uint32(h.Devminor)
	default:
		return e, false, refuse(h.Name, "an entry of type %q", h.Typeflag)
	}
	return e, true, nil
}

// cleanName returns the absolute path that a name in an archive means: one that begins with a slash, as some builders of images
// write it, is in the root of the image too.
func cleanName(name string) (string, error) {
	if len(name) >= maxPath || strings.IndexByte(name, 0) >= 0 {
		return "", refuse(name, "a name of %d bytes", len(name))
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", refuse(name, "a name that leaves the archive")
		}
		if len(part) > 255 {
			return "", refuse(name, "a name with a part of %d bytes", len(part))
		}
	}
	return path.Clean("/" + name), nil
}

// xattrs returns the extended attributes of an entry that an image keeps.
func xattrs(h *tar.Header) (map[string]string, error) {
	var list map[string]string
	total := 0
	for key, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(key, "SCHILY.xattr.")
		if !ok || !rootfs.KeepXattr(name) {
			continue
		}
		if total += len(name) + len(value); len(name) > 255 || total > maxXattr {
			return nil, refuse(h.Name, "extended attributes of %d bytes", total)
		}
		if list == nil {
			list = map[string]string{}
		}
		list[name] = value
	}
	return list, nil
}
