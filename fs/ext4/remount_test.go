package ext4

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gosv/kernel/block"
	"gosv/kernel/vfs"
)

func (w *world) remount(path string, flags uint64, data string) error {
	at, err := vfs.Lookup(w.Ctx, vfs.Path{}, path, 0)
	if err != nil {
		return err
	}
	return vfs.DoMount(w.Ctx, "", at, "", unix.MS_REMOUNT|flags, data)
}

func check(t *testing.T, what string, got, want error) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// TestRemount goes back and forth between read-only and not, as a system does that boots with a read-only root: it is so for all mounts, and what is
// read-only is clean on the disk.
func TestRemount(t *testing.T) {
	for _, name := range []string{"ext4-1k", "nojournal", "ext3"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, mkfs(t, 16<<20, kinds[name]...))
			check(t, "mkdir", vfs.Mkdir(w.Ctx, vfs.Path{}, "/b", 0o755), nil)
			w.mount(t, unix.MS_RDONLY, "")
			b, err := vfs.Lookup(w.Ctx, vfs.Path{}, "/b", 0)
			check(t, "lookup", err, nil)
			check(t, "bind", vfs.DoMount(w.Ctx, "/m", b, "", unix.MS_BIND, ""), nil)
			for i, file := range []string{"1", "2"} {
				check(t, "write to what is read-only", w.write("/m/x", []byte("x"), 0, unix.O_CREAT), unix.EROFS)
				check(t, "write through the other mount", w.write("/b/x", []byte("x"), 0, unix.O_CREAT), unix.EROFS)
				check(t, "unknown option", w.remount("/m", 0, "frobnicate"), unix.EINVAL)
				if len(w.logs) != 1 || !strings.Contains(w.logs[0], "frobnicate") {
					t.Errorf("log: %q", w.logs)
				}
				w.logs = nil
				check(t, "rw", w.remount("/m", 0, "errors=remount-ro"), nil)
				check(t, "write", w.write("/m/"+file, []byte("contents "+file), 0, unix.O_CREAT), nil)
				if i == 0 {
					// The second mount is read-only by itself, until it is asked.
					check(t, "the mount's own", w.write("/b/x", []byte("x"), 0, unix.O_CREAT), unix.EROFS)
					check(t, "bind rw", w.remount("/b", unix.MS_BIND, ""), nil)
				}
				check(t, "write through the other mount", w.write("/b/b"+file, []byte("x"), 0, unix.O_CREAT), nil)
				f, err := vfs.Open(w.Ctx, vfs.Path{}, "/b/"+file, unix.O_RDWR, 0)
				check(t, "open", err, nil)
				check(t, "ro with a writer", w.remount("/m", unix.MS_RDONLY, ""), unix.EBUSY)
				check(t, "this mount alone with a writer", w.remount("/b", unix.MS_BIND|unix.MS_RDONLY, ""), unix.EBUSY)
				check(t, "still rw", w.write("/m/"+file, []byte("C"), 0, 0), nil)
				f.DecRef()
				check(t, "to be deleted", w.write("/m/gone", []byte("x"), 0, unix.O_CREAT), nil)
				f, err = vfs.Open(w.Ctx, vfs.Path{}, "/m/gone", unix.O_RDONLY, 0)
				check(t, "open", err, nil)
				check(t, "unlink", vfs.Unlink(w.Ctx, vfs.Path{}, "/m/gone"), nil)
				check(t, "ro with a deleted file", w.remount("/m", unix.MS_RDONLY, ""), unix.EBUSY)
				w.logs = nil
				f.DecRef()
				check(t, "ro", w.remount("/m", unix.MS_RDONLY, ""), nil)
				fsck(t, slices.Clone(w.mem.Bytes()), false)
			}
			b, err = vfs.Lookup(w.Ctx, vfs.Path{}, "/b", 0)
			check(t, "lookup", err, nil)
			check(t, "unmount", vfs.Unmount(w.Ctx, b, 0), nil)
			w.unmount(t)
			w.mount(t, 0, "")
			for _, file := range []string{"1", "2"} {
				if got := string(w.read(t, "/m/"+file)); got != "Contents "+file {
					t.Errorf("%q", got)
				}
			}
			w.unmount(t)
			fsck(t, w.mem.Bytes(), false)
		})
	}
}

