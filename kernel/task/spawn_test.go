package task

import (
	"fmt"
	"testing"
	"time"

	"gosv/kernel/cred"
	"gosv/kernel/vfs"

	"golang.org/x/sys/unix"
)

func (w *world) spawn(p program, ended func(int32)) (*Process, error) {
	return w.k.Spawn(&SpawnArgs{
		Exec: &ExecArgs{Path: fmt.Sprintf("/%#x", w.fn(p))}, Files: vfs.NewFDTable(), FS: NewFS(vfs.Path{}, vfs.Path{}, 0o22),
		Cred: cred.Root(), Ended: ended,
	})
}

func TestSpawn(t *testing.T) {
	w := newWorld(t, true)
	status := make(chan int32, 1)
	done := make(chan bool)
	if _, err := w.spawn(func(*user) {}, nil); err != unix.ESRCH {
		t.Errorf("before process 1: %v", err)
	}
	w.start(func(u *user) {
		u.until("the spawned process has been seen", func() bool { return closed(done) })
		u.fails(unix.ECHILD, unix.SYS_WAIT4, ^uint64(0), 0, 0) // the kernel reaped it
		u.exit(0)
	})
	p, err := w.spawn(func(u *user) {
		if u.must(unix.SYS_GETPPID) != 1 {
			t.Error("its parent is not process 1")
		}
		if pid := u.must(unix.SYS_GETPID); u.must(unix.SYS_GETSID) != pid {
			t.Error("it leads no session")
		}
		u.exit(5)
	}, func(s int32) { status <- s })
	if err != nil {
		t.Fatal(err)
	}
	select {
	case s := <-status:
		if s != 5<<8 {
			t.Errorf("status %#x", s)
		}
	case <-time.After(time.Minute):
		t.Fatal("no end was told")
	}
	if _, err := w.spawn(func(*user) {}, nil); err != nil {
		t.Error(err)
	}
	for w.k.Process(p.PID) != nil {
		time.Sleep(time.Millisecond)
	}
	close(done)
	if got := w.wait(); got != (exitStatus{}) {
		t.Error(got)
	}
	if _, err := w.spawn(func(*user) {}, nil); err != unix.ESRCH {
		t.Errorf("after process 1: %v", err)
	}
}

func closed(c chan bool) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestSpawnFails(t *testing.T) {
	w := newWorld(t, true)
	w.start(func(u *user) { u.call(unix.SYS_PAUSE) })
	if _, err := w.k.Spawn(&SpawnArgs{Exec: &ExecArgs{Path: "nothing"}, Files: vfs.NewFDTable(), FS: NewFS(vfs.Path{}, vfs.Path{}, 0), Cred: cred.Root()}); err != unix.ENOENT {
		t.Errorf("%v", err)
	}
	w.k.SignalInit(unix.SIGTERM)
	if got := w.wait(); got != (exitStatus{0, unix.SIGTERM}) {
		t.Error(got)
	}
}
