package erofs

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// file returns a regular file that holds data.
func file(data []byte) *Inode {
	return &Inode{Mode: ModeReg | 0o644, Size: int64(len(data)), Open: func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(data)), nil
	}}
}

func dir(entries map[string]*Inode) *Inode {
	return &Inode{Mode: ModeDir | 0o755, Entries: entries}
}

func noise(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// words is text that can be compressed.
func words(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 2))
	var b bytes.Buffer
	for b.Len() < n {
		fmt.Fprintf(&b, "word%d ", r.IntN(500))
	}
	return b.Bytes()[:n]
}

// sample is a tree with some of everything.
func sample() *Inode {
	sparse := make([]byte, 9<<20)
	copy(sparse[5<<20:], noise(100_000, 3))
	copy(sparse[len(sparse)-5:], "end.!")
	hard := file([]byte("two names"))
	many := map[string]*Inode{}
	for i := range 700 {
		many[fmt.Sprintf("entry-with-a-name-%d", i)] = file(fmt.Appendf(nil, "%d", i))
	}
	suid := file(noise(70_001, 4))
	suid.Mode = ModeReg | 0o4755
	suid.Xattrs = map[string]string{"security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", "user.a": "", "user.b": strings.Repeat("x", 3000)}
	old := file([]byte("old"))
	old.MTime, old.Nanosec, old.UID, old.GID = 123456789, 987654321, 70000, 100000
	tail := file(noise(4090, 5))
	tail.Xattrs = map[string]string{"user.k": strings.Repeat("y", 4050)}
	return dir(map[string]*Inode{
		"empty": file(nil), "one": file([]byte{1}), "block": file(noise(4096, 1)), "tail": file(noise(3*4096+77, 2)), "full": file(noise(4095, 9)),
		"sparse": {Mode: ModeReg | 0o600, Size: int64(len(sparse)), Open: file(sparse).Open},
		"zeros":  file(make([]byte, 1<<20)),
		"hard1":  hard, "!first": hard, "suid": suid, "old": old, "crowded": tail,
		"copy-of-suid": file(noise(70_001, 4)), "copy-of-tail": file(noise(3*4096+77, 2)), "copy-of-crowded": file(noise(4090, 5)),
		"text": file(words(1<<20, 1)), "short-text": file(words(5000, 2)), "odd\nname\xff": file([]byte("?")),
		"link": {Mode: ModeLink | 0o777, Target: "dir/../one"}, "longlink": {Mode: ModeLink | 0o777, Target: strings.Repeat("a/", 2040)},
		"null": {Mode: ModeChar | 0o666, Major: 1, Minor: 3}, "disk": {Mode: ModeBlk | 0o660, Major: 259, Minor: 300000},
		"pipe": {Mode: ModeFIFO | 0o600}, "socket": {Mode: ModeSock | 0o600},
		"dir": dir(map[string]*Inode{"sub": dir(map[string]*Inode{"hard3": hard}), "-": dir(nil)}), "many": dir(many),
	})
}

func write(t testing.TB, root *Inode, o Options) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "fs"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	size, err := Write(f, root, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return f
}

func open(t testing.TB, f *os.File) *FS {
	t.Helper()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	fs, err := Open(f, st.Size())
	if err != nil {
		t.Fatal(err)
	}
	return fs
}

