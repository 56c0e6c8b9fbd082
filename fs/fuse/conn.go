// Package fuse is a client of the FUSE protocol, version 7: it makes a file
// system of what a server answers, over whatever Transport carries the messages.
//
// Names and attributes are kept as long as the server says that they are valid. What
// files contain is kept in the page cache until the server's attributes show that somebody else changed the file; writes go
// through to the server before write(2) returns, and what was written through mappings goes there at
// msync(2), fsync(2) and the last close. Locks (flock, fcntl) are among the programs of this machine only.
//
// The server is not trusted: every reply is checked before use. One that breaks the
// protocol gives EIO, one that is gone ENOTCONN; neither can make the kernel panic or wait for ever (the
// Transport sees to the latter).
//
// Lock order: vfs's locks, contents.sizing, mem's locks, contents.mu; conn's and table's locks are leaves. Requests are made with vfs's locks held, but
// never with those of this package.
//
// It follows linux/fuse.h and Documentation/filesystems/fuse.rst of Linux.
package fuse

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gosv/internal/fuseabi"
	"gosv/kernel/cred"
	"gosv/kernel/mem"
	"gosv/kernel/vfs"
	"gosv/machine"
)

// Transport carries messages to one server and back.
type Transport interface {
	// Call sends the request out, waits for its reply and stores that in in, as far as it goes. It returns the length of
	// the reply. n bytes of data, from off on in frames (the first page's offset), lie behind out when give, and
	// otherwise take what comes behind in. ENOTCONN when the server is gone, EIO when the reply is impossible.
	Call(out, in []byte, frames []machine.Frame, off, n int, give bool) (int, error)
	// Forget sends a request that has no reply. It does not wait: what cannot be sent now may be sent later.
	Forget(out []byte)
	// MaxPages is the largest number of frames that one Call takes.
	MaxPages() int
	// Close ends the use of the server: calls under way and to come fail with ENOTCONN.
	Close()
}

// MaxOut and MaxIn are the longest out and in that Call is given.
const (
	MaxOut = 2048
	MaxIn  = 2048
)

// Config says what a file system is to be made of.
type Config struct {
	Transport Transport
	Pool      *mem.Pool
	// Wall tells the time for time stamps, Monotonic that for timeouts; both in ns.
	Wall, Monotonic func() int64
	// Type is the name of the file system's type.
	Type string
	// Unmounted, if not nil, is called when it is used no more.
	Unmounted func()
}

// conn is one file system.
type conn struct {
	t      Transport
	pool   *mem.Pool
	clock  func() int64
	fs     *vfs.FS
	unused func()

	background sync.WaitGroup // of calls that nobody waits for

	unique atomic.Uint64
	// changes counts what changes sizes here; an older reply's size is not believed.
	changes  atomic.Uint64
	maxWrite int  // bytes in one WRITE or READ
	plus     bool // READDIRPLUS
	inval    bool // AUTO_INVAL_DATA

	// What the server was found not to have.
	noFallocate, noLseek, noSyncfs, noRename2, noTmpfile, noXattr, noFsync, noFsyncdir atomic.Bool

	nodes vfs.InodeTable[nodeKey]

	mu      sync.Mutex
	forgets []forget // guarded by mu
	// forgotten counts all that ever were in forgets; guarded by mu.
	forgotten uint64
	// letting is held while the server is told to forget because it has no room. It is taken before mu.
	letting sync.Mutex
	ended   bool // nothing is to be sent any more; guarded by mu
}

type nodeKey struct{ id, generation uint64 }

type forget struct{ node, n uint64 }

// caller is who asks, for the server to know.
type caller struct{ uid, gid, pid uint32 }

func callerOf(ctx *vfs.Context) caller {
	if ctx == nil {
		return caller{}
	}
	return caller{ctx.Cred.FSUID, ctx.Cred.FSGID, uint32(ctx.PID)}
}

func callerCred(c *cred.Cred) caller { return caller{uid: c.FSUID, gid: c.FSGID} }

// New greets the server (INIT) and returns its file system. EPROTO when it does not speak a known version.
func New(c Config) (*vfs.FS, error) {
	k := &conn{t: c.Transport, pool: c.Pool, clock: c.Monotonic, unused: c.Unmounted}
	if err := k.init(); err != nil {
		return nil, err
	}
	k.fs = vfs.NewFS(c.Type, k, c.Wall)
	k.fs.Cached, k.fs.NoAtime = true, true
	root, err := k.root()
	if err != nil {
		return nil, err
	}
	k.fs.SetRoot(root)
	return k.fs, nil
}

