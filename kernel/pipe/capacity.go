package pipe

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
	"gosv/kernel/share"
	"gosv/machine"
)

// What pipes may hold, by their capacities (pipe(7), "/proc files"): MaxSize is the most in bytes that an unprivileged program may ask for, and
// the others how many pages all pipes of an unprivileged user may have together: beyond SoftPages, new ones get few and none may
// grow; beyond HardPages there are none. 0: no limit.
//
// Beside that all pipes have share.Pipes, root's too: new ones get few pages when half is taken.
var (
	MaxSize, SoftPages, HardPages atomic.Int32
)

func init() {
	MaxSize.Store(1 << 20)
	SoftPages.Store(16 * 1024)
}

const (
	defaultPages = DefaultSize / machine.PageSize
	fewPages     = 2
)

// users has the pages of each user's pipes, guarded by its mu, which is a leaf.
var users struct {
	mu sync.Mutex
	// +checklocks:mu
	pages map[uint32]int
}

// count adds n pages to a user's, and returns how many there are.
func count(user uint32, n int) int {
	users.mu.Lock()
	defer users.mu.Unlock()
	sum := users.pages[user] + n
	switch {
	case sum == 0:
		delete(users.pages, user)
	case users.pages == nil:
		users.pages = make(map[uint32]int)
		fallthrough
	default:
		users.pages[user] = sum
	}
	return sum
}

// account is whose pages a pipe has, and how many.
type account struct {
	user  uint32
	pages int
}

func beyond(n int, limit *atomic.Int32) bool {
	most := int(limit.Load())
	return most != 0 && n > most
}

func limited(c *cred.Cred) bool {
	return !c.Capable(unix.CAP_SYS_RESOURCE) && !c.Capable(unix.CAP_SYS_ADMIN)
}

// open takes the pages of a new pipe for whoever c is, fewer than usual when there are many, and returns how many: ENFILE.
func (a *account) open(c *cred.Cred) (int, error) {
	n := defaultPages
	if most := int(MaxSize.Load()) / machine.PageSize; n > most && !c.Capable(unix.CAP_SYS_RESOURCE) {
		n = most
	}
	a.user = c.UID
	sum := count(a.user, n)
	if few := min(n, fewPages); share.Pipes.Used() > share.Pipes.Most()/2 || beyond(sum, &SoftPages) && limited(c) {
		sum = count(a.user, few-n)
		n = few
	}
	if beyond(sum, &HardPages) && limited(c) || !share.Pipes.Take(int64(n)*machine.PageSize) {
		count(a.user, -n)
		return 0, unix.ENFILE
	}
	a.pages = n
	return n, nil
}

// resize makes it n pages on behalf of c: EPERM, ENOMEM.
func (a *account) resize(n int, c *cred.Cred) error {
	more := n - a.pages
	sum := count(a.user, more)
	err := error(nil)
	switch {
	case more <= 0:
		share.Pipes.Give(int64(-more) * machine.PageSize)
	case (beyond(sum, &SoftPages) || beyond(sum, &HardPages)) && limited(c):
		err = unix.EPERM
	case !share.Pipes.Take(int64(more) * machine.PageSize):
		err = unix.ENOMEM
	}
	if err != nil {
		count(a.user, -more)
		return err
	}
	a.pages = n
	return nil
}

// close gives all pages back.
func (a *account) close() {
	count(a.user, -a.pages)
	share.Pipes.Give(int64(a.pages) * machine.PageSize)
	a.pages = 0
}