// compare fails the test where a file that was read is not as it was written.
func compare(t *testing.T, name string, want *Inode, got *File, seen map[*Inode]*File) {
	t.Helper()
	type fields struct {
		Mode, UID, GID, Nanosec, Major, Minor uint32
		MTime                                 int64
		Target                                string
	}
	a := fields{want.Mode, want.UID, want.GID, want.Nanosec, want.Major, want.Minor, want.MTime, want.Target}
	b := fields{got.Mode, got.UID, got.GID, got.Nanosec, got.Major, got.Minor, got.MTime, got.Target}
	if a != b || len(want.Xattrs)+len(got.Xattrs) > 0 && !reflect.DeepEqual(want.Xattrs, got.Xattrs) {
		t.Errorf("%q: %+v, want %+v", name, b, a)
	}
	if have := seen[want]; have != nil && !have.Same(got) {
		t.Errorf("%q: the link is broken", name)
	}
	seen[want] = got
	switch want.kind() {
	case ModeReg:
		var data []byte
		if want.Open != nil {
			f, _ := want.Open()
			data, _ = io.ReadAll(f)
		}
		read, err := io.ReadAll(io.NewSectionReader(got, 0, got.Size))
		if err != nil || !bytes.Equal(read, data) {
			t.Errorf("%q: other contents, %d bytes for %d, %v", name, len(read), len(data), err)
		}
		for off := int64(1); off < got.Size; off = off*3 + 1 {
			b := make([]byte, min(100, got.Size-off))
			if _, err := got.ReadAt(b, off); err != nil || !bytes.Equal(b, data[off:off+int64(len(b))]) {
				t.Errorf("%q: other contents at %d, %v", name, off, err)
			}
		}
	case ModeDir:
		entries, err := got.ReadDir()
		if err != nil || len(entries) != len(want.Entries) {
			t.Fatalf("%q: %d entries, want %d, %v", name, len(entries), len(want.Entries), err)
		}
		for _, e := range entries {
			if want.Entries[e.Name] == nil {
				t.Fatalf("%q: entry %q", name, e.Name)
			}
			compare(t, name+"/"+e.Name, want.Entries[e.Name], e.File, seen)
		}
	}
}

var variants = map[string]Options{"plain": {Label: "test"}, "LZ4": {Compress: true, Time: 1000}}

// What was written is read again.
func TestRoundTrip(t *testing.T) {
	for name, o := range variants {
		t.Run(name, func(t *testing.T) {
			want := sample()
			fs := open(t, write(t, want, o))
			root, err := fs.Root()
			if err != nil {
				t.Fatal(err)
			}
			compare(t, "", want, root, map[*Inode]*File{})
		})
	}
}

func TestReproducible(t *testing.T) {
	for name, o := range variants {
		a, _ := os.ReadFile(write(t, sample(), o).Name())
		b, _ := os.ReadFile(write(t, sample(), o).Name())
		if !bytes.Equal(a, b) {
			t.Errorf("%s: the same tree gave two file systems", name)
		}
		other := sample()
		other.Entries["one"] = file([]byte{2})
		c := open(t, write(t, other, o))
		if open(t, write(t, sample(), o)).UUID == c.UUID {
			t.Errorf("%s: two trees have one UUID", name)
		}
	}
}

// Equal contents and zeros take no room.
func TestSize(t *testing.T) {
	a, b := file(noise(1<<20, 1)), file(noise(1<<20, 1))
	st, _ := write(t, dir(map[string]*Inode{"a": a, "b": b, "zeros": file(make([]byte, 16<<20))}), Options{}).Stat()
	if st.Size() > 1<<20+64<<10 {
		t.Errorf("%d bytes", st.Size())
	}
}

