package ext4

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gosv/kernel/vfs"
)

// TestPanic breaks what the file system has in memory, so that its code panics, in all the ways to hold its locks: who was there gets EIO, the locks
// are free, nothing can be changed any more, what is read goes on, and the disk has a mark of errors and is sound otherwise.
func TestPanic(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(fs *fileSystem, root *node)
		do     func(w *world) error
	}{
		"lookup": {func(fs *fileSystem, root *node) { fs.buffers.find(root.tree.find(0).pblock).data = nil },
			func(w *world) error { return vfs.Stat(w.Ctx, vfs.Path{}, "/m/other", 0, new(unix.Stat_t)) }},
		"create": {func(fs *fileSystem, _ *node) { fs.groups = nil },
			func(w *world) error { return w.write("/m/new", nil, 0, unix.O_CREAT) }},
		"commit": {func(fs *fileSystem, _ *node) { fs.tx.buffers = append(fs.tx.buffers, nil) },
			func(w *world) error { return w.sync("/m/a") }},
		"journal": {func(fs *fileSystem, _ *node) { fs.tx.buffers = append(fs.tx.buffers, &buffer{inTx: true}) },
			func(w *world) error {
				_ = vfs.Mkdir(w.Ctx, vfs.Path{}, "/m/dir", 0o755)
				return w.sync("/m/a")
			}},
		"data": {func(fs *fileSystem, _ *node) { fs.busy = nil },
			func(w *world) error {
				_ = w.write("/m/a", make([]byte, 8192), 8192, 0)
				return w.sync("/m/a")
			}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, mkfs(t, 16<<20, kinds["ext4"]...))
			w.mount(t, 0, "")
			if err := w.write("/m/a", []byte("contents"), 0, unix.O_CREAT); err != nil {
				t.Fatal(err)
			}
			if err := w.sync("/m/a"); err != nil {
				t.Fatal(err)
			}
			p, err := vfs.Lookup(w.Ctx, vfs.Path{}, "/m", 0)
			if err != nil {
				t.Fatal(err)
			}
			root := of(p.Inode())
			fs := root.fs
			fs.mu.Lock()
			names := fs.buffers.find(root.tree.find(0).pblock)
			groups, data := fs.groups, names.data
			c.damage(fs, root)
			fs.mu.Unlock()
			if err := c.do(w); err != unix.EIO {
				t.Errorf("%v, not EIO", err)
			}
			fs.mu.Lock()
			fs.groups, names.data = groups, data // as they are needed for what comes now
			fs.mu.Unlock()
			if err := vfs.Mkdir(w.Ctx, vfs.Path{}, "/m/more", 0o755); err != unix.EROFS {
				t.Errorf("a change afterwards: %v", err)
			}
			if got := w.read(t, "/m/a"); string(got[:8]) != "contents" {
				t.Errorf("%q", got)
			}
			at, err := vfs.Lookup(w.Ctx, vfs.Path{}, "/m", 0)
			if err == nil {
				err = vfs.Unmount(w.Ctx, at, 0)
			}
			if err != nil {
				t.Fatal(err)
			}
			if logs := strings.Join(w.logs, "\n"); !strings.Contains(logs, "kernel panic: ") || !strings.Contains(logs, "is read-only from now on") {
				t.Errorf("log: %s", logs)
			}
			file := filepath.Join(t.TempDir(), "image")
			if err := os.WriteFile(file, w.mem.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command("/sbin/dumpe2fs", "-h", file).CombinedOutput(); err != nil || !strings.Contains(string(out), "clean with errors") ||
				!strings.Contains(string(out), "FS Error count:           1") {
				t.Errorf("%v\n%s", err, out)
			}
			// The mark outlives our own replay of the journal, and e2fsck takes it away.
			w.logs = nil
			w.mount(t, 0, "")
			if logs := strings.Join(w.logs, "\n"); !strings.Contains(logs, "e2fsck") {
				t.Errorf("log: %s", logs)
			}
			w.logs = nil
			if got := w.read(t, "/m/a"); string(got[:8]) != "contents" {
				t.Errorf("%q", got)
			}
			w.unmount(t)
			fsck(t, w.mem.Bytes(), true)
		})
	}
}

// sync is fsync(2).
func (w *world) sync(path string) error {
	f, err := vfs.Open(w.Ctx, vfs.Path{}, path, unix.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.DecRef()
	return f.Sync()
}

// TestRoom makes and removes names of many lengths: room in a directory is used again, and no name is lost.
func TestRoom(t *testing.T) {
	for name, args := range map[string][]string{"linear": {"-O", "^dir_index"}, "index": nil} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, mkfs(t, 16<<20, append([]string{"-t", "ext4", "-b", "1024"}, args...)...))
			w.mount(t, 0, "")
			r := rand.New(rand.NewPCG(1, 2))
			names := map[string]bool{}
			for i := range 4000 {
				var err error
				victim := ""
				for n := range names {
					victim = n
					break
				}
				switch {
				case len(names) > 30:
					err = vfs.Unlink(w.Ctx, vfs.Path{}, "/m/"+victim)
					delete(names, victim)
				case victim != "" && r.IntN(4) == 0:
					n := fmt.Sprint(i, strings.Repeat("y", r.IntN(90)))
					err = vfs.Rename(w.Ctx, vfs.Path{}, "/m/"+victim, vfs.Path{}, "/m/"+n, 0)
					delete(names, victim)
					names[n] = true
				default:
					n := fmt.Sprint(i, strings.Repeat("x", r.IntN(90)))
					err = vfs.Mknod(w.Ctx, vfs.Path{}, "/m/"+n, unix.S_IFIFO|0o644, 0, nil)
					names[n] = true
				}
				if err != nil {
					t.Fatal(i, err)
				}
			}
			if list := w.List(t, "/m"); len(list) != len(names)+3 {
				t.Errorf("%d names, not %d: %q", len(list), len(names)+3, list)
			}
			for n := range names {
				if err := vfs.Stat(w.Ctx, vfs.Path{}, "/m/"+n, 0, new(unix.Stat_t)); err != nil {
					t.Error(n, err)
				}
			}
			var st unix.Stat_t
			if err := vfs.Stat(w.Ctx, vfs.Path{}, "/m", 0, &st); err != nil || st.Size > 24<<10 {
				t.Errorf("the directory has %d bytes for %d names, %v", st.Size, len(names), err)
			}
			w.unmount(t)
			fsck(t, w.mem.Bytes(), false)
		})
	}
}