// wanted are the flags of INIT that are asked for.
const wanted = fuseabi.InitAsyncRead | fuseabi.InitBigWrites | fuseabi.InitDontMask | fuseabi.InitAutoInval | fuseabi.InitReaddirplus |
	fuseabi.InitReaddirAuto | fuseabi.InitParallelDirops | fuseabi.InitHandleKillpriv | fuseabi.InitMaxPages | fuseabi.InitCacheSymlinks

// init negotiates.
func (k *conn) init() error {
	var m message
	m.u32(fuseabi.Major, fuseabi.Minor, uint32(k.t.MaxPages()*machine.PageSize), wanted, 0)
	m.b = append(m.b, make([]byte, fuseabi.InitInSize-len(m.b))...)
	in := make([]byte, fuseabi.InitOutSize)
	n, err := k.call(fuseabi.OpInit, 0, caller{}, m.b, in)
	switch {
	case err != nil:
		return err
	case n < 24 || le.Uint32(in) != fuseabi.Major || le.Uint32(in[4:]) < fuseabi.LeastMinor:
		return unix.EPROTO
	}
	flags := le.Uint32(in[12:])
	k.plus, k.inval = flags&fuseabi.InitReaddirplus != 0, flags&fuseabi.InitAutoInval != 0
	pages := 32
	if flags&fuseabi.InitMaxPages != 0 {
		pages = int(le.Uint16(in[28:]))
	}
	pages = min(pages, k.t.MaxPages(), int(le.Uint32(in[20:])/machine.PageSize))
	k.maxWrite = max(pages, 1) * machine.PageSize
	return nil
}

// root fetches the root directory's attributes.
func (k *conn) root() (*vfs.Inode, error) {
	var m message
	m.u32(0, 0)
	m.u64(0)
	in := make([]byte, fuseabi.AttrOutSize)
	if err := k.exact(fuseabi.OpGetattr, fuseabi.RootID, caller{}, m.b, in); err != nil {
		return nil, err
	}
	a, valid, err := parseAttrOut(in)
	if err != nil {
		return nil, err
	}
	if a.mode&unix.S_IFMT != unix.S_IFDIR {
		return nil, unix.EIO
	}
	e := entry{node: fuseabi.RootID, attrValid: valid, attr: a}
	i, err := k.inode(&e, k.changes.Load())
	if err == nil {
		nodeOf(i).lookups.Store(0) // the root is not forgotten
	}
	return i, err
}

// buffers holds the messages of calls.
var buffers = sync.Pool{New: func() any { return new(buffer) }}

type buffer struct {
	out [MaxOut]byte
	in  [MaxIn]byte
}

// call makes a request with the arguments args and stores the reply in in, as far as it goes; it returns the
// length of the reply.
func (k *conn) call(op uint32, node uint64, who caller, args, in []byte) (int, error) {
	return k.callData(op, node, who, args, in, nil, 0, 0, false)
}

// callData is call with n bytes of data in frames, behind the arguments when give, else for what comes behind in. A server that has no
// more room for descriptors is told to forget what nobody uses, and asked again.
func (k *conn) callData(op uint32, node uint64, who caller, args, in []byte, frames []machine.Frame, off, n int, give bool) (int, error) {
	got, err := k.exchange(op, node, who, args, in, frames, off, n, give)
	for tries := 0; (err == unix.EMFILE || err == unix.ENFILE) && tries < letGoMost && k.letGo(); tries++ {
		got, err = k.exchange(op, node, who, args, in, frames, off, n, give)
	}
	return got, err
}

// exchange makes one request of callData.
func (k *conn) exchange(op uint32, node uint64, who caller, args, in []byte, frames []machine.Frame, off, n int, give bool) (int, error) {
	b := buffers.Get().(*buffer)
	defer buffers.Put(b)
	length := fuseabi.InHeaderSize + len(args)
	if length > MaxOut || fuseabi.OutHeaderSize+len(in) > MaxIn {
		return 0, unix.EINVAL
	}
	unique := k.unique.Add(2) // odd ones are for interrupts
	total := length
	if give {
		total += n
	}
	header(b.out[:0], uint32(total), op, unique, node, who)
	copy(b.out[fuseabi.InHeaderSize:], args)
	reply, err := k.t.Call(b.out[:length], b.in[:fuseabi.OutHeaderSize+len(in)], frames, off, n, give)
	if err != nil {
		return 0, err
	}
	room := fuseabi.OutHeaderSize + len(in)
	if !give {
		room += n
	}
	if reply < fuseabi.OutHeaderSize || reply > room || le.Uint64(b.in[8:]) != unique || le.Uint32(b.in[:]) != uint32(reply) {
		return 0, unix.EIO
	}
	if e := int32(le.Uint32(b.in[4:])); e != 0 {
		if e <= -4096 || e > 0 || reply != fuseabi.OutHeaderSize {
			return 0, unix.EIO
		}
		return 0, errno(-e)
	}
	copy(in, b.in[fuseabi.OutHeaderSize:fuseabi.OutHeaderSize+min(len(in), reply-fuseabi.OutHeaderSize)])
	return reply - fuseabi.OutHeaderSize, nil
}

