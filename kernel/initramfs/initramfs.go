// Package initramfs unpacks the initial RAM disk into the root file system.
//
// The disk is what Linux takes (Documentation/driver-api/early-userspace/buffer-format.rst):
// cpio archives in the "new" ASCII format (magic 070701, or 070702 with a checksum), one behind
// the other with zeros between, each as it is or compressed with gzip.
// Whole pages of a file whose data lie at a page boundary are not copied: the
// frames they are in become the file's.
package initramfs

import (
	"errors"

	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/machine"
)

// RunFile is the name of the entry that is not a file but the host's orders,
// when it comes first.
const RunFile = ".gosv/run"

// The errors of a disk that is not what it should be.
var (
	ErrFormat    = errors.New("initramfs: not a cpio archive")
	ErrTruncated = errors.New("initramfs: archive ends early")
	ErrChecksum  = errors.New("initramfs: wrong checksum")
	ErrGzip      = errors.New("initramfs: bad gzip data")
)

// Unpack creates the files of the disk that lies in frames from first on,
// length bytes long, below the directory root. It returns the contents of RunFile, nil when
// there is none. The frames are used up, whatever happens.
//
// An error of vfs (ENOSPC, ENOTDIR) or of this package ends the unpacking; the
// files before it are there.
func Unpack(frames machine.Frames, root vfs.Path, first machine.Frame, length uint64) (run []byte, err error) {
	count := int((length + machine.PageSize - 1) / machine.PageSize)
	if count == 0 {
		return nil, nil
	}
	u := &unpacker{
		root: root, frames: frames, first: first, count: count,
		adopted: make([]bool, count), links: make(map[linkKey]*vfs.Dentry),
	}
	defer u.free()
	err = u.disk(frames.Bytes(first, count)[:length])
	return u.run, err
}

type unpacker struct {
	root    vfs.Path
	frames  machine.Frames
	first   machine.Frame
	count   int
	adopted []bool // by frame
	run     []byte
	entries int
	links   map[linkKey]*vfs.Dentry // files with several names

	dirName string // of dir, the directory that was needed last
	dir     *vfs.Dentry
}

// free gives back the frames that no file took.
func (u *unpacker) free() {
	for i := 0; i < u.count; {
		n := 0
		for i+n < u.count && !u.adopted[i+n] {
			n++
		}
		if n > 0 {
			u.frames.Free(u.first+machine.Frame(i), n)
		}
		i += n + 1
	}
}

// disk unpacks one archive after the other.
func (u *unpacker) disk(b []byte) error {
	r := &inPlace{b: b}
	for {
		for r.pos < len(b) && b[r.pos] == 0 {
			r.pos++
		}
		if r.pos == len(b) {
			return nil
		}
		if isGzip(b[r.pos:]) {
			used, err := u.compressed(b[r.pos:])
			if err != nil {
				return err
			}
			r.pos += used
			continue
		}
		if err := u.archive(r); err != nil {
			return err
		}
	}
}

// compressed unpacks one gzip member and returns its length.
func (u *unpacker) compressed(b []byte) (int, error) {
	z, err := newGzip(b)
	if err != nil {
		return 0, err
	}
	s := &stream{read: z.Read}
	for {
		err := s.skipZeros()
		if err == errEnd {
			return z.used(), nil
		}
		if err == nil {
			err = u.archive(s)
		}
		if err != nil {
			return 0, err
		}
	}
}

// archive unpacks the entries up to the trailer.
func (u *unpacker) archive(r reader) error {
	for {
		h, name, err := readHeader(r)
		if err != nil {
			return err
		}
		if name == trailer {
			clear(u.links)
			return nil
		}
		u.entries++
		if err := u.entry(r, &h, name); err != nil {
			return err
		}
		if _, err := r.next(padding(int64(h.size))); err != nil {
			return err
		}
	}
}

