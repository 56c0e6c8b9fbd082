package hostfs

import (
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"gosv/internal/fuseabi"
)

// node is a file of the host that the guest knows.
type node struct {
	t   *table
	id  uint64
	fd  int // O_PATH
	key fileKey
	typ uint32
	// sealed says that what is in the directory, or the file, is not shown: it is the host's kernel's.
	sealed bool

	// Guarded by table.mu.
	lookups uint64 // how often the guest was told
	uses    int    // by requests under way, and by the table as long as lookups is not 0
}

type fileKey struct{ dev, ino uint64 }

// table finds the nodes.
type table struct {
	mu    sync.Mutex
	byID  map[uint64]*node  // guarded by mu
	byKey map[fileKey]*node // guarded by mu
	last  uint64            // guarded by mu
}

// init enters the root, which stays.
func (t *table) init(fd int, st *unix.Stat_t) *node {
	n := &node{t: t, id: fuseabi.RootID, fd: fd, key: fileKey{st.Dev, st.Ino}, typ: unix.S_IFDIR, uses: 1}
	t.byID, t.byKey = map[uint64]*node{fuseabi.RootID: n}, map[fileKey]*node{n.key: n}
	t.last = fuseabi.RootID
	return n
}

// get returns a node by its number, to be dropped: ENOENT.
func (t *table) get(id uint64) (*node, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.byID[id]
	if n == nil {
		return nil, unix.ENOENT
	}
	n.uses++
	return n, nil
}

// known counts a lookup of the node with a key and returns it, nil if there is none.
func (t *table) known(key fileKey) *node {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.byKey[key]
	if n != nil {
		n.look()
	}
	return n
}

// look counts a lookup; t.mu is held.
func (n *node) look() {
	if n.id == fuseabi.RootID {
		return
	}
	if n.lookups == 0 {
		n.uses++
	}
	n.lookups++
}

// add enters a file that was found, and counts a lookup; fd is the table's then. ENFILE.
func (t *table) add(fd int, st *unix.Stat_t, sealed bool) (*node, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := fileKey{st.Dev, st.Ino}
	if n := t.byKey[key]; n != nil { // somebody was faster
		unix.Close(fd)
		n.look()
		return n, nil
	}
	if len(t.byID) >= mostNodes {
		unix.Close(fd)
		return nil, unix.ENFILE
	}
	t.last++
	n := &node{t: t, id: t.last, fd: fd, key: key, typ: st.Mode & unix.S_IFMT, sealed: sealed}
	t.byID[n.id], t.byKey[key] = n, n
	n.look()
	return n, nil
}

// forget takes lookups away.
func (t *table) forget(id, count uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.byID[id]
	if n == nil || id == fuseabi.RootID || count == 0 || n.lookups == 0 {
		return
	}
	n.lookups -= min(count, n.lookups)
	if n.lookups == 0 {
		n.unuse()
	}
}

// drop ends a use by a request.
func (n *node) drop() {
	n.t.mu.Lock()
	n.unuse()
	n.t.mu.Unlock()
}

// unuse closes what nobody uses; t.mu is held.
func (n *node) unuse() {
	if n.uses--; n.uses > 0 {
		return
	}
	delete(n.t.byID, n.id)
	delete(n.t.byKey, n.key)
	unix.Close(n.fd)
}

// clear forgets all but the root.
func (t *table) clear() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range t.byID {
		if n.id != fuseabi.RootID && n.lookups > 0 {
			n.lookups = 0
			n.unuse()
		}
	}
}

// path names what n stands for, for calls that take no O_PATH descriptor (proc(5), /proc/PID/fd).
func (n *node) path() string { return fdPath(n.fd) }

func fdPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// devices gives the file systems below the root small numbers, so that inode numbers of different ones differ.
type devices struct {
	mu    sync.Mutex
	known map[uint64]uint64 // guarded by mu
}

func (d *devices) index(dev uint64) uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.known == nil {
		d.known = map[uint64]uint64{}
	}
	i, ok := d.known[dev]
	if !ok {
		i = uint64(len(d.known))
		d.known[dev] = i
	}
	return i
}

// showsKernel reports whether fd lies in a file system through which a kernel shows itself or is ruled.
func showsKernel(fd int) bool {
	var st unix.Statfs_t
	if unix.Fstatfs(fd, &st) != nil {
		return true
	}
	const (
		configfs, fusectl, mqueue, pstore, efivars, selinux, smack = 0x62656570, 0x65735543, 0x19800202, 0x6165676c, 0xde5e81e4, 0xf97cff8c, 0x43415d53
		devpts, autofs                                             = 0x1cd1, 0x0187
	)
	switch uint32(st.Type) {
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC, unix.SECURITYFS_MAGIC, unix.BPF_FS_MAGIC,
		unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.BINFMTFS_MAGIC, unix.NSFS_MAGIC, unix.RDTGROUP_SUPER_MAGIC,
		configfs, fusectl, mqueue, pstore, efivars, selinux, smack, devpts, autofs:
		return true
	}
	return false
}
