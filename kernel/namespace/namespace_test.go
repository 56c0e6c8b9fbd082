package namespace

import (
	"testing"

	"golang.org/x/sys/unix"
)

func user(t *testing.T, parent *User, uids ...Extent) *User {
	t.Helper()
	u, err := NewUser(parent, 1000, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if err := u.SetMap(false, uids, false); err != nil {
		t.Fatal(err)
	}
	return u
}

func TestMaps(t *testing.T) {
	a := user(t, nil, Extent{0, 100000, 1000}, Extent{5000, 7, 1})
	b := user(t, a, Extent{0, 10, 5}, Extent{9, 5000, 1})
	for _, c := range []struct{ inside, outside uint32 }{{0, 100010}, {4, 100014}, {9, 7}} {
		if got := b.RealUID(c.inside); got != c.outside {
			t.Errorf("RealUID(%d) is %d, want %d", c.inside, got, c.outside)
		}
		if got := b.UID(c.outside); got != c.inside {
			t.Errorf("UID(%d) is %d, want %d", c.outside, got, c.inside)
		}
	}
	if b.RealUID(5) != None || b.UID(0) != None || b.ShowUID(0) != Overflow || b.RealGID(0) != None {
		t.Error("what has no number has one")
	}
	if err := a.SetMap(false, []Extent{{0, 0, 1}}, false); err != unix.EPERM {
		t.Error("a map was set twice:", err)
	}
	var first *User
	if first.UID(5) != 5 || first.RealGID(None) != None || first.Level() != 0 || b.Level() != 2 || !b.Within(a) || a.Within(b) {
		t.Error("the tree is wrong")
	}
}

func TestBadMaps(t *testing.T) {
	parent := user(t, nil, Extent{0, 100, 10}, Extent{10, 200, 10})
	for _, c := range []struct {
		lines []Extent
		err   error
	}{
		{[]Extent{{0, 0, 0}}, unix.EINVAL},
		{[]Extent{{0, 5, 10}}, unix.EPERM}, // reaches over two lines
		{[]Extent{{0, 30, 1}}, unix.EPERM},
		{[]Extent{{0, 0, 2}, {1, 5, 1}}, unix.EINVAL},
		{[]Extent{{0, 0, 2}, {5, 1, 1}}, unix.EINVAL},
		{[]Extent{{None - 1, 0, 5}}, unix.EINVAL},
		{[]Extent{{0, None, 1}}, unix.EINVAL},
	} {
		u, err := NewUser(parent, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := u.SetMap(false, c.lines, false); err == nil || (c.err == unix.EINVAL) != (err == unix.EINVAL) {
			t.Errorf("%v: %v, want %v", c.lines, err, c.err)
		}
	}
}

func TestSetgroups(t *testing.T) {
	u, err := NewUser(nil, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	if u.MaySetgroups() || !u.Setgroups() {
		t.Error("groups may be set that have no numbers")
	}
	if err := u.SetMap(true, []Extent{{0, 0, 1}}, true); err != unix.EPERM {
		t.Error(err)
	}
	if err := u.DenySetgroups(); err != nil || u.Setgroups() {
		t.Error(err)
	}
	if err := u.SetMap(true, []Extent{{0, 0, 1}}, true); err != nil || u.MaySetgroups() {
		t.Error(err)
	}
	inner, err := NewUser(u, 0, 0)
	if err != nil || inner.Setgroups() {
		t.Error("denied above, allowed below", err)
	}
}

func TestLimit(t *testing.T) {
	old := UTS.Limit()
	defer UTS.SetLimit(old)
	UTS.SetLimit(1)
	ended := 0
	var a, b Head
	if err := a.Init(UTS, nil, func() { ended++ }); err != nil {
		t.Fatal(err)
	}
	if err := b.Init(UTS, nil, nil); err != unix.ENOSPC {
		t.Error(err)
	}
	a.Hold()
	a.Put()
	if !a.Get() {
		t.Error("it has a user")
	}
	a.Put()
	a.Put()
	if a.Get() || ended != 1 {
		t.Error("it has not ended once", ended)
	}
	if err := b.Init(UTS, nil, nil); err != nil {
		t.Error(err)
	}
	b.Put()
}

func TestUsersEnd(t *testing.T) {
	old := Users.Limit()
	defer Users.SetLimit(old)
	Users.SetLimit(20)
	for i := range 2000 { // who nobody uses makes room
		if _, err := NewUser(nil, 0, 0); err != nil {
			t.Fatal(i, err)
		}
	}
}
