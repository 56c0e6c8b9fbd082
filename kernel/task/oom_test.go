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
