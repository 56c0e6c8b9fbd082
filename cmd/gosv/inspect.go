package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"gosv/image/disk"
	"gosv/image/erofs"
	"gosv/image/osv"
	"gosv/image/spec"
)

func newImage(std streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "image",
		Short: "Look into disk images",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var asJSON bool
	add := func(use, short string, n int, run func(args []string) error) {
		c := &cobra.Command{Use: use, Short: short, Args: cobra.RangeArgs(n, n+1), DisableFlagsInUseLine: true,
			RunE: func(_ *cobra.Command, args []string) error { return run(args) }}
		if !strings.HasPrefix(use, "extract") {
			c.Flags().BoolVar(&asJSON, "json", false, "as JSON")
		}
		cmd.AddCommand(c)
	}
	add("ls IMAGE [PATH]", "List the files in an image: mode, owner, size, name", 1, func(args []string) error {
		return imageList(args, asJSON, std)
	})
	add("inspect IMAGE", "Show what an image runs, and its partitions", 1, func(args []string) error {
		return imageInspect(args[0], asJSON, std)
	})
	add("diff IMAGE IMAGE", "Show in which files two images differ", 2, func(args []string) error {
		return imageDiff(args[0], args[1], asJSON, std)
	})
	add("extract IMAGE DIR [PATH]", "Write the files in an image to a new folder", 2, func(args []string) error {
		below := "/"
		if len(args) > 2 {
			below = args[2]
		}
		return imageExtract(args[0], args[1], below, std)
	})
	return cmd
}

// diskImage is an image that was opened.
type diskImage struct {
	file   *os.File
	format string
	size   int64 // of the disk, bytes
	parts  []disk.Partition
	number int    // of the root's partition, from 1; 0 for the whole disk
	line   string // the kernel's command line in the image
	info   rootInfo
	open   func() (*imageFile, error) // the root directory
}

func (i *diskImage) Close() { i.file.Close() }

// openImage opens a disk image, or a bare file system, in a file.
func openImage(name string) (*diskImage, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	i := &diskImage{file: f}
	if err := i.read(); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return i, nil
}

var errNoImage = errors.New("neither an image made by `gosv build` or OSv, nor a root file system")

func (i *diskImage) read() error {
	size, err := i.file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	r, format, err := disk.OpenDisk(i.file, size)
	if err != nil {
		return err
	}
	i.format, i.size = format, r.Size()
	i.parts, err = disk.Partitions(r, r.Size())
	if errors.Is(err, disk.ErrNoTable) {
		err := i.rofs(r)
		if errors.Is(err, osv.ErrNone) {
			if err = i.erofs(r, r.Size()); err != nil {
				err = fmt.Errorf("%w (%w)", errNoImage, err)
			}
		}
		return err
	}
	if err != nil {
		return err
	}
	at := slices.IndexFunc(i.parts, func(p disk.Partition) bool { return p.Type == disk.TypeRoot })
	if at < 0 {
		return fmt.Errorf("%w: no partition is for a root file system", errNoImage)
	}
	root := i.parts[at]
	i.number = root.Number
	i.line, _ = disk.CommandLine(r, i.parts) // another's image has none
	return i.erofs(io.NewSectionReader(r, root.Offset(), root.Size()), root.Size())
}

// erofs opens the root of our own images.
func (i *diskImage) erofs(in io.ReaderAt, size int64) error {
	fs, err := erofs.Open(in, size)
	if err != nil {
		return err
	}
	i.info = rootInfo{Type: "erofs", UUID: disk.GUID(fs.UUID).String(), Label: fs.Label, Size: fs.Size()}
	i.open = func() (*imageFile, error) {
		f, err := fs.Root()
		if err != nil {
			return nil, err
		}
		return erofsFile(f), nil
	}
	return nil
}

// rofs opens the root of an image of OSv.
func (i *diskImage) rofs(r disk.Reader) error {
	at, size, part, err := osv.Find(r, r.Size())
	if err != nil {
		return err
	}
	fs, err := osv.Open(io.NewSectionReader(r, at, size), size)
	if err != nil {
		return err
	}
	i.number = part
	i.info = rootInfo{Type: "rofs", Size: size}
	i.open = func() (*imageFile, error) {
		f, err := fs.Root()
		if err != nil {
			return nil, err
		}
		return rofsFile(f), nil
	}
	return nil
}

