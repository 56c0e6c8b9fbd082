package ipc

import (
	"testing"

	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
	"gosv/kernel/mem"
	"gosv/machine/fake"
)

func newSpace(t *testing.T) *Space {
	pool := mem.NewPool(fake.ForTest(t, fake.Config{}))
	t.Cleanup(pool.Close)
	return New(pool, func() int64 { return 1000 }, nil)
}

func user(id uint32) *cred.Cred { return &cred.Cred{UID: id, EUID: id, GID: id, EGID: id} }

func TestKeys(t *testing.T) {
	sp := newSpace(t)
	root := cred.Root()
	get := func(key int32, size uint64, flags uint32, c *cred.Cred, want error) int32 {
		t.Helper()
		id, err := sp.Shmget(key, size, flags, c, 7)
		if err != want {
			t.Errorf("shmget(%d, %d, %o): %v, want %v", key, size, flags, err, want)
		}
		return id
	}
	get(5, 100, 0, root, unix.ENOENT)
	get(5, 0, Creat, root, unix.EINVAL)
	a := get(5, 100, Creat|0o600, root, nil)
	if b := get(5, 100, Creat, root, nil); a != b {
		t.Errorf("one key, two segments: %d, %d", a, b)
	}
	get(5, 100, Creat|Excl, root, unix.EEXIST)
	get(5, 101, 0, root, unix.EINVAL)
	get(5, 100, 0o400, user(1), unix.EACCES)
	if p := get(Private, 100, 0o600, root, nil); p == a || p == get(Private, 1, 0o600, root, nil) {
		t.Error("private segments are found")
	}
	s, err := sp.Shm.Find(a)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(user(1)); err != unix.EPERM {
		t.Error(err)
	}
	if err := s.Remove(root); err != nil {
		t.Error(err)
	}
	if _, err := sp.Shm.Find(a); err != unix.EINVAL {
		t.Errorf("found after its removal: %v", err)
	}
	if b := get(5, 10, Creat|0o600, root, nil); b == a {
		t.Error("an identifier is used again at once")
	}
	for place := int32(0); ; place++ {
		s, _, err := sp.Shm.At(place)
		if err != nil {
			break
		}
		s.Remove(root)
	}
}

func TestSegmentOutlivesItsRemoval(t *testing.T) {
	sp := newSpace(t)
	id, err := sp.Shmget(9, 5000, Creat|0o600, cred.Root(), 7)
	if err != nil {
		t.Fatal(err)
	}
	s, _ := sp.Shm.Find(id)
	if err := s.Attach(user(3), 8, Read); err != unix.EACCES {
		t.Error(err)
	}
	if err := s.Attach(cred.Root(), 8, Read|Write); err != nil {
		t.Fatal(err)
	}
	if _, err := s.MapCache().Page(1, true); err != nil {
		t.Fatal(err)
	}
	f, _ := s.MapCache().Page(1, true)
	sp.pool.Unref(f)
	sp.pool.Unref(f)
	if err := s.Remove(cred.Root()); err != nil {
		t.Fatal(err)
	}
	ds, err := s.Stat(cred.Root(), false)
	if err != nil || ds.Attached != 1 || ds.Mode != 0o600|shmDest || ds.Key != Private || ds.LPID != 8 {
		t.Errorf("%+v, %v", ds, err)
	}
	if bytes, pages, resident := sp.ShmUsage(); bytes != 5000 || pages != 2 || resident != 1 {
		t.Error(bytes, pages, resident)
	}
	s.DecRef()
	if _, used := sp.Shm.Last(); used != 0 {
		t.Errorf("%d segments are left", used)
	}
	if err := s.Attach(cred.Root(), 8, Read); err != unix.EIDRM {
		t.Error(err)
	}
}

func TestSemaphores(t *testing.T) {
	sp := newSpace(t)
	root := cred.Root()
	id, err := sp.Semget(1, 3, Creat|0o600, root)
	if err != nil {
		t.Fatal(err)
	}
	s, _ := sp.Sem.Find(id)
	try := func(want error, ops ...SemOp) {
		t.Helper()
		if _, err := s.Try(ops, root, 7); err != want {
			t.Errorf("%v: %v, want %v", ops, err, want)
		}
	}
	expect := func(want ...uint16) {
		t.Helper()
		for i, v := range want {
			if got, _ := s.Get(GetVal, int32(i), root); got != int32(v) {
				t.Errorf("semaphore %d is %d, want %d", i, got, v)
			}
		}
	}
	try(nil, SemOp{0, 0, 0}, SemOp{0, 2, 0}, SemOp{1, 1, SemUndo})
	expect(2, 1, 0)
	// All or nothing, in order.
	try(unix.EAGAIN, SemOp{0, -1, SemUndo}, SemOp{2, -1, 0})
	expect(2, 1, 0)
	if i, _ := s.Try([]SemOp{{0, -1, 0}, {1, 0, 0}}, root, 7); i != 1 {
		t.Errorf("operation %d blocks, want 1", i)
	}
	try(unix.EFBIG, SemOp{3, 1, 0})
	try(unix.ERANGE, SemOp{0, SemMaxValue, 0})
	expect(2, 1, 0)
	if _, err := s.Try([]SemOp{{0, 1, 0}}, user(2), 8); err != unix.EACCES {
		t.Error(err)
	}
	try(nil, SemOp{2, 5, SemUndo}, SemOp{2, -1, SemUndo})
	expect(2, 1, 4)
	sp.Exited(8)
	expect(2, 1, 4)
	sp.Exited(7)
	expect(2, 0, 0)
	if err := s.Assign(-1, []uint16{1, 2, 3}, root, 7); err != nil {
		t.Error(err)
	}
	if err := s.Assign(0, []uint16{SemMaxValue + 1}, root, 7); err != unix.ERANGE {
		t.Error(err)
	}
	expect(1, 2, 3)
	if err := s.Remove(root); err != nil {
		t.Error(err)
	}
	try(unix.EIDRM, SemOp{0, 0, 0})
}
