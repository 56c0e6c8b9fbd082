package verity

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	writer "gosv/image/verity"
)

type disk []byte

func (d disk) Size() int64 { return int64(len(d)) }
func (d disk) ReadAt(p []byte, off int64) error {
	if off < 0 || off%512 != 0 || len(p)%512 != 0 || off+int64(len(p)) > int64(len(d)) {
		return unix.EIO
	}
	copy(p, d[off:])
	return nil
}

func noise(n int) []byte {
	r := rand.NewChaCha8([32]byte{3})
	b := make([]byte, n)
	_, _ = r.Read(b) // never fails
	return b
}

func TestSHA256(t *testing.T) {
	b := noise(5000)
	for n := range 300 {
		if sum256(b[:n]) != sha256.Sum256(b[:n]) {
			t.Fatal(n)
		}
		if sum256(b[:n/3], b[n/3:n/2], nil, b[n/2:n]) != sha256.Sum256(b[:n]) {
			t.Fatal("parts of", n)
		}
	}
	if sum256(b) != sha256.Sum256(b) {
		t.Error("5000 bytes")
	}
}

// made returns data with its tree behind, and the root hash.
func made(t testing.TB, blocks int, salt string) (disk, []byte) {
	t.Helper()
	data := noise(blocks * writer.BlockSize)
	tree, root, err := writer.Tree(bytes.NewReader(data), int64(len(data)), writer.Options{Salt: []byte(salt)})
	if err != nil {
		t.Fatal(err)
	}
	return append(data, tree...), root[:]
}

func TestTree(t *testing.T) {
	for _, blocks := range []int{1, 2, 127, 128, 129, 128*128 + 1} {
		b, root := made(t, blocks, "salt")
		size := int64(blocks) * writer.BlockSize
		d, err := Open(b, b, size, root, func(s string) { t.Error(s) })
		if err != nil {
			t.Fatalf("%d blocks: %v", blocks, err)
		}
		if d.Size() != size {
			t.Error(d.Size())
		}
		got := make([]byte, 3*512)
		for _, off := range []int64{0, 512, size - 1536, size / 2 &^ 511} {
			if err := d.ReadAt(got, off); err != nil || !bytes.Equal(got, b[off:off+1536]) {
				t.Errorf("%d blocks, at %d: %v", blocks, off, err)
			}
		}
		whole := make([]byte, min(size, 1<<20))
		if err := d.ReadAt(whole, 0); err != nil || !bytes.Equal(whole, b[:len(whole)]) {
			t.Error("whole", err)
		}
		if err := d.ReadAt(got, size-512); err != unix.EINVAL {
			t.Error("beyond the end:", err)
		}
	}
}

// Every flipped bit is found: of the data, and of each level of the tree.
func TestFlippedBits(t *testing.T) {
	b, root := made(t, 300, "")
	size := int64(300 * writer.BlockSize)
	for at := 0; at < len(b); at += 16381 {
		if int64(at) >= size && int64(at) < size+writer.BlockSize {
			continue // the superblock is checked by what it leads to
		}
		b[at] ^= 0x10
		complaints := 0
		d, err := Open(b, b, size, root, func(string) { complaints++ })
		var got [writer.BlockSize]byte
		bad := 0
		for n := int64(0); err == nil && n < 300; n++ {
			if e := d.ReadAt(got[:], n*writer.BlockSize); e != nil {
				bad++
				if e != unix.EIO || got != [writer.BlockSize]byte{} {
					t.Fatalf("%v", e)
				}
			}
		}
		padding := int64(at) >= size+writer.BlockSize && b[at] == 0x10 // of the tree's last blocks; these are hashed, too
		if err == nil && bad == 0 && !padding || complaints == 0 {
			t.Fatalf("a change at %d was not found (%v)", at, err)
		}
		if int64(at) < size && bad != 1 {
			t.Fatalf("a change at %d spoils %d blocks", at, bad)
		}
		b[at] ^= 0x10
	}
	wrong := bytes.Clone(root)
	wrong[0]++
	if _, err := Open(b, b, size, wrong, nil); err != unix.EIO {
		t.Error("wrong root hash:", err)
	}
}

