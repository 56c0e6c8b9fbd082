package oci

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/klauspost/compress/zstd"

	"gosv/image/rootfs"
)

// An entry of a layer: "d", "->target", "=>hard link", "dev", or contents.
type file struct{ name, what string }

func layerOf(t testing.TB, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Mode: 0o644, Typeflag: tar.TypeReg, Format: tar.FormatPAX}
		switch {
		case f.what == "d":
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		case f.what == "dev":
			h.Typeflag, h.Devmajor, h.Devminor = tar.TypeChar, 1, 3
		case strings.HasPrefix(f.what, "->"):
			h.Typeflag, h.Linkname = tar.TypeSymlink, f.what[2:]
		case strings.HasPrefix(f.what, "=>"):
			h.Typeflag, h.Linkname = tar.TypeLink, f.what[2:]
		default:
			h.Size = int64(len(f.what))
		}
		if strings.HasSuffix(f.name, "attr") {
			h.PAXRecords = map[string]string{"SCHILY.xattr.user.a": "b", "SCHILY.xattr.security.selinux": "of the host"}
			h.Uid, h.Gid, h.Mode = 1000, 70000, 0o4755
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := io.WriteString(w, f.what); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func store(t testing.TB) *Store {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return &Store{File: f, Limit: 1 << 20}
}

// list describes a tree in lines.
func list(t testing.TB, tree *rootfs.Tree) string {
	t.Helper()
	var b strings.Builder
	err := tree.Walk(func(full string, e rootfs.Entry) error {
		fmt.Fprintf(&b, "%s %v", full, e.Mode)
		if e.Target != "" {
			fmt.Fprintf(&b, " -> %s", e.Target)
		}
		if e.Open != nil {
			f, err := e.Open()
			if err != nil {
				return err
			}
			data, err := io.ReadAll(f)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %q", data)
		}
		if e.UID|e.GID != 0 {
			fmt.Fprintf(&b, " %d:%d", e.UID, e.GID)
		}
		if len(e.Xattrs) > 0 {
			fmt.Fprint(&b, " ", e.Xattrs)
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func noWarning(string) {}

var layers = [][]file{
	{{"bin", "->usr/bin"}, {"usr/", "d"}, {"usr/bin/", "d"}, {"usr/bin/app", "one"}, {"etc/", "d"}, {"etc/a", "a"}, {"etc/b", "b"}, {"etc/c", "c"},
		{"opaque/", "d"}, {"opaque/old", "old"}, {"opaque/sub/deep", "deep"}, {"data/x", "x"}, {"data/y", "=>data/x"}, {"was-dir/in", "in"}, {"was-file", "f"}},
	{{"./bin/tool", "two"}, {"etc/.wh.a", ""}, {"etc/b", "B"}, {"opaque/new", "new"}, {"opaque/.wh..wh..opq", ""}, {"was-dir", "now a file"},
		{"was-file/", "d"}, {"was-file/in", "in"}, {".wh.data", ""}, {"data/z", "z"}, {"with-attr", "x"}, {".wh..wh.plnk/1.2", ""}, {"dev/null", "dev"}},
	{{"etc/.wh.nothing", ""}, {"again", "=>usr/bin/app"}, {"pipe", "->/dev/null"}, {"/slash", "=>/usr/bin/app"}, {"/opt/", "d"}, {"//opt/x", "x"}, {"jail/null", "dev"}},
}

// Layers are applied as the OCI image specification says.
func TestApply(t *testing.T) {
	tree, s := rootfs.New(rootfs.Options{}), store(t)
	var warnings []string
	for _, l := range layers {
		if err := Apply(tree, s, bytes.NewReader(layerOf(t, l...)), func(w string) { warnings = append(warnings, w) }); err != nil {
			t.Fatal(err)
		}
	}
	const want = `/ drwxr-xr-x
/again -rw-r--r-- "one"
/bin Lrwxrwxrwx -> usr/bin
/data drwxr-xr-x
/data/z -rw-r--r-- "z"
/etc drwxr-xr-x
/etc/b -rw-r--r-- "B"
/etc/c -rw-r--r-- "c"
/jail drwxr-xr-x
/jail/null Dcrw-r--r--
/opaque drwxr-xr-x
/opaque/new -rw-r--r-- "new"
/opt drwxr-xr-x
/opt/x -rw-r--r-- "x"
/pipe Lrwxrwxrwx -> /dev/null
/slash -rw-r--r-- "one"
/usr drwxr-xr-x
/usr/bin drwxr-xr-x
/usr/bin/app -rw-r--r-- "one"
/usr/bin/tool -rw-r--r-- "two"
/was-dir -rw-r--r-- "now a file"
/was-file drwxr-xr-x
/was-file/in -rw-r--r-- "in"
/with-attr urwxr-xr-x "x" 1000:70000 map[user.a:b]
`
	if got := list(t, tree); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0], "/dev/null") {
		t.Errorf("%q", warnings)
	}
}

func TestHostileLayers(t *testing.T) {
	big := layerOf(t, file{"big", "x"})
	copy(big[124:], "77777777777\x00")
	for name, test := range map[string]struct {
		layer []byte
		want  string
	}{
		"dot dot":           {layerOf(t, file{"a/../../etc/passwd", "x"}), "leaves the archive"},
		"link out":          {layerOf(t, file{"a", "=>../../etc/shadow"}), "leaves the archive"},
		"absolute link":     {layerOf(t, file{"a", "=>/etc/shadow"}), "not there"},
		"link to nothing":   {layerOf(t, file{"a", "=>b"}), "not there"},
		"whiteout of ..":    {layerOf(t, file{"a/.wh...", "x"}), "without a name"},
		"through a file":    {layerOf(t, file{"a", "x"}, file{"a/b", "x"}), "not a directory"},
		"link to itself":    {layerOf(t, file{"a", "->a"}, file{"a/b", "x"}), "too many levels"},
		"too much":          {layerOf(t, file{"a", strings.Repeat("x", 1<<20)}, file{"b", "x"}), "MiB"},
		"long name":         {layerOf(t, file{strings.Repeat("x", 300), "x"}), "300 bytes"},
		"huge size":         {big, ""},
		"truncated":         {layerOf(t, file{"a", strings.Repeat("x", 5000)})[:2000], "ends early"},
		"truncated header":  {layerOf(t, file{"a", "x"})[:300], "ends early"},
		"not a tar archive": {[]byte(strings.Repeat("hello ", 200)), "header"},
	} {
		err := Apply(rootfs.New(rootfs.Options{}), store(t), bytes.NewReader(test.layer), noWarning)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
	// A symbolic link out of the tree is one of the image's own: it leads nowhere else.
	tree := rootfs.New(rootfs.Options{})
	if err := Apply(tree, store(t), bytes.NewReader(layerOf(t, file{"out", "->../../../etc"}, file{"out/passwd", "mine"})), noWarning); err != nil {
		t.Error(err)
	}
	if full, _, err := tree.Stat("/etc/passwd"); err != nil || full != "/etc/passwd" {
		t.Error(full, err)
	}
}

// container makes an image of the layers.
func container(t testing.TB, arch string) v1.Image {
	t.Helper()
	image := v1.Image(empty.Image)
	for _, files := range layers {
		b := layerOf(t, files...)
		l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil })
		if err == nil {
			image, err = mutate.AppendLayers(image, l)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", arch
	config.Config = v1.Config{Entrypoint: []string{"/usr/bin/app"}, Cmd: []string{"x"}, Env: []string{"A=b"}, User: "nobody", WorkingDir: "/data",
		ExposedPorts: map[string]struct{}{"80/tcp": {}, "53/udp": {}}, Volumes: map[string]struct{}{"/var/lib/x": {}}}
	if image, err = mutate.ConfigFile(image, config); err != nil {
		t.Fatal(err)
	}
	return image
}

// archives writes an image in all three forms.
func archives(t testing.TB, image v1.Image) map[string]string {
	t.Helper()
	dir := t.TempDir()
	tag, err := name.NewTag("example.org/app:1")
	if err != nil {
		t.Fatal(err)
	}
	docker := filepath.Join(dir, "docker.tar")
	if err := tarball.WriteToFile(docker, tag, image); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(dir, "layout")
	p, err := layout.Write(folder, empty.Index)
	if err == nil {
		err = p.AppendImage(image)
	}
	if err != nil {
		t.Fatal(err)
	}
	oci := filepath.Join(dir, "oci.tar")
	if out, err := exec.Command("tar", "-C", folder, "-cf", oci, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	all := map[string]string{"docker archive": docker, "layout": folder, "OCI archive": oci}
	for ext, writer := range map[string]func(io.Writer) (io.WriteCloser, error){
		".gz":  func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil },
		".zst": func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) },
	} {
		for _, kind := range []string{"docker archive", "OCI archive"} {
			all[kind+ext] = compress(t, all[kind], ext, writer)
		}
	}
	return all
}

func compress(t testing.TB, name, ext string, writer func(io.Writer) (io.WriteCloser, error)) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w, err := writer(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Close(), os.WriteFile(name+ext, b.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	return name + ext
}

func TestOpen(t *testing.T) {
	var first string
	for kind, file := range archives(t, container(t, "amd64")) {
		t.Run(kind, func(t *testing.T) {
			if !Is(file) {
				t.Error("it is not taken for an image")
			}
			i, err := Open(file, "")
			if err != nil {
				t.Fatal(err)
			}
			defer i.Close()
			s := i.Spec()
			if got := fmt.Sprint(*s); got != "{[/usr/bin/app] [x] [A=b] /data nobody   0 [53/udp 80/tcp] [/var/lib/x] false [] }" {
				t.Error(got)
			}
			tree := rootfs.New(rootfs.Options{})
			if err := i.Apply(tree, store(t), noWarning); err != nil {
				t.Fatal(err)
			}
			got := list(t, tree)
			if first == "" {
				first = got
			}
			if got != first || !strings.Contains(got, `/again -rw-r--r-- "one"`) {
				t.Error(got)
			}
		})
	}
}

func TestOpenRefuses(t *testing.T) {
	foreign := archives(t, container(t, "arm64"))
	good := archives(t, container(t, "amd64"))
	b, err := os.ReadFile(good["docker archive"])
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, b []byte) string {
		full := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(full, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return full
	}
	gz, _ := os.ReadFile(good["docker archive.gz"])
	zst, _ := os.ReadFile(good["docker archive.zst"])
	broken := slices.Clone(gz)
	broken[len(broken)-6] ^= 1 // its checksum
	damaged := filepath.Join(t.TempDir(), "layout")
	if err := os.CopyFS(damaged, os.DirFS(good["layout"])); err != nil {
		t.Fatal(err)
	}
	i, _ := Open(damaged, "")
	ls, _ := i.image.Layers()
	d, _ := ls[0].Digest()
	other, _ := ls[1].Digest()
	data, _ := os.ReadFile(filepath.Join(damaged, "blobs", "sha256", other.Hex))
	if err := os.WriteFile(filepath.Join(damaged, "blobs", "sha256", d.Hex), data, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ file, ref, want string }{
		"foreign": {foreign["docker archive"], "", "arm64"}, "foreign layout": {foreign["layout"], "", "arm64"}, "other tag": {good["docker archive"], "x:2", "example.org/app:1"},
		"other tag of a layout": {good["layout"], "x:2", "with the tag x:2; there are: "},
		"truncated":             {write("t.tar", b[:len(b)/2]), "", ""}, "plain tar": {write("p.tar", layerOf(t, file{"a", "b"})), "", "neither"},
		"no tar": {write("n.tar", []byte(strings.Repeat("no ", 300))), "", "header"}, "missing": {"/no/image.tar", "", "no such file"},
		"damaged layer": {damaged, "", "checksum"}, "truncated gzip": {write("t.gz", gz[:len(gz)-20]), "", "ends early"}, "damaged gzip": {write("d.gz", broken), "", "gzip"},
		"truncated zstd": {write("t.zst", zst[:len(zst)-20]), "", "ends early"}, "no zstd": {write("n.zst", append(zst[:4:4], gz...)), "", ""},
		"a file in gzip": {write("f.gz", []byte("\x1f\x8b")), "", "ends early"},
	} {
		err := func() error {
			i, err := Open(test.file, test.ref)
			if err != nil {
				return err
			}
			defer i.Close()
			return i.Apply(rootfs.New(rootfs.Options{}), store(t), noWarning)
		}()
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}

// FuzzLayer applies two foreign layers: the tree stays a tree.
func FuzzLayer(f *testing.F) {
	for i := range layers {
		f.Add(layerOf(f, layers[i]...), layerOf(f, layers[(i+1)%len(layers)]...))
	}
	f.Add(layerOf(f, file{"a", "->b"}, file{"b", "->a"}, file{"a/c", "x"}), layerOf(f, file{"../x", "y"}))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		tree, s := rootfs.New(rootfs.Options{}), &Store{File: &memory{}, Limit: 1 << 16}
		for _, l := range [][]byte{a, b} {
			_ = Apply(tree, s, bytes.NewReader(l), noWarning)
		}
		dirs := map[string]bool{}
		err := tree.Walk(func(full string, e rootfs.Entry) error {
			if full != path.Clean(full) || full != "/" && !dirs[path.Dir(full)] {
				return fmt.Errorf("%q lies in no directory", full)
			}
			dirs[full] = e.Mode.IsDir()
			if e.Mode&fs.ModeDevice != 0 && (e.Major > maxMajor || e.Minor > maxMinor || strings.HasPrefix(full, "/dev/")) {
				return fmt.Errorf("%q is the device %d:%d", full, e.Major, e.Minor)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// memory is a file in memory.
type memory struct{ b []byte }

func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(m.b).ReadAt(p, off)
}

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if end := int(off) + len(p); end > len(m.b) {
		m.b = append(m.b, make([]byte, end-len(m.b))...)
	}
	return copy(m.b[off:], p), nil
}
