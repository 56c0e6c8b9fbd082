package task

import (
	"testing"

	"golang.org/x/sys/unix"

	"gosv/kernel/vfs"
)

// TestBadness: what the kernel holds for a process counts, so that who makes endless descriptors goes before process 1.
func TestBadness(t *testing.T) {
	w := newWorld(t, true)
	w.run(func(u *user) {
		u.onTask(func(tk *Task) {
			p := tk.proc
			bare, _ := p.badness()
			const n = 100 * filesPerPage
			for range n {
				f := vfs.NewAnon("x", &vfs.FileDefaults{}, tk.Cred(), unix.O_RDWR)
				if _, err := tk.Files.Install(f, 0, 0, n+10); err != nil {
					t.Error(err)
					return
				}
			}
			if now, _ := p.badness(); now != bare+100 {
				t.Errorf("%d with %d files, %d without", now, n, bare)
			}
			tk.Files.CloseRange(0, n+10)
			if now, _ := p.badness(); now != bare {
				t.Errorf("%d after they were closed, %d before they were opened", now, bare)
			}
		})
	})
}

// TestZombieSignals: a process that has ended keeps no queued signals, which are freed before it is waited for.
func TestZombieSignals(t *testing.T) {
	w := newWorld(t, true)
	w.run(func(u *user) {
		pid := u.fork(func(u *user) {
			u.must(unix.SYS_RT_SIGPROCMASK, sigBlock, ^uint64(0))
			for range 5 {
				u.must(unix.SYS_KILL, u.must(unix.SYS_GETPID), 40)
			}
			u.onTask(func(tk *Task) {
				tk.proc.mu.Lock()
				defer tk.proc.mu.Unlock()
				if n := tk.proc.queued; n != 5 {
					t.Errorf("%d signals are queued", n)
				}
			})
			u.exit(0)
		})
		var p *Process
		u.onTask(func(tk *Task) { p = tk.k.Process(int32(pid)) })
		u.wait4(pid, 0)
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.queued != 0 || p.pending.Set() != 0 {
			t.Errorf("a process that has ended has %d signals, %#x", p.queued, p.pending.Set())
		}
	})
}