// TestRemountRefuses: what cannot be written does not pretend that it can.
func TestRemountRefuses(t *testing.T) {
	w := newWorld(t, mkfs(t, 32<<20, "-t", "ext4", "-O", "bigalloc"))
	w.mount(t, unix.MS_RDONLY, "")
	check(t, "bigalloc", w.remount("/m", 0, ""), unix.EROFS)
	check(t, "still read-only", w.write("/m/x", []byte("x"), 0, unix.O_CREAT), unix.EROFS)
	w.logs = nil
	w.unmount(t)

	w = newWorld(t, mkfs(t, 32<<20, "-t", "ext4"))
	w.mount(t, unix.MS_RDONLY, "noload")
	check(t, "noload", w.remount("/m", 0, ""), unix.EROFS)
	w.logs = nil
	w.unmount(t)

	w = newWorld(t, mkfs(t, 32<<20, "-t", "ext4"))
	w.mem.SetLimits(func(l *block.Limits) { l.ReadOnly = true })
	w.disk = block.NewDisk("vda", w.mem, w.Machine, w.Now.Load)
	w.mount(t, unix.MS_RDONLY, "")
	check(t, "a disk that is read-only", w.remount("/m", 0, ""), unix.EACCES)
	w.logs = nil
	w.unmount(t)
}

// TestDiscard works with a disk that forgets what is discarded: only what is free is.
func TestDiscard(t *testing.T) {
	for _, kind := range []string{"ext4-1k", "nojournal"} {
		t.Run(kind, func(t *testing.T) {
			w := newWorld(t, mkfs(t, 32<<20, kinds[kind]...))
			discarded := int64(0)
			w.mem.SetFault(func(r *block.Request) error {
				if r.Op == block.Discard {
					discarded += r.Len
				}
				return nil
			})
			w.mount(t, 0, "discard")
			m := newModel(w, 7)
			for range 700 {
				m.step(t)
			}
			m.check(t)
			w.unmount(t)
			if discarded < 1<<18 {
				t.Errorf("%d bytes discarded", discarded)
			}
			fsck(t, w.mem.Bytes(), false)
		})
	}
}

// TestWhiteout has renameat2(2) leave a whiteout, for overlays whose upper layer is here.
func TestWhiteout(t *testing.T) {
	for _, name := range []string{"ext4", "old", "nojournal"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, mkfs(t, 16<<20, kinds[name]...))
			w.mount(t, 0, "")
			at := vfs.Path{}
			for _, dir := range []string{"/m/d", "/m/full", "/m/full/x", "/m/e"} {
				check(t, dir, vfs.Mkdir(w.Ctx, at, dir, 0o755), nil)
			}
			for _, file := range []string{"/m/a", "/m/b", "/m/d/c"} {
				check(t, file, w.write(file, []byte(file), 0, unix.O_CREAT), nil)
			}
			rename := func(from, to string, flags uint) error {
				return vfs.Rename(w.Ctx, at, from, at, to, unix.RENAME_WHITEOUT|flags)
			}
			check(t, "to a new name", rename("/m/a", "/m/d/new", 0), nil)
			check(t, "over a file", rename("/m/b", "/m/d/c", 0), nil)
			check(t, "a directory", rename("/m/e", "/m/d/e", 0), nil)
			check(t, "over what is not empty", rename("/m/d", "/m/full", 0), unix.ENOTEMPTY)
			check(t, "onto a whiteout, which is not to be replaced", rename("/m/d/new", "/m/b", unix.RENAME_NOREPLACE), unix.EEXIST)
			look := func() {
				t.Helper()
				for _, name := range []string{"/m/a", "/m/b", "/m/e"} {
					p, err := vfs.Lookup(w.Ctx, at, name, unix.AT_SYMLINK_NOFOLLOW)
					if err != nil {
						t.Errorf("%s: %v", name, err)
						continue
					}
					var st unix.Stat_t
					p.Inode().Stat(&st)
					if st.Mode != unix.S_IFCHR || st.Rdev != 0 || st.Nlink != 1 {
						t.Errorf("%s: mode %o, device %#x, %d names", name, st.Mode, st.Rdev, st.Nlink)
					}
				}
				if got := string(w.read(t, "/m/d/c")); got != "/m/b" {
					t.Errorf("%q", got)
				}
			}
			look()
			w.unmount(t)
			fsck(t, w.mem.Bytes(), false)
			w.mount(t, 0, "")
			look()
			w.unmount(t)
		})
	}
}
