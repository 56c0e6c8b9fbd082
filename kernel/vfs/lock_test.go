package vfs_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"gosv/kernel/share"
	"gosv/kernel/vfs"
)

func TestFlock(t *testing.T) {
	tr := sample(t)
	open := func() *vfs.File {
		f, err := vfs.Open(tr.Ctx, vfs.Path{}, "/d/e/f", unix.O_RDWR, 0)
		must(t, err)
		return f
	}
	a, b := open(), open()
	check(t, "shared", a.Flock(unix.LOCK_SH), nil)
	check(t, "shared with shared", b.Flock(unix.LOCK_SH|unix.LOCK_NB), nil)
	check(t, "exclusive with shared", a.Flock(unix.LOCK_EX|unix.LOCK_NB), unix.EAGAIN)
	check(t, "the shared one is lost", b.Flock(unix.LOCK_EX), nil)
	check(t, "again", b.Flock(unix.LOCK_EX), nil)
	check(t, "shared with exclusive", a.Flock(unix.LOCK_SH), unix.EAGAIN)
	check(t, "nonsense", a.Flock(77), unix.EINVAL)
	b.DecRef()
	check(t, "after close", a.Flock(unix.LOCK_EX), nil)
	check(t, "unlock", a.Flock(unix.LOCK_UN), nil)
	a.DecRef()
}

// TestRangeLocksLikeTheHost makes the same OFD locks on both sides.
func TestRangeLocksLikeTheHost(t *testing.T) {
	tr := sample(t)
	path := t.TempDir() + "/f"
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	const files = 3
	var fds [files]int
	var ours [files]*vfs.File
	for i := range files {
		fd, err := unix.Open(path, unix.O_RDWR, 0)
		must(t, err)
		defer unix.Close(fd)
		f, err := vfs.Open(tr.Ctx, vfs.Path{}, "/d/e/f", unix.O_RDWR, 0)
		must(t, err)
		defer f.DecRef()
		fds[i], ours[i] = fd, f
	}
	r := rand.New(rand.NewPCG(3, 4))
	for n := range 20000 {
		i := r.IntN(files)
		l := unix.Flock_t{Type: int16([]int{unix.F_RDLCK, unix.F_WRLCK, unix.F_UNLCK}[r.IntN(3)]), Start: int64(r.IntN(24) - 1), Len: int64(r.IntN(12) - 3)}
		host, mine := l, l
		what := fmt.Sprintf("%d: file %d, %+v", n, i, l)
		if r.IntN(3) == 0 && l.Type != unix.F_UNLCK {
			herr := unix.FcntlFlock(uintptr(fds[i]), unix.F_OFD_GETLK, &host)
			check(t, what, ours[i].GetLock(nil, &mine), herr)
			if (host.Type == unix.F_UNLCK) != (mine.Type == unix.F_UNLCK) {
				t.Errorf("%s: %+v, host %+v", what, mine, host)
			}
			continue
		}
		herr := unix.FcntlFlock(uintptr(fds[i]), unix.F_OFD_SETLK, &host)
		check(t, what, ours[i].SetLock(nil, 0, &mine), herr)
		if t.Failed() {
			return
		}
	}
}

func TestPOSIXLocksEndWithAnyDescriptor(t *testing.T) {
	tr := sample(t)
	tabs := [2]*vfs.FDTable{vfs.NewFDTable(), vfs.NewFDTable()}
	var files [2]*vfs.File
	for i, tab := range tabs {
		f, err := vfs.Open(tr.Ctx, vfs.Path{}, "/d/e/f", unix.O_RDWR, 0)
		must(t, err)
		files[i] = f
		if _, err := tab.Install(f, 0, 0, 10); err != nil {
			t.Fatal(err)
		}
	}
	l := unix.Flock_t{Type: unix.F_WRLCK, Start: 10, Len: 10}
	must(t, files[0].SetLock(tabs[0], 7, &l))
	must(t, files[0].SetLock(tabs[0], 7, &l))
	probe := unix.Flock_t{Type: unix.F_RDLCK, Start: 15}
	must(t, files[1].GetLock(tabs[1], &probe))
	if probe.Type != unix.F_WRLCK || probe.Start != 10 || probe.Len != 10 || probe.Pid != 7 {
		t.Errorf("%+v", probe)
	}
	check(t, "conflict", files[1].SetLock(tabs[1], 8, &l), unix.EAGAIN)
	other, err := vfs.Open(tr.Ctx, vfs.Path{}, "/d/e/f", unix.O_RDONLY, 0)
	must(t, err)
	fd, err := tabs[0].Install(other, 0, 0, 10)
	must(t, err)
	must(t, tabs[0].Close(fd)) // another descriptor of the same file
	check(t, "after a close", files[1].SetLock(tabs[1], 8, &l), nil)
	tabs[0].DecRef()
	tabs[1].DecRef()
}

// TestLocksShort: all range locks together have a bound; also giving up the middle of one needs another.
func TestLocksShort(t *testing.T) {
	tr := sample(t)
	f, err := vfs.Open(tr.Ctx, vfs.Path{}, "/d/e/f", unix.O_RDWR, 0)
	must(t, err)
	before := share.Locks.Used()
	share.Locks.SetMost(before + 4*96)
	defer share.Locks.SetMost(math.MaxInt64)
	set := func(what string, typ int16, start, length int64, want error) {
		t.Helper()
		check(t, what, f.SetLock(nil, 0, &unix.Flock_t{Type: typ, Start: start, Len: length}), want)
	}
	for i := range int64(4) {
		set("lock", unix.F_WRLCK, 10*i, 5, nil)
	}
	set("a fifth", unix.F_WRLCK, 100, 5, unix.ENOLCK)
	set("the middle of one", unix.F_UNLCK, 1, 1, unix.ENOLCK)
	set("two become one", unix.F_WRLCK, 5, 5, nil)
	set("the middle of one", unix.F_UNLCK, 1, 1, nil)
	f.DecRef()
	if n := share.Locks.Used() - before; n != 0 {
		t.Errorf("%d bytes are left", n)
	}
}