// entry creates one file.
func (u *unpacker) entry(r reader, h *header, name string) error {
	if name == RunFile && u.entries == 1 {
		return u.takeRun(r, h)
	}
	dir, base, err := u.place(name)
	if err != nil {
		return err
	}
	n := vfs.NewNode{Mode: h.mode, UID: h.uid, GID: h.gid, Rdev: unix.Mkdev(h.rdevMajor, h.rdevMinor)}
	switch h.mode & unix.S_IFMT {
	case unix.S_IFREG:
		return u.regular(r, h, dir, base, &n)
	case unix.S_IFLNK:
		if h.size == 0 || h.size >= vfs.PathMax {
			return ErrFormat
		}
		target, err := r.next(int(h.size))
		if err != nil {
			return err
		}
		if n.Target = cString(target); n.Target == "" {
			return ErrFormat
		}
	case unix.S_IFDIR:
		return u.directory(r, h, dir, base, &n)
	case unix.S_IFCHR, unix.S_IFBLK, unix.S_IFIFO, unix.S_IFSOCK:
	default:
		return ErrFormat
	}
	d, err := replace(dir, base, &n)
	if err != nil {
		return err
	}
	d.Inode().SetTimes(h.mtime, h.mtime, -1)
	if n.Target == "" {
		return skip(r, h)
	}
	return nil
}

// skip passes over data that an entry of its kind should not have.
func skip(r reader, h *header) error {
	return eachChunk(r, int64(h.size), func([]byte, int64) error { return nil })
}

// RunFileMax is the most bytes that a run file may have.
const RunFileMax = 1 << 20

func (u *unpacker) takeRun(r reader, h *header) error {
	if h.size > RunFileMax {
		return ErrFormat
	}
	b, err := r.next(int(h.size))
	u.run = append([]byte{}, b...)
	return err
}

// place returns the directory for a file, which it makes if need be, and the
// last component of its name.
func (u *unpacker) place(name string) (*vfs.Dentry, string, error) {
	end := len(name)
	for end > 0 && name[end-1] == '/' {
		end--
	}
	cut := end
	for cut > 0 && name[cut-1] != '/' {
		cut--
	}
	parent, base := name[:cut], name[cut:end]
	if len(base) > vfs.NameMax {
		return nil, "", unix.ENAMETOOLONG
	}
	if u.dir == nil || parent != u.dirName {
		d, err := u.descend(parent)
		if err != nil {
			return nil, "", err
		}
		u.dir, u.dirName = d, parent
	}
	return u.dir, base, nil
}

// descend walks down from the root. Symbolic links are followed like any
// other path, within the root.
func (u *unpacker) descend(path string) (*vfs.Dentry, error) {
	d := u.root.Dentry
	for name, rest := cutName(path); name != ""; name, rest = cutName(rest) {
		switch {
		case name == ".":
			continue
		case name == "..":
			return nil, ErrFormat
		case len(name) > vfs.NameMax:
			return nil, unix.ENAMETOOLONG
		case !d.Inode().IsDir():
			return nil, unix.ENOTDIR
		}
		c := d.Child(name)
		if c == nil {
			var err error
			if c, err = d.Make(name, &vfs.NewNode{Mode: unix.S_IFDIR | 0o755}); err != nil {
				return nil, err
			}
		}
		if c.Inode().Type() == unix.S_IFLNK {
			var err error
			if c, err = u.followDir(d, c.Inode().Target()); err != nil {
				return nil, err
			}
		}
		d = c
	}
	if !d.Inode().IsDir() {
		return nil, unix.ENOTDIR
	}
	return d, nil
}

// followDir returns where a symbolic link in d leads.
func (u *unpacker) followDir(d *vfs.Dentry, target string) (*vfs.Dentry, error) {
	ctx := vfs.Context{Root: u.root, Cwd: vfs.Path{Mount: u.root.Mount, Dentry: d}, Cred: cred.Root()}
	p, err := vfs.Lookup(&ctx, vfs.Path{}, target, 0)
	return p.Dentry, err
}

