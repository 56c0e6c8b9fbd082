package namespace

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"weak"

	"golang.org/x/sys/unix"
)

// Overflow is the ID that stands for one that a user namespace has no number for (/proc/sys/kernel/overflowuid).
const Overflow = 65534

// None is no ID at all, (uid_t)-1.
const None = ^uint32(0)

// MaxExtents is how many lines a map may have.
const MaxExtents = 340

// An Extent is a line of a map: Count IDs from Inside on in the namespace are those from Outside on in the initial one.
type Extent struct{ Inside, Outside, Count uint32 }

// A User is a user namespace; nil is the initial one. IDs are kept everywhere as those of the initial one, and translated
// where programs see them.
type User struct {
	Head
	parent   *User
	level    int
	uid, gid uint32 // of who made it

	mu        sync.Mutex
	uids      []Extent // replaced, never changed; guarded by mu, as is all below
	gids      []Extent
	setgroups bool
}

var first = func() *User {
	u := new(User)
	u.First(Users)
	return u
}()

// made says that there has been a user namespace beside the initial one.
var made atomic.Bool

// Made reports whether there has been a user namespace beside the initial one: until then all IDs are what they seem.
func Made() bool { return made.Load() }

// NewUser makes a user namespace below parent, by somebody with these IDs: ENOSPC.
func NewUser(parent *User, uid, gid uint32) (*User, error) {
	if parent.Level() >= MaxLevel {
		return nil, unix.ENOSPC
	}
	u := &User{parent: parent, level: parent.Level() + 1, uid: uid, gid: gid, setgroups: parent.Setgroups()}
	users.mu.Lock()
	defer users.mu.Unlock()
	limit := int(Users.Limit())
	if len(users.list) >= limit && limit > 0 {
		runtime.GC()
		users.list = slices.DeleteFunc(users.list, func(p weak.Pointer[User]) bool { return p.Value() == nil })
	}
	if len(users.list) >= limit {
		return nil, unix.ENOSPC
	}
	u.set(Users, parent, nil)
	users.list = append(users.list, weak.Make(u))
	made.Store(true)
	return u, nil
}

// users are the user namespaces that there are, and some that nobody uses any more: those end when the collector finds them, which is asked to look
// before one is refused.
var users struct {
	mu   sync.Mutex
	list []weak.Pointer[User] // guarded by mu
}

// Object returns u, or what stands for the initial namespace.
func (u *User) Object() *User {
	if u == nil {
		return first
	}
	return u
}

// IsFirst reports whether u is the initial one.
func (u *User) IsFirst() bool { return u == nil || u == first }

// Canonical is the inverse of Object: nil for the initial one.
func (u *User) Canonical() *User {
	if u == first {
		return nil
	}
	return u
}

// Parent returns the namespace that u was made in, nil for the initial one.
func (u *User) Parent() *User {
	if u == nil {
		return nil
	}
	return u.parent
}

// Creator returns the user and group that made u.
func (u *User) Creator() (uid, gid uint32) {
	if u == nil {
		return 0, 0
	}
	return u.uid, u.gid
}

// Level is how deep u lies, 0 for the initial one.
func (u *User) Level() int {
	if u == nil {
		return 0
	}
	return u.level
}

// Within reports whether u is o or lies below it.
func (u *User) Within(o *User) bool {
	for {
		if u == o {
			return true
		}
		if u == nil {
			return false
		}
		u = u.parent
	}
}