func TestRefusals(t *testing.T) {
	b, root := made(t, 200, "x")
	size := int64(200 * writer.BlockSize)
	for name, c := range map[string]struct {
		change func(s []byte)
		want   error
	}{
		"signature": {func(s []byte) { s[0]++ }, unix.EINVAL},
		"version":   {func(s []byte) { s[8]++ }, unix.EINVAL},
		"algorithm": {func(s []byte) { copy(s[32:], "sha512") }, unix.EOPNOTSUPP},
		"block":     {func(s []byte) { s[64] = 1 }, unix.EINVAL},
		"huge":      {func(s []byte) { binary.LittleEndian.PutUint32(s[68:], 1<<20) }, unix.EINVAL},
		"blocks":    {func(s []byte) { s[79] = 0xff }, unix.EINVAL},
		"more":      {func(s []byte) { s[73]++ }, unix.EINVAL},
		"salt":      {func(s []byte) { s[81] = 9 }, unix.EINVAL},
		"salted":    {func(s []byte) { s[88]++ }, unix.EIO},
	} {
		x := disk(bytes.Clone(b))
		c.change(x[size:])
		if _, err := Open(x, x, size, root, nil); err != c.want {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if _, err := Open(b, b[:len(b)-4096], size, root, nil); err != unix.EINVAL {
		t.Error("cut off:", err)
	}
	if _, err := Open(b, b, size, root[:20], nil); err != unix.EINVAL {
		t.Error("short hash:", err)
	}
}

// veritysetup and we agree on format and hash, in both directions.
func TestVeritysetup(t *testing.T) {
	if _, err := exec.LookPath("veritysetup"); err != nil {
		t.Skip("needs veritysetup")
	}
	dir := t.TempDir()
	for _, blocks := range []int{1, 129, 2000} {
		b, root := made(t, blocks, "some salt")
		size := blocks * writer.BlockSize
		dataFile, hashFile := filepath.Join(dir, "data"), filepath.Join(dir, "hash")
		for name, text := range map[string][]byte{dataFile: b[:size], hashFile: b[size:]} {
			if err := os.WriteFile(name, text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if out, err := exec.Command("veritysetup", "verify", dataFile, hashFile, hex.EncodeToString(root)).CombinedOutput(); err != nil {
			t.Fatalf("%d blocks: %v\n%s", blocks, err, out)
		}
		out, err := exec.Command("veritysetup", "format", dataFile, hashFile, "--salt", hex.EncodeToString([]byte("some salt")), "--hash-block-size", "1024").CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		_, text, _ := strings.Cut(string(out), "Root hash:")
		theirs, err := hex.DecodeString(strings.Fields(text)[0])
		if err != nil {
			t.Fatal(err, string(out))
		}
		tree, err := os.ReadFile(hashFile)
		if err != nil {
			t.Fatal(err)
		}
		d, err := Open(b[:size], disk(tree), 0, theirs, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, min(size, 1<<22))
		if err := d.ReadAt(got, 0); err != nil || !bytes.Equal(got, b[:len(got)]) {
			t.Error(err)
		}
	}
}

func FuzzVerity(f *testing.F) {
	b, root := made(f, 3, "s")
	f.Add([]byte(b), root, 3*writer.BlockSize)
	c, root := made(f, 1, "")
	f.Add([]byte(c), root, writer.BlockSize)
	f.Fuzz(func(t *testing.T, b, root []byte, offset int) {
		if len(b) > 1<<16 {
			return
		}
		x := disk(b[:len(b)&^511])
		d, err := Open(x, x, int64(offset), root, nil)
		if err != nil {
			return
		}
		p := make([]byte, d.BlockSize())
		for off := int64(0); off < min(d.Size(), 64<<10); off += d.BlockSize() {
			if d.ReadAt(p, off) == nil && !bytes.Equal(p, x[off:off+d.BlockSize()]) {
				t.Fatal("something else was returned")
			}
		}
	})
}

func BenchmarkSHA256(b *testing.B) {
	p := noise(4096)
	b.SetBytes(4096)
	for b.Loop() {
		sum256(p)
	}
}