// errno keeps errors that only the kernel may make from coming out of a server.
func errno(e int32) error {
	if e >= 512 {
		return unix.EIO // ERESTARTSYS and its like
	}
	return unix.Errno(e)
}

// exact is call for replies of one length: EIO.
func (k *conn) exact(op uint32, node uint64, who caller, args, in []byte) error {
	n, err := k.call(op, node, who, args, in)
	if err == nil && n != len(in) {
		err = unix.EIO
	}
	return err
}

func header(b []byte, length, op uint32, unique, node uint64, who caller) {
	m := message{b}
	m.u32(length, op)
	m.u64(unique, node)
	m.u32(who.uid, who.gid, who.pid, 0)
}

// Forgets are sent when there are so many, and at most so many fit into a message.
const (
	forgetBatch = 32
	forgetMost  = (MaxOut - fuseabi.InHeaderSize - 8) / 16
)

// forget tells the server that a node's lookups are done with.
func (k *conn) forget(node, n uint64) {
	if n == 0 {
		return
	}
	k.mu.Lock()
	if k.ended {
		k.mu.Unlock()
		return // the server has forgotten all, and gives the node's number to others in the next session
	}
	k.forgets = append(k.forgets, forget{node, n})
	k.forgotten++
	if len(k.forgets) < forgetBatch {
		k.mu.Unlock()
		return
	}
	batch := k.forgets
	k.forgets = nil
	k.background.Add(1)
	k.mu.Unlock()
	defer k.background.Done()
	k.sendForgets(batch)
}

func (k *conn) sendForgets(list []forget) {
	if len(list) == 0 {
		return
	}
	out := make([]byte, fuseabi.InHeaderSize, fuseabi.InHeaderSize+8+16*len(list))
	m := message{out}
	m.u32(uint32(len(list)), 0)
	for _, f := range list {
		m.u64(f.node, f.n)
	}
	header(m.b[:0], uint32(len(m.b)), fuseabi.OpBatchForget, k.unique.Add(2), 0, caller{})
	k.t.Forget(m.b)
}

// Statfs implements vfs.FSOps.
func (k *conn) Statfs(s *unix.Statfs_t) {
	const magic = 0x65735546
	s.Type = magic
	in := make([]byte, fuseabi.StatfsSize)
	if k.exact(fuseabi.OpStatfs, fuseabi.RootID, caller{}, nil, in) != nil {
		return // statfs(2) cannot tell: sizes of 0, as Linux shows to those who may not ask
	}
	s.Blocks, s.Bfree, s.Bavail = le.Uint64(in), le.Uint64(in[8:]), le.Uint64(in[16:])
	s.Files, s.Ffree = le.Uint64(in[24:]), le.Uint64(in[32:])
	s.Bsize, s.Namelen, s.Frsize = int64(le.Uint32(in[40:])), int64(le.Uint32(in[44:])), int64(le.Uint32(in[48:]))
}

// Sync implements vfs.FSOps: what programs wrote is at the server; that is to write it to its disk.
func (k *conn) Sync() error {
	if k.noSyncfs.Load() {
		return nil
	}
	var m message
	m.u64(0)
	_, err := k.call(fuseabi.OpSyncfs, fuseabi.RootID, caller{}, m.b, nil)
	return missing(err, &k.noSyncfs)
}

// missing remembers what the server does not have, which is then no error.
func missing(err error, flag *atomic.Bool) error {
	if err == unix.ENOSYS {
		flag.Store(true)
		return nil
	}
	return err
}

// Unmounted implements vfs.FSOps.
func (k *conn) Unmounted() {
	k.fs.DropNames()
	k.mu.Lock()
	k.ended = true
	k.mu.Unlock()
	k.background.Wait()
	_, _ = k.call(fuseabi.OpDestroy, 0, caller{}, nil, nil) // nothing is left to be told of an error
	if k.unused != nil {
		k.unused()
	}
}
