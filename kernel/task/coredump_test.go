package task

import (
	"bytes"
	"debug/elf"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"gosv/fs/ramfs"
	"gosv/kernel/cred"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
)

// withFiles starts p as process 1, with a file system in memory.
func (w *world) withFiles(p program) (ctx *vfs.Context, status exitStatus) {
	fs := ramfs.New(w.k.Pool, w.k.Clock.Wall, ramfs.Options{Mode: 0o755})
	ns := vfs.NewNamespace(fs, w.k.Pool)
	root := ns.Root()
	if _, err := w.k.Start(&ExecArgs{Path: fmt.Sprintf("/%#x", w.fn(p))}, vfs.NewFDTable(), NewFS(root, root, 0o22), cred.Root()); err != nil {
		w.tb.Fatal(err)
	}
	return &vfs.Context{Root: root, Cwd: root, Cred: cred.Root()}, w.wait()
}

func allowCores(t *testing.T, u *user) {
	u.onTask(func(tk *Task) {
		if _, err := tk.Prlimit(0, unix.RLIMIT_CORE, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}); err != nil {
			t.Error(err)
		}
	})
}

// TestCoreFile: threads in and out of system calls are in the file, and what they wrote; the status says that there is one.
func TestCoreFile(t *testing.T) {
	w := newWorld(t, true)
	ctx, _ := w.withFiles(func(u *user) {
		pid := u.fork(func(u *user) {
			allowCores(t, u)
			u.store32(dataBase+8, 0x12345678)
			u.thread(func(u *user) { u.call(unix.SYS_PAUSE) })
			u.thread(func(u *user) { u.spin() })
			u.must(unix.SYS_KILL, u.must(unix.SYS_GETPID), uint64(unix.SIGABRT))
			u.spin()
		})
		if p, st := u.wait4(pid, 0); p != pid || st != uint32(unix.SIGABRT)|coreFlag {
			t.Errorf("wait4: %d, status %#x", p, st)
		}
		u.exit(0)
	})
	f, err := vfs.Open(ctx, vfs.Path{}, "core", unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		f.DecRef()
		vfs.Unlink(ctx, vfs.Path{}, "core")
	}()
	b := make([]byte, 1<<20)
	dst := uio.Buffer(b)
	n, err := f.Read(&dst)
	if err != nil {
		t.Fatal(err)
	}
	core, err := elf.NewFile(bytes.NewReader(b[:n]))
	if err != nil {
		t.Fatal(err)
	}
	notes, data := 0, false
	for _, p := range core.Progs {
		switch {
		case p.Type == elf.PT_NOTE:
			notes = bytes.Count(b[p.Off:p.Off+p.Filesz], []byte("CORE\x00\x00\x00\x00\x06\x00\x00\x00")) // si_signo, in each thread and in NT_SIGINFO
		case p.Vaddr == dataBase:
			data = p.Filesz == dataSize && le.Uint32(b[p.Off+8:]) == 0x12345678
		}
	}
	if notes != 3+1 || !data {
		t.Errorf("%d notes, data %v", notes, data)
	}
}

// TestCoreAborted: SIGKILL, and a shortage of memory, end a dump that waits for its threads or for the file.
func TestCoreAborted(t *testing.T) {
	for name, end := range map[string]func(p *Process){
		"SIGKILL":  func(p *Process) { p.kill(unix.SIGKILL) },
		"sent":     func(p *Process) { p.SendSignal(unix.SIGKILL) },
		"shortage": func(p *Process) { p.k.OutOfMemory() },
	} {
		w := newWorld(t, true)
		w.run(func(u *user) {
			pid := u.fork(func(u *user) { u.call(unix.SYS_PAUSE) })
			u.onTask(func(tk *Task) {
				p := tk.k.Process(int32(pid))
				d := &dump{}
				p.mu.Lock()
				p.dump = d
				p.mu.Unlock()
				if name == "shortage" {
					p.end(int32(unix.SIGABRT))
					d.aborted.Store(false)
				}
				if end(p); !d.aborted.Load() && p.State() != 'Z' {
					t.Errorf("%s: the dump goes on", name)
				}
			})
			u.wait4(pid, 0)
			u.exit(0)
		})
	}
}
