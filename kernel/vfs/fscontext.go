package vfs

import (
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"gosv/kernel/uio"
)

// maxOptions bounds the options that one context collects, in bytes, and maxMessages what it has to say.
const (
	maxOptions  = 4096
	maxMessages = 8
)

// Phases of a context (Linux's enum fs_context_phase).
const (
	phaseParams = iota // options of a file system that is to be made
	phaseMade          // that waits for its mount
	phaseChange        // options of one that is there
	phaseFailed        // could not be made
)

// An FSContext is the file of fsopen(2) and fspick(2): it collects the options of a file system, makes or changes that, and
// says, when it is read, what was wrong.
type FSContext struct {
	FileDefaults
	ns *Namespace

	mu       sync.Mutex
	phase    int // guarded by mu, as is all below
	typ      string
	source   string
	options  []string
	size     int    // of the options
	set      uint64 // MS_RDONLY and the like
	clear    uint64
	fs       *FS // that was made and not mounted yet, or is to be changed; it is held
	messages []string
}

// NewFSContext is fsopen(2): EPERM, ENODEV.
func NewFSContext(ctx *Context, typ string) (*File, error) {
	if !ctx.mayMount() {
		return nil, unix.EPERM
	}
	ns := ctx.Root.Mount.ns
	ns.mu.RLock()
	_, known := ns.types[typ]
	ns.mu.RUnlock()
	if !known {
		return nil, unix.ENODEV
	}
	return NewAnon("fscontext", &FSContext{ns: ns, typ: typ}, ctx.Cred, unix.O_RDWR), nil
}

// PickFS is fspick(2) of the file system whose mount's root p is: EPERM, EINVAL.
func PickFS(ctx *Context, p Path) (*File, error) {
	if !ctx.mayMount() {
		return nil, unix.EPERM
	}
	fs := p.Mount.FS
	if !ctx.Cred.CapableIn(fs.Owner, unix.CAP_SYS_ADMIN) {
		return nil, unix.EPERM
	}
	if p.Dentry != p.Mount.Root {
		return nil, unix.EINVAL
	}
	fs.mounts.Add(1)
	return NewAnon("fscontext", &FSContext{ns: p.Mount.ns, typ: fs.Type, fs: fs, phase: phaseChange}, ctx.Cred, unix.O_RDWR), nil
}

// FSContextOf returns the context that f is: EINVAL.
func FSContextOf(f *File) (*FSContext, error) {
	if c, ok := f.ops.(*FSContext); ok {
		return c, nil
	}
	return nil, unix.EINVAL
}

// fail keeps a message for whoever reads the context. c.mu is held.
//
// +checklocks:c.mu
func (c *FSContext) fail(err error, why string) error {
	if why != "" && len(c.messages) < maxMessages {
		c.messages = append(c.messages, "e "+c.typ+": "+why)
	}
	return err
}

// SetOption is FSCONFIG_SET_FLAG, and with a value FSCONFIG_SET_STRING: EBUSY, EINVAL. Whether the type knows the option shows when
// the file system is made.
func (c *FSContext) SetOption(key, value string, valued bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase != phaseParams && c.phase != phaseChange {
		return unix.EBUSY
	}
	word := key
	switch {
	case key == "" || strings.ContainsAny(key, ",=") || strings.Contains(value, ","):
		return c.fail(unix.EINVAL, "option with a comma: "+key)
	case valued && key == "source":
		if c.source != "" || c.phase != phaseParams {
			return c.fail(unix.EINVAL, "more than one source")
		}
		c.source = value
		return nil
	case valued:
		word += "=" + value
	}
	if !valued && c.flag(key) {
		return nil
	}
	if c.size += len(word) + 1; c.size > maxOptions {
		return c.fail(unix.EINVAL, "too many options")
	}
	c.options = append(c.options, word)
	return nil
}

// flag takes a word that is a flag of any file system.
func (c *FSContext) flag(key string) bool {
	w := mountWords[key]
	if (w.set|w.clear)&ofAny == 0 || (w.set|w.clear)&^ofAny != 0 {
		return false
	}
	c.set, c.clear = c.set&^w.clear|w.set, c.clear&^w.set|w.clear
	return true
}

// Create is FSCONFIG_CMD_CREATE: EBUSY, EPERM, and what the type says.
func (c *FSContext) Create(ctx *Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.phase != phaseParams:
		return unix.EBUSY
	case !ctx.mayMount():
		return unix.EPERM
	}
	r := &MountRequest{Ctx: ctx, Source: c.source, Options: strings.Join(c.options, ","), Flags: c.set}
	fs, err := c.ns.newFS(c.typ, r)
	if err != nil {
		c.phase = phaseFailed
		return c.fail(err, r.Problem)
	}
	c.fs, c.phase = fs, phaseMade
	return nil
}

// Reconfigure is FSCONFIG_CMD_RECONFIGURE: EBUSY, EPERM, and what the file system says.
func (c *FSContext) Reconfigure(ctx *Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.phase != phaseChange:
		return unix.EBUSY
	case !ctx.mayMount():
		return unix.EPERM
	}
	r := &MountRequest{Ctx: ctx, Options: strings.Join(c.options, ","), Flags: c.fs.readOnly.Load()&^c.clear | c.set}
	if err := c.ns.reconfigure(c.fs, r); err != nil {
		return c.fail(err, r.Problem)
	}
	c.options, c.size, c.set, c.clear = nil, 0, 0, 0
	return nil
}

// Mount is fsmount(2): it mounts the file system that Create made nowhere, and returns the file of that mount. EPERM, EINVAL, EBUSY, ENOSPC.
func (c *FSContext) Mount(ctx *Context, flags uint64) (*File, error) {
	if !ctx.mayMount() {
		return nil, unix.EPERM
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch c.phase {
	case phaseMade:
	case phaseParams, phaseFailed:
		return nil, unix.EINVAL
	default:
		return nil, unix.EBUSY
	}
	source := c.source
	if source == "" {
		source = "none"
	}
	if err := c.ns.mayReveal(ctx, c.fs, flags|c.set); err != nil {
		return nil, c.fail(err, "it would show what is hidden here")
	}
	m, err := c.ns.loose(c.fs, c.fs.root, source, defaultAtime(flags|c.set))
	if err != nil {
		return nil, err
	}
	c.phase = phaseChange
	c.options, c.size, c.set, c.clear = nil, 0, 0, 0
	return m.openLoose(ctx), nil
}

// Read implements FileOps: a message, ENODATA when there is none.
func (c *FSContext) Read(_ *File, dst uio.Sink, _ int64) (int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.messages) == 0 {
		return 0, unix.ENODATA
	}
	m := c.messages[0]
	if dst.Left() < len(m) {
		return 0, unix.EMSGSIZE
	}
	c.messages = c.messages[1:]
	n, err := dst.Put([]byte(m))
	return int64(n), err
}

// Release implements FileOps.
func (c *FSContext) Release(*File) {
	if c.fs != nil {
		c.fs.drop()
	}
}
