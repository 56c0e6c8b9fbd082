package fuse_test

import (
	"encoding/binary"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/vmm/hostfs"
)

// liar is a server whose replies come from a fuzzer: for each request a length, an error number, and as many bytes.
type liar struct {
	honest func(readable, writable [][]byte) uint32

	mu      sync.Mutex
	replies []byte // guarded by mu
}

func (l *liar) set(replies []byte) {
	l.mu.Lock()
	l.replies = replies
	l.mu.Unlock()
}

func (l *liar) handle(readable, writable [][]byte) uint32 {
	var all []byte
	for _, b := range readable {
		all = append(all, b...)
	}
	room := 0
	for _, b := range writable {
		room += len(b)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	op := binary.LittleEndian.Uint32(all[4:])
	if len(l.replies) < 4 || op == 26 || op == 2 || op == 42 || l.replies[0]&0x80 != 0 { // INIT and FORGET; an honest answer
		if len(l.replies) > 0 {
			l.replies = l.replies[1:]
		}
		return l.honest(readable, writable)
	}
	n, e, how := int(binary.LittleEndian.Uint16(l.replies)&0x1ff), l.replies[2], l.replies[3]
	l.replies = l.replies[4:]
	out := make([]byte, 16+n)
	copy(out[16:], l.replies[:min(n, len(l.replies))])
	l.replies = l.replies[min(n, len(l.replies)):]
	if how&1 != 0 { // cut to what is expected
		out = out[:min(len(out), room)]
	}
	binary.LittleEndian.PutUint32(out, uint32(len(out)))
	binary.LittleEndian.PutUint32(out[4:], uint32(-int32(e)))
	copy(out[8:16], all[8:16])
	if how&2 != 0 {
		out[8]++ // somebody else's answer
	}
	if how&4 != 0 {
		out[0]++
	}
	for _, b := range writable {
		out = out[copy(b, out):]
	}
	return uint32(16 + n)
}

// FuzzFuseReplies has programs use a file system whose server answers anything. Nothing may panic or hang; all memory comes back.
func FuzzFuseReplies(f *testing.F) {
	entry := func(node uint64, mode uint32, size uint64) []byte {
		b := binary.LittleEndian.AppendUint64(nil, node)
		b = append(b, make([]byte, 32)...)
		b = binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(b, node), size)
		b = append(b, make([]byte, 44)...)
		b = binary.LittleEndian.AppendUint32(b, mode)
		return append(b, make([]byte, 24)...)
	}
	reply := func(b []byte) []byte { return append([]byte{byte(len(b)), byte(len(b) >> 8), 0, 1}, b...) }
	f.Add([]byte{})
	f.Add(append(reply(entry(5, unix.S_IFREG|0o644, 1<<40)), reply([]byte("12345678\x00\x00\x00\x00\x00\x00\x00\x00"))...))
	f.Add(append(reply(entry(5, unix.S_IFDIR|0o755, 0)), reply(entry(1, unix.S_IFDIR|0o755, 0))...))
	f.Add(append([]byte{0x80, 0x80, 0x80}, reply(entry(2, unix.S_IFLNK|0o777, 1<<63))...))
	f.Fuzz(func(t *testing.T, replies []byte) {
		dir := t.TempDir()
		for _, err := range []error{
			os.WriteFile(dir+"/f", []byte("text"), 0o600), os.Mkdir(dir+"/d", 0o700), os.WriteFile(dir+"/d/g", make([]byte, 5000), 0o600),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		s, err := hostfs.New(hostfs.Config{Dir: dir, Valid: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close) // after the world has ended
		l := &liar{honest: s.Handle}
		w := newWorldOf(t, l.handle)
		l.set(replies)
		c, p := w.Ctx, vfs.Path{}
		for range 2 {
			for _, name := range []string{"/mnt/f", "/mnt/d/g", "/mnt/new"} {
				file, err := vfs.Open(c, p, name, unix.O_CREAT|unix.O_RDWR, 0o600)
				if err != nil {
					continue
				}
				b := uio.Buffer(make([]byte, 9000))
				_, _ = file.Pread(&b, 0)
				_, _ = write(file, "some text", 4090)
				_, _ = file.Seek(0, unix.SEEK_DATA)
				_ = file.Truncate(5)
				_ = file.Allocate(0, 0, 5000)
				if c := file.MapCache(); c != nil { // nil: the server has it read past the cache
					if frame, err := c.Page(0, true); err == nil {
						w.Pool.Unref(frame)
					}
				}
				_ = file.Sync()
				var st unix.Stat_t
				_ = file.Stat(&st)
				file.DecRef()
			}
			if d, err := vfs.Open(c, p, "/mnt", unix.O_RDONLY|unix.O_DIRECTORY, 0); err == nil {
				for range 4 {
					b := uio.Buffer(make([]byte, 300))
					if n, err := d.Getdents(c, &b, false); n == 0 || err != nil {
						break
					}
				}
				d.DecRef()
			}
			_ = vfs.Symlink(c, "f", p, "/mnt/l")
			_, _ = vfs.Readlink(c, p, "/mnt/l")
			_ = vfs.Mkdir(c, p, "/mnt/d2", 0o700)
			_ = vfs.Link(c, p, "/mnt/f", p, "/mnt/h", 0)
			_ = vfs.Rename(c, p, "/mnt/h", p, "/mnt/d/h", 0)
			_ = vfs.Unlink(c, p, "/mnt/new")
			_ = vfs.Rmdir(c, p, "/mnt/d2")
			if at, err := vfs.Lookup(c, p, "/mnt/f", 0); err == nil {
				_ = vfs.Chmod(c, at, 0o640)
				_ = vfs.Setxattr(c, at, "user.x", []byte("y"), 0)
				_, _ = vfs.Getxattr(c, at, "user.x")
				_, _ = vfs.Listxattr(c, at)
				var st unix.Statfs_t
				vfs.Statfs(at, &st)
			}
		}
	})
}