// Setgroups reports whether setgroups(2) is allowed (/proc/PID/setgroups).
func (u *User) Setgroups() bool {
	if u == nil {
		return true
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.setgroups
}

// MaySetgroups reports whether setgroups(2) works: it is allowed, and there are groups.
func (u *User) MaySetgroups() bool {
	if u == nil {
		return true
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.setgroups && u.gids != nil
}

// DenySetgroups forbids setgroups(2) for good, and AllowSetgroups asks whether it is still allowed: EPERM. It is too late when there
// are groups.
func (u *User) DenySetgroups() error {
	if u == nil {
		return unix.EPERM
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.gids != nil && u.setgroups {
		return unix.EPERM
	}
	u.setgroups = false
	return nil
}

// Map returns the lines of uid_map, or of gid_map.
func (u *User) Map(groups bool) []Extent {
	if u == nil {
		return []Extent{{0, 0, None}}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if groups {
		return u.gids
	}
	return u.uids
}

// SetMap sets a map, which can be done once: EPERM. The lines hold IDs of the parent on the outside, EPERM when the parent has none of
// those; EINVAL for lines that overlap. deniesGroups says that the map is allowed only while setgroups(2) is not.
func (u *User) SetMap(groups bool, lines []Extent, deniesGroups bool) error {
	if u == nil {
		return unix.EPERM
	}
	list := make([]Extent, len(lines))
	for i, l := range lines {
		if err := l.check(lines[:i]); err != nil {
			return err
		}
		out, ok := translate(u.parent.Map(groups), l)
		if !ok {
			return unix.EPERM
		}
		list[i] = Extent{l.Inside, out, l.Count}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	to := &u.uids
	if groups {
		to = &u.gids
	}
	if *to != nil || groups && deniesGroups && u.setgroups {
		return unix.EPERM
	}
	*to = list
	return nil
}

// check checks one line against those before it.
func (l Extent) check(before []Extent) error {
	if l.Count == 0 || l.Inside == None || l.Outside == None || l.Inside+l.Count <= l.Inside || l.Outside+l.Count <= l.Outside {
		return unix.EINVAL
	}
	for _, o := range before {
		if overlap(l.Inside, o.Inside, l.Count, o.Count) || overlap(l.Outside, o.Outside, l.Count, o.Count) {
			return unix.EINVAL
		}
	}
	return nil
}

func overlap(a, b, na, nb uint32) bool { return a <= b+nb-1 && b <= a+na-1 }

// translate finds what the outside of a line is in the initial namespace; it must lie in one line of the parent's.
func translate(parent []Extent, l Extent) (uint32, bool) {
	for _, p := range parent {
		if l.Outside >= p.Inside && l.Outside-p.Inside < p.Count && l.Count <= p.Count-(l.Outside-p.Inside) {
			return p.Outside + (l.Outside - p.Inside), true
		}
	}
	return 0, false
}

func inward(list []Extent, id uint32) uint32 {
	for _, e := range list {
		if id >= e.Outside && id-e.Outside < e.Count {
			return e.Inside + (id - e.Outside)
		}
	}
	return None
}

func outward(list []Extent, id uint32) uint32 {
	for _, e := range list {
		if id >= e.Inside && id-e.Inside < e.Count {
			return e.Outside + (id - e.Inside)
		}
	}
	return None
}

// UID returns the number that u has for a user ID of the initial namespace, None when it has none; GID does for groups.
func (u *User) UID(id uint32) uint32 {
	if u == nil {
		return id
	}
	return inward(u.Map(false), id)
}

// GID is UID for groups.
func (u *User) GID(id uint32) uint32 {
	if u == nil {
		return id
	}
	return inward(u.Map(true), id)
}

// ShowUID is UID with Overflow for what has no number.
func (u *User) ShowUID(id uint32) uint32 { return orOverflow(u.UID(id), id) }

// ShowGID is GID with Overflow for what has no number.
func (u *User) ShowGID(id uint32) uint32 { return orOverflow(u.GID(id), id) }

func orOverflow(n, id uint32) uint32 {
	if n == None && id != None {
		return Overflow
	}
	return n
}

// RealUID returns what a number of u's is in the initial namespace, None when it is nothing; RealGID does for groups.
func (u *User) RealUID(n uint32) uint32 {
	if u == nil {
		return n
	}
	return outward(u.Map(false), n)
}

// RealGID is RealUID for groups.
func (u *User) RealGID(n uint32) uint32 {
	if u == nil {
		return n
	}
	return outward(u.Map(true), n)
}