// imageFile is a file in an image, whatever the file system is.
type imageFile struct {
	erofs.Inode
	io.ReaderAt
	list func() ([]imageEntry, error)
}

type imageEntry struct {
	Name string
	File *imageFile
}

// ReadDir returns what is in a directory, in the order of the names.
func (f *imageFile) ReadDir() ([]imageEntry, error) {
	if f.list == nil {
		return nil, syscall.ENOTDIR
	}
	return f.list()
}

func erofsFile(f *erofs.File) *imageFile {
	file := &imageFile{Inode: f.Inode, ReaderAt: f}
	if f.Mode&0o170000 == erofs.ModeDir {
		file.list = func() (list []imageEntry, err error) {
			entries, err := f.ReadDir()
			for _, e := range entries {
				list = append(list, imageEntry{e.Name, erofsFile(e.File)})
			}
			return list, err
		}
	}
	return file
}

// rofsFile has the modes that OSv gives all its files.
func rofsFile(f *osv.File) *imageFile {
	file := &imageFile{Inode: erofs.Inode{Mode: erofs.ModeReg | 0o755, Size: f.Size, Target: f.Target}, ReaderAt: f}
	switch f.Kind {
	case osv.Link:
		file.Mode = erofs.ModeLink | 0o777
	case osv.Dir:
		file.Mode = erofs.ModeDir | 0o755
		file.list = func() (list []imageEntry, err error) {
			err = f.Names(func(name string, f *osv.File) error {
				list = append(list, imageEntry{name, rofsFile(f)})
				return nil
			})
			slices.SortFunc(list, func(a, b imageEntry) int { return strings.Compare(a.Name, b.Name) })
			return list, err
		}
	}
	return file
}

// isImage says whether a file is a disk image.
func isImage(name string) bool {
	st, err := os.Stat(name)
	if err != nil || !st.Mode().IsRegular() {
		return false
	}
	f, err := os.Open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	r, format, err := disk.OpenDisk(f, st.Size())
	if err != nil || format == "qcow2" {
		return true // what is wrong is said when it is opened
	}
	_, err = disk.Partitions(r, r.Size())
	if !errors.Is(err, disk.ErrNoTable) {
		return true
	}
	if _, _, _, err := osv.Find(r, r.Size()); err == nil {
		return true
	}
	_, err = erofs.Open(r, r.Size())
	return err == nil
}