// erofs-utils find nothing wrong, and take out what was put in.
func TestUtils(t *testing.T) {
	fsck, err := exec.LookPath("fsck.erofs")
	if err != nil {
		t.Skip("erofs-utils are not installed")
	}
	for name, o := range variants {
		t.Run(name, func(t *testing.T) {
			f := write(t, sample(), o)
			out := filepath.Join(t.TempDir(), "out")
			b, err := exec.Command(fsck, "--extract="+out, "--no-preserve", f.Name()).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, b)
			}
			for name, i := range sample().Entries {
				if i.kind() != ModeReg || i.Open == nil || name == "zeros" || name == "sparse" {
					continue // erofs-utils 1.5 drop holes when they extract
				}
				r, _ := i.Open()
				want, _ := io.ReadAll(r)
				got, err := os.ReadFile(filepath.Join(out, name))
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("%q: %d bytes for %d, %v", name, len(got), len(want), err)
				}
			}
			if many, err := os.ReadDir(filepath.Join(out, "many")); err != nil || len(many) != 700 {
				t.Errorf("%d entries, %v", len(many), err)
			}
			if target, err := os.Readlink(filepath.Join(out, "link")); target != "dir/../one" {
				t.Errorf("link to %q, %v", target, err)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	loop := dir(map[string]*Inode{})
	loop.Entries["self"] = loop
	shrunk := file([]byte("x"))
	shrunk.Size = 5
	grown := file([]byte("xyz"))
	grown.Size = 2
	for name, root := range map[string]*Inode{
		"root is a file": file(nil), "a loop": loop, "..": dir(map[string]*Inode{"..": file(nil)}), "slash": dir(map[string]*Inode{"a/b": file(nil)}),
		"empty": dir(map[string]*Inode{"": file(nil)}), "no type": dir(map[string]*Inode{"x": {Mode: 0o644}}), "shrunk": dir(map[string]*Inode{"x": shrunk}),
		"grown": dir(map[string]*Inode{"x": grown}), "no target": dir(map[string]*Inode{"x": {Mode: ModeLink}}),
		"strange attribute": dir(map[string]*Inode{"x": {Mode: ModeReg, Xattrs: map[string]string{"other.x": ""}}}),
	} {
		f, err := os.Create(filepath.Join(t.TempDir(), "fs"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Write(f, root, Options{}); err == nil {
			t.Errorf("%s: no error", name)
		}
		f.Close()
	}
}

// FuzzOpen reads all of an image that may be damaged.
func FuzzOpen(f *testing.F) {
	small := dir(map[string]*Inode{"a": file(words(9000, 1)), "d": dir(map[string]*Inode{"l": {Mode: ModeLink, Target: "x"}}), "s": file(make([]byte, 70_000))})
	small.Entries["a"].Xattrs = map[string]string{"user.x": "y"}
	for _, o := range variants {
		b, err := os.ReadFile(write(f, small, o).Name())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > BlockSize {
			b = bytes.Clone(b)
			b[superOffset+8] = 0 // without a checksum
		}
		fs, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		root, err := fs.Root()
		if err != nil {
			return
		}
		budget := 1000
		readAll(root, 0, &budget)
	})
}

func readAll(f *File, depth int, budget *int) {
	if *budget--; *budget < 0 || depth > 20 {
		return
	}
	if f.kind() != ModeDir {
		_, _ = io.CopyN(io.Discard, io.NewSectionReader(f, 0, min(f.Size, 1<<20)), 1<<20)
		return
	}
	entries, _ := f.ReadDir()
	for _, e := range entries {
		readAll(e.File, depth+1, budget)
	}
}

// Text becomes smaller, and noise does not become larger.
func TestCompression(t *testing.T) {
	for name, test := range map[string]struct {
		data        []byte
		least, most int64
	}{"text": {words(1<<20, 1), 100 << 10, 600 << 10}, "noise": {noise(1<<20, 1), 1 << 20, 1<<20 + 16<<10}, "small noise": {noise(20_000, 1), 16 << 10, 32 << 10},
		"half": {append(noise(1<<20, 1), words(1<<20, 1)...), 1 << 20, 3 << 19}} {
		st, _ := write(t, dir(map[string]*Inode{"a": file(test.data)}), Options{Compress: true}).Stat()
		if st.Size() < test.least || st.Size() > test.most {
			t.Errorf("%s: %d bytes for %d", name, st.Size(), len(test.data))
		}
	}
}

func TestLZ4(t *testing.T) {
	var e lz4Encoder
	for n := range 120 {
		for seed, data := range [][]byte{noise(n*123, uint64(n)), words(n*123, uint64(n)), make([]byte, n*123), bytes.Repeat([]byte("abc"), n*40)} {
			for _, room := range []int{20, 100, 4096} {
				dst := make([]byte, room)
				taken, made := e.encode(dst, data)
				out := make([]byte, taken)
				if made > room || taken > len(data) || !lz4Decode(out, dst[:made]) || !bytes.Equal(out, data[:taken]) {
					t.Fatalf("%d bytes of kind %d in %d: %d became %d", len(data), seed, room, taken, made)
				}
			}
		}
	}
}

// FuzzLZ4 decompresses foreign blocks, and compresses foreign bytes.
func FuzzLZ4(f *testing.F) {
	f.Add([]byte("\x1fa\x01\x00\x50"), uint16(100))
	f.Add(words(200, 1), uint16(300))
	f.Fuzz(func(t *testing.T, b []byte, n uint16) {
		lz4Decode(make([]byte, n), b)
		var e lz4Encoder
		dst := make([]byte, max(n%5000, 20))
		taken, made := e.encode(dst, b)
		out := make([]byte, taken)
		if taken > 0 && (!lz4Decode(out, dst[:made]) || !bytes.Equal(out, b[:taken])) {
			t.Error("what was compressed is not what comes out")
		}
	})
}