func cutName(path string) (name, rest string) {
	i := 0
	for i < len(path) && path[i] == '/' {
		i++
	}
	j := i
	for j < len(path) && path[j] != '/' {
		j++
	}
	return path[i:j], path[j:]
}

func cString(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}

// replace makes a file, in place of one of that name if that can go.
func replace(dir *vfs.Dentry, base string, n *vfs.NewNode) (*vfs.Dentry, error) {
	if base == "" || base == "." || base == ".." {
		return nil, ErrFormat
	}
	d, err := dir.Make(base, n)
	if err != unix.EEXIST {
		return d, err
	}
	if err := dir.Drop(base); err != nil {
		return nil, err
	}
	return dir.Make(base, n)
}

func (u *unpacker) directory(r reader, h *header, dir *vfs.Dentry, base string, n *vfs.NewNode) error {
	d := dir
	if base != "" && base != "." {
		if base == ".." {
			return ErrFormat
		}
		if d = dir.Child(base); d == nil || !d.Inode().IsDir() {
			var err error
			if d, err = replace(dir, base, n); err != nil {
				return err
			}
		}
	}
	d.Inode().SetAttr(h.mode, h.uid, h.gid)
	d.Inode().SetTimes(h.mtime, h.mtime, -1)
	return skip(r, h)
}

// linkKey tells files with several names apart.
type linkKey struct{ ino, major, minor uint32 }

// regular makes a file, or another name for one that came before.
func (u *unpacker) regular(r reader, h *header, dir *vfs.Dentry, base string, n *vfs.NewNode) (err error) {
	key := linkKey{h.ino, h.major, h.minor}
	d := u.links[key]
	if h.nlink < 2 {
		d = nil
	}
	if d != nil {
		if base == "" || base == "." || base == ".." {
			return ErrFormat
		}
		if err := dir.LinkTo(base, d.Inode()); err != nil {
			return err
		}
	} else {
		if d, err = replace(dir, base, n); err != nil {
			return err
		}
		if h.nlink >= 2 {
			u.links[key] = d
		}
	}
	if h.size > 0 {
		err = u.fill(r, h, d.Inode())
	}
	d.Inode().SetTimes(h.mtime, h.mtime, -1)
	return err
}

// fill gives a file its contents.
func (u *unpacker) fill(r reader, h *header, i *vfs.Inode) error {
	c := i.Cache()
	if c == nil {
		return unix.EINVAL
	}
	if c.Size() != 0 { // a second name that brings data too
		if err := c.Truncate(0); err != nil {
			return err
		}
	}
	var sum uint32
	if p, ok := r.(*inPlace); ok {
		whole, err := u.adopt(p, h, i)
		if err != nil {
			return err
		}
		for _, b := range p.b[p.pos-whole : p.pos] {
			if !h.summed {
				break
			}
			sum += uint32(b)
		}
		h.done = int64(whole)
	}
	err := eachChunk(r, int64(h.size)-h.done, func(b []byte, off int64) error {
		if h.summed {
			for _, c := range b {
				sum += uint32(c)
			}
		}
		src := uio.Buffer(b)
		_, err := c.WriteAt(&src, h.done+off)
		return err
	})
	if err == nil && h.summed && sum != h.check {
		err = ErrChecksum
	}
	return err
}

// adopt makes whole pages of the disk pages of the file and returns how many bytes it took.
func (u *unpacker) adopt(p *inPlace, h *header, i *vfs.Inode) (int, error) {
	if len(p.b)-p.pos < int(h.size) {
		return 0, ErrTruncated
	}
	pages := int(h.size) / machine.PageSize
	if p.pos%machine.PageSize != 0 || pages == 0 {
		return 0, nil
	}
	at := p.pos / machine.PageSize
	if err := i.Cache().Adopt(0, u.first+machine.Frame(at), pages); err != nil {
		return 0, err
	}
	for n := range pages {
		u.adopted[at+n] = true
	}
	n := pages * machine.PageSize
	p.pos += n
	return n, i.Cache().Truncate(int64(n))
}