// spec returns what the image runs; nil when nothing says it.
func (i *diskImage) spec() (*spec.Image, error) {
	f, err := i.lookup(spec.Name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return spec.Decode(io.NewSectionReader(f, 0, f.Size))
}

// lookup finds a file; symbolic links are not followed.
func (i *diskImage) lookup(name string) (*imageFile, error) {
	f, err := i.open()
	if err != nil {
		return nil, err
	}
	for part := range strings.SplitSeq(strings.Trim(path.Clean("/"+name), "/"), "/") {
		if part == "" {
			continue
		}
		entries, err := f.ReadDir()
		if err != nil {
			return nil, err
		}
		at := slices.IndexFunc(entries, func(e imageEntry) bool { return e.Name == part })
		if at < 0 {
			return nil, fmt.Errorf("%s: %w in the image", name, os.ErrNotExist)
		}
		f = entries[at].File
	}
	return f, nil
}

// Bounds of a foreign image, whose folders may hold each other.
const (
	maxDepth = 200
	maxFiles = 8 << 20
)

// walk calls visit for a file and all that lie below it.
func walk(name string, f *imageFile, visit func(name string, f *imageFile) error) error {
	return (&walker{visit, maxFiles}).walk(name, f, 0)
}

type walker struct {
	visit func(name string, f *imageFile) error
	left  int // files that it may still come by
}

func (w *walker) walk(name string, f *imageFile, depth int) error {
	if w.left--; w.left < 0 {
		return fmt.Errorf("more than %d files", maxFiles)
	}
	if err := w.visit(name, f); err != nil {
		return err
	}
	if f.Mode&0o170000 != erofs.ModeDir {
		return nil
	}
	if depth > maxDepth {
		return fmt.Errorf("%s: more than %d folders deep", name, maxDepth)
	}
	entries, err := f.ReadDir()
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := w.walk(path.Join(name, e.Name), e.File, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// listed is a file as JSON shows it.
type listed struct {
	Path   string            `json:"path"`
	Mode   string            `json:"mode"` // octal, with the type
	UID    uint32            `json:"uid"`
	GID    uint32            `json:"gid"`
	Size   int64             `json:"size"`
	MTime  time.Time         `json:"mtime"`
	Target string            `json:"target,omitempty"`
	Device string            `json:"device,omitempty"`
	Xattrs map[string]string `json:"xattrs,omitempty"`
}

func describe(name string, f *imageFile) listed {
	l := listed{Path: name, Mode: fmt.Sprintf("%06o", f.Mode), UID: f.UID, GID: f.GID, Size: f.Size, MTime: time.Unix(f.MTime, int64(f.Nanosec)).UTC(),
		Target: f.Target, Xattrs: f.Xattrs}
	if kind := f.Mode & 0o170000; kind == erofs.ModeChar || kind == erofs.ModeBlk {
		l.Device = fmt.Sprintf("%d:%d", f.Major, f.Minor)
	}
	return l
}

func imageList(args []string, asJSON bool, std streams) error {
	i, err := openImage(args[0])
	if err != nil {
		return err
	}
	defer i.Close()
	below := "/"
	if len(args) > 1 {
		below = path.Clean("/" + args[1])
	}
	f, err := i.lookup(below)
	if err != nil {
		return err
	}
	list := []listed{}
	var total int64
	err = walk(below, f, func(name string, f *imageFile) error {
		l := describe(name, f)
		total += f.Size
		if asJSON {
			list = append(list, l)
			return nil
		}
		target := ""
		if l.Target != "" {
			target = " -> " + l.Target
		}
		size := fmt.Sprint(l.Size)
		if l.Device != "" {
			size = l.Device
		}
		_, err := fmt.Fprintf(std.out, "%s %5d %5d %10s %s%s\n", modeText(f.Mode), l.UID, l.GID, size, printName(name), printName(target))
		return err
	})
	if err != nil {
		return err
	}
	if asJSON {
		return writeJSON(std.out, list)
	}
	_, err = fmt.Fprintf(std.out, "total %s\n", humanSize(total))
	return err
}

// modeText is a mode as ls(1) shows it.
func modeText(mode uint32) string {
	kinds := map[uint32]byte{erofs.ModeDir: 'd', erofs.ModeReg: '-', erofs.ModeLink: 'l', erofs.ModeChar: 'c', erofs.ModeBlk: 'b', erofs.ModeFIFO: 'p', erofs.ModeSock: 's'}
	b := []byte("?rwxrwxrwx")
	b[0] = kinds[mode&0o170000]
	for i := range 9 {
		if mode>>(8-i)&1 == 0 {
			b[i+1] = '-'
		}
	}
	for _, s := range []struct {
		bit     uint32
		at      int
		set, no byte
	}{{0o4000, 3, 's', 'S'}, {0o2000, 6, 's', 'S'}, {0o1000, 9, 't', 'T'}} {
		if mode&s.bit != 0 {
			if b[s.at] == 'x' {
				b[s.at] = s.set
			} else {
				b[s.at] = s.no
			}
		}
	}
	return string(b)
}

// printName quotes a name that would change what a terminal shows.
func printName(name string) string {
	for _, r := range name {
		if r < ' ' || r == 0x7f || r == 0xfffd || r >= 0x80 && r < 0xa0 {
			return fmt.Sprintf("%q", name)
		}
	}
	return name
}

func writeJSON(out io.Writer, v any) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// inspected is what gosv image inspect shows.
type inspected struct {
	Format     string         `json:"format"`
	Size       int64          `json:"size"` // of the disk, bytes
	Partitions []partition    `json:"partitions"`
	Root       rootInfo       `json:"root"`
	Kernel     string         `json:"commandLine"`
	Image      *spec.Image    `json:"image"`
	Files      map[string]int `json:"files"` // how many of each kind
}

type partition struct {
	Name   string `json:"name"`
	Type   string `json:"type"`
	UUID   string `json:"uuid"`
	Offset int64  `json:"offset"`
	Size   int64  `json:"size"`
}

type rootInfo struct {
	Type  string `json:"type"`
	UUID  string `json:"uuid"`
	Label string `json:"label"`
	Size  int64  `json:"size"`
	Bytes int64  `json:"bytes"` // that the files have
}

func imageInspect(name string, asJSON bool, std streams) error {
	i, err := openImage(name)
	if err != nil {
		return err
	}
	defer i.Close()
	s, err := i.spec()
	if err != nil {
		return err
	}
	v := inspected{Format: i.format, Size: i.size, Partitions: []partition{}, Image: s, Kernel: i.line, Files: map[string]int{},
		Root: i.info}
	for _, p := range i.parts {
		v.Partitions = append(v.Partitions, partition{p.Name, p.Type.String(), p.GUID.String(), p.Offset(), p.Size()})
	}
	root, err := i.open()
	if err != nil {
		return err
	}
	kinds := map[uint32]string{erofs.ModeDir: "folders", erofs.ModeReg: "files", erofs.ModeLink: "links"}
	err = walk("/", root, func(_ string, f *imageFile) error {
		kind, ok := kinds[f.Mode&0o170000]
		if !ok {
			kind = "special"
		}
		v.Files[kind]++
		if kind == "files" {
			v.Root.Bytes += f.Size
		}
		return nil
	})
	if err != nil {
		return err
	}
	if asJSON {
		return writeJSON(std.out, v)
	}
	return v.print(std.out)
}

func (v *inspected) print(out io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "disk       %s, %s\n", v.Format, humanSize(v.Size))
	for _, p := range v.Partitions {
		fmt.Fprintf(&b, "partition  %-12s %9s at %-9s %s\n", printName(p.Name), humanSize(p.Size), humanSize(p.Offset), p.UUID)
	}
	fmt.Fprintf(&b, "root       %s, %s for %s of contents: %d files, %d folders, %d links, %d special\n", v.Root.Type, humanSize(v.Root.Size), humanSize(v.Root.Bytes),
		v.Files["files"], v.Files["folders"], v.Files["links"], v.Files["special"])
	if v.Kernel != "" {
		fmt.Fprintf(&b, "kernel     %s\n", printName(v.Kernel))
	}
	if s := v.Image; s != nil {
		for _, line := range []struct{ name, value string }{
			{"program", quoted(s.Entrypoint)}, {"arguments", quoted(s.Cmd)}, {"workdir", s.WorkDir}, {"user", s.User}, {"hostname", s.Hostname}, {"memory", s.Memory},
			{"ports", strings.Join(s.Ports, ", ")}, {"volumes", strings.Join(s.Volumes, ", ")}, {"signal", s.StopSignal},
		} {
			if line.value != "" {
				fmt.Fprintf(&b, "%-10s %s\n", line.name, printName(line.value))
			}
		}
		if s.CPUs != 0 {
			fmt.Fprintf(&b, "cpus       %d\n", s.CPUs)
		}
		if s.ReadOnly {
			fmt.Fprintf(&b, "read-only  yes\n")
		}
		for _, e := range s.Env {
			fmt.Fprintf(&b, "env        %s\n", printName(e))
		}
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func quoted(words []string) string {
	list := make([]string, len(words))
	for i, w := range words {
		list[i] = shellQuote(w)
	}
	return strings.Join(list, " ")
}

// difference is a file in which two images differ.
type difference struct {
	Kind string   `json:"kind"` // added, removed or changed
	Path string   `json:"path"`
	What []string `json:"what,omitempty"`
}

func imageDiff(a, b string, asJSON bool, std streams) error {
	var trees [2]map[string]*imageFile
	for n, name := range []string{a, b} {
		i, err := openImage(name)
		if err != nil {
			return err
		}
		defer i.Close()
		root, err := i.open()
		if err != nil {
			return err
		}
		trees[n] = map[string]*imageFile{}
		if err := walk("/", root, func(name string, f *imageFile) error {
			trees[n][name] = f
			return nil
		}); err != nil {
			return err
		}
	}
	list := []difference{}
	for name, f := range trees[0] {
		other := trees[1][name]
		if other == nil {
			list = append(list, difference{Kind: "removed", Path: name})
			continue
		}
		what, err := differs(f, other)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if len(what) > 0 {
			list = append(list, difference{"changed", name, what})
		}
	}
	for name := range trees[1] {
		if trees[0][name] == nil {
			list = append(list, difference{Kind: "added", Path: name})
		}
	}
	slices.SortFunc(list, func(a, b difference) int { return strings.Compare(a.Path, b.Path) })
	if asJSON {
		if err := writeJSON(std.out, list); err != nil {
			return err
		}
	} else {
		for _, d := range list {
			letter := map[string]string{"added": "A", "removed": "D", "changed": "C"}[d.Kind]
			fmt.Fprintln(std.out, strings.TrimSpace(letter+" "+printName(d.Path)+"  "+strings.Join(d.What, ", ")))
		}
	}
	if len(list) > 0 {
		return &statusError{1, nil} // as diff(1)
	}
	return nil
}

// differs names what differs between two files.
func differs(a, b *imageFile) (what []string, err error) {
	x, y := describe("", a), describe("", b)
	for _, d := range []struct {
		name string
		same bool
	}{
		{"mode", x.Mode == y.Mode}, {"owner", x.UID == y.UID && x.GID == y.GID}, {"target", x.Target == y.Target}, {"device", x.Device == y.Device},
		{"time", x.MTime.Equal(y.MTime)}, {"attributes", fmt.Sprint(x.Xattrs) == fmt.Sprint(y.Xattrs)},
	} {
		if !d.same {
			what = append(what, d.name)
		}
	}
	if a.Mode&0o170000 != erofs.ModeReg || b.Mode&0o170000 != erofs.ModeReg {
		return what, nil
	}
	if x.Size != y.Size {
		return append(what, "contents"), nil
	}
	p, q := make([]byte, 128<<10), make([]byte, 128<<10)
	for off := int64(0); off < a.Size; off += int64(len(p)) {
		n := min(int64(len(p)), a.Size-off)
		if _, err := a.ReadAt(p[:n], off); err != nil {
			return nil, err
		}
		if _, err := b.ReadAt(q[:n], off); err != nil {
			return nil, err
		}
		if string(p[:n]) != string(q[:n]) {
			return append(what, "contents"), nil
		}
	}
	return what, nil
}

// imageExtract writes the files below a path to a new folder.
func imageExtract(name, dir, below string, std streams) error {
	i, err := openImage(name)
	if err != nil {
		return err
	}
	defer i.Close()
	f, err := i.lookup(below)
	if err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	start := "."
	if f.Mode&0o170000 != erofs.ModeDir {
		start = path.Base(path.Clean("/" + below))
	}
	skipped, err := extractTo(dir, start, f)
	if skipped > 0 {
		fmt.Fprintf(std.err, "gosv: warning: %d device nodes, pipes and sockets were left out\n", skipped)
	}
	return err
}

// extractTo writes a file, and what is below it, to a folder under the name start. Names come from the
// image, so everything goes through an os.Root, which nothing leaves.
func extractTo(dir, start string, f *imageFile) (skipped int, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return 0, err
	}
	defer root.Close()
	x := &extraction{root: root, owners: os.Geteuid() == 0}
	if err = walk(start, f, x.file); err == nil {
		err = x.finish()
	}
	return x.skipped, err
}

type extraction struct {
	root    *os.Root
	owners  bool
	skipped int
	dirs    []extracted // their modes and times come last
}

type extracted struct {
	name string
	f    *imageFile
}

func (x *extraction) file(name string, f *imageFile) error {
	name = filepath.FromSlash(name)
	switch f.Mode & 0o170000 {
	case erofs.ModeDir:
		x.dirs = append(x.dirs, extracted{name, f})
		if name == "." {
			return nil
		}
		return x.root.Mkdir(name, 0o700)
	case erofs.ModeLink:
		return x.root.Symlink(f.Target, name)
	case erofs.ModeReg:
		return x.regular(name, f)
	}
	x.skipped++
	return nil
}

func (x *extraction) regular(name string, f *imageFile) error {
	out, err := x.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, io.NewSectionReader(f, 0, f.Size))
	return errors.Join(err, out.Close(), x.attributes(name, f))
}

func (x *extraction) attributes(name string, f *imageFile) error {
	if x.owners {
		if err := x.root.Chown(name, int(f.UID), int(f.GID)); err != nil {
			return err
		}
	}
	mode := os.FileMode(f.Mode & 0o777)
	for bit, m := range map[uint32]os.FileMode{0o4000: os.ModeSetuid, 0o2000: os.ModeSetgid, 0o1000: os.ModeSticky} {
		if x.owners && f.Mode&bit != 0 { // another's setuid program must not become this user's
			mode |= m
		}
	}
	when := time.Unix(f.MTime, int64(f.Nanosec))
	return errors.Join(x.root.Chmod(name, mode), x.root.Chtimes(name, when, when))
}

func (x *extraction) finish() error {
	for _, d := range slices.Backward(x.dirs) {
		if err := x.attributes(d.name, d.f); err != nil {
			return err
		}
	}
	return nil
}
