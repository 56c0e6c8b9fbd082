package rootfs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gosv/image/elfdeps"
	"gosv/image/sysroot"
)

// source makes a host tree; "->x" is a link, "/" a directory.
func source(t *testing.T, files map[string]string) sysroot.Root {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		target, link := strings.CutPrefix(text, "->")
		switch {
		case text == "/":
			err = os.MkdirAll(full, 0o755)
		case link:
			err = os.Symlink(target, full)
		default:
			err = os.WriteFile(full, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return sysroot.At(dir)
}

// unpack extracts an archive with GNU cpio, an implementation that is not ours.
func unpack(t *testing.T, archive []byte) string {
	t.Helper()
	if _, err := exec.LookPath("cpio"); err != nil {
		t.Skip("needs cpio")
	}
	dir := t.TempDir()
	cmd := exec.Command("cpio", "-idm", "--quiet", "--no-absolute-filenames")
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(archive)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cpio: %v\n%s", err, out)
	}
	return dir
}

func pack(t *testing.T, tree *Tree, runFile []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := tree.Pack(&b, runFile); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// names lists the names in an archive, in order, from its headers.
func names(b []byte) []string {
	var out []string
	for len(b) > 110 {
		var size, nameSize int
		if _, err := fmt.Sscanf(string(b[54:62])+" "+string(b[94:102]), "%x %x", &size, &nameSize); err != nil {
			panic(err)
		}
		name, _, _ := bytes.Cut(b[110:110+nameSize], []byte{0})
		if string(name) == "TRAILER!!!" {
			return out
		}
		out = append(out, string(name))
		next := (110+nameSize+3)&^3 + (size+3)&^3
		b = b[next:]
	}
	return nil
}

func TestImportKeepsTheHostsView(t *testing.T) {
	tree := New(Options{Source: source(t, map[string]string{
		"usr/lib/x/libc-2.36.so": "libc", "usr/lib/x/libc.so": "->libc-2.36.so", "lib": "->usr/lib", "usr/lib/unused": "no",
		"lib64": "->/lib/x",
	})})
	if err := tree.Import("/lib64/libc.so"); err != nil {
		t.Fatal(err)
	}
	if err := tree.Import("/lib/x/libc.so"); err != nil { // a second way to the same
		t.Fatal(err)
	}
	got := names(pack(t, tree, []byte("arg=x\x00")))
	want := []string{".gosv/run", ".", "lib", "lib64", "usr", "usr/lib", "usr/lib/x", "usr/lib/x/libc-2.36.so", "usr/lib/x/libc.so"}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := tree.Import("/absent"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent file: %v", err)
	}
}

func TestCopyAndOverride(t *testing.T) {
	src := source(t, map[string]string{
		"data/a": "one", "data/sub/b": "two", "data/link": "->a", "data/sub/empty": "/", "other": "replaced", "usr/lib/x": "x", "lib": "->usr/lib",
	})
	if err := syscall.Mkfifo(src.Host("/data/pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	tree := New(Options{Source: src})
	for _, err := range []error{
		tree.Import("/lib/x"),
		tree.Copy("/data", "/srv/data"),
		tree.Copy("/other", "/srv/data/a"),
		tree.Copy("/other", "/lib/new"), // through the link that the import made
		tree.File("/etc/x", 0o600, []byte("x")),
		tree.Dir("/tmp", fs.ModeSticky|0o777),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	for _, err := range []error{
		tree.Copy("/absent", "/y"), tree.Copy("/data", "/srv/data/a"), tree.File("/srv", 0o600, nil), tree.File("/etc/x/y", 0o600, nil),
		tree.Copy("/data/pipe", "/p"),
	} {
		if err == nil {
			t.Error("no error")
		}
	}
	dir := unpack(t, pack(t, tree, nil))
	for name, want := range map[string]string{"srv/data/a": "replaced", "srv/data/sub/b": "two", "srv/data/link": "replaced", "usr/lib/new": "replaced", "etc/x": "x"} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	if _, err := os.Lstat(filepath.Join(dir, "srv/data/pipe")); err == nil {
		t.Error("a pipe of the host was packed")
	}
	root := New(Options{Source: src, Owners: true})
	if err := root.Copy("/", "/"); err != nil {
		t.Error(err)
	}
	if _, e, err := root.Stat("/data/pipe"); err != nil || e.Mode != fs.ModeNamedPipe|0o600 {
		t.Errorf("a pipe of a root: %v, %v", e.Mode, err)
	}
	if st, err := os.Stat(filepath.Join(dir, "tmp")); err != nil || st.Mode() != fs.ModeDir|fs.ModeSticky|0o777 {
		t.Errorf("/tmp: %v, %v", st.Mode(), err)
	}
	if st, err := os.Stat(filepath.Join(dir, "srv/data/sub/empty")); err != nil || !st.IsDir() {
		t.Errorf("empty directory: %v", err)
	}
}

func TestReproducible(t *testing.T) {
	stamp := time.Unix(1_700_000_000, 0)
	build := func() []byte {
		tree := New(Options{Source: source(t, map[string]string{"b/2": "two", "a/1": "one", "c": "->a"}), MTime: &stamp})
		for _, name := range []string{"/c/1", "/b/2"} {
			if err := tree.Import(name); err != nil {
				t.Fatal(err)
			}
		}
		if err := tree.Base("host"); err != nil {
			t.Fatal(err)
		}
		return pack(t, tree, []byte("exe=/a/1\x00"))
	}
	one := build()
	time.Sleep(1100 * time.Millisecond) // other modification times on the host
	if !bytes.Equal(one, build()) {
		t.Error("equal files gave other bytes")
	}
}

func TestBase(t *testing.T) {
	src := source(t, map[string]string{"usr/share/zone": "TZif", "etc/localtime": "->/usr/share/zone", "mine": "root:mine\n"})
	tree := New(Options{Source: src})
	if err := tree.Copy("/mine", "/etc/passwd"); err != nil {
		t.Fatal(err)
	}
	if err := tree.Base("box"); err != nil {
		t.Fatal(err)
	}
	dir := unpack(t, pack(t, tree, nil))
	for name, want := range map[string]string{"etc/passwd": "root:mine\n", "etc/hostname": "box\n", "etc/localtime": "TZif"} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	for _, name := range []string{"dev", "proc", "sys", "tmp", "root", "var/tmp", "etc/group", "etc/hosts", "etc/nsswitch.conf", "etc/resolv.conf"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}

func TestSymlinkLoopInTree(t *testing.T) {
	tree := New(Options{Source: source(t, map[string]string{"a": "->b", "b": "->a"})})
	if err := tree.Copy("/a", "/x"); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("%v", err)
	}
	if err := errors.Join(tree.put("/a", &node{Entry: Entry{Mode: fs.ModeSymlink, Target: "b"}}), tree.put("/b", &node{Entry: Entry{Mode: fs.ModeSymlink, Target: "a"}})); err != nil {
		t.Fatal(err)
	}
	if err := tree.File("/a/x", 0o600, nil); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("%v", err)
	}
}

// A program of this machine runs in its packed root, and nowhere else.
func TestProgramRunsInItsRoot(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("chroot needs root")
	}
	tree := New(Options{})
	c, err := tree.Program(&elfdeps.Finder{}, "/bin/ls")
	if err != nil {
		t.Skip(err)
	}
	if err := errors.Join(tree.Base("box"), tree.LoaderCache([]*elfdeps.Closure{c})); err != nil {
		t.Fatal(err)
	}
	dir := unpack(t, pack(t, tree, nil))
	cmd := exec.Command("/bin/ls", "-l", "/", "/etc/passwd")
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: dir}
	cmd.Dir = "/"
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "root root") || strings.Contains(string(out), "home") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestRunFile(t *testing.T) {
	r := Run{Exe: "/bin/x", Args: []string{"x", "", "a b"}, Env: []string{"A=1"}, Hostname: "h", Strace: true, Verbose: true}
	b, err := r.File()
	want := "exe=/bin/x\x00arg=x\x00arg=\x00arg=a b\x00env=A=1\x00cwd=/\x00hostname=h\x00strace=1\x00verbose=1\x00"
	if err != nil || string(b) != want {
		t.Errorf("%q, %v", b, err)
	}
	r = Run{Exe: "/x", Root: &Mount{Source: "/dev/vda1", Options: "ro"}, Verity: &Verity{Hash: "00", Offset: 4096}, Overlay: "tmpfs",
		Mounts: []Mount{{"my tag", "/mnt", "virtiofs", ""}}}
	b, err = r.File()
	want = "exe=/x\x00cwd=/\x00root=/dev/vda1 auto ro\x00verity=00 4096\x00overlay=tmpfs\x00mount=my\\040tag /mnt virtiofs\x00"
	if err != nil || string(b) != want {
		t.Errorf("%q, %v", b, err)
	}
	long := strings.Repeat("x", maxArgString-1)
	for name, test := range map[string]struct {
		run Run
		ok  bool
	}{
		"longest":      {Run{Args: []string{long}}, true},
		"too long":     {Run{Args: []string{long + "x"}}, false},
		"too long env": {Run{Env: []string{long + "x"}}, false},
		"too many":     {Run{Args: make([]string, maxArgTotal/9+1)}, false},
		"too much":     {Run{Args: strings.Fields(strings.Repeat(long+" ", 16))}, false},
		"NUL":          {Run{Args: []string{"a\x00b"}}, false},
	} {
		_, err := test.run.File()
		if (err == nil) != test.ok {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && name != "NUL" && !errors.Is(err, ErrTooLong) {
			t.Errorf("%s: %v is not ErrTooLong", name, err)
		}
	}
}
