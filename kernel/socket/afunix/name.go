package afunix

import (
	"bytes"
	"strconv"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gosv/kernel/socket"
	"gosv/kernel/vfs"
)

const (
	familySize = 2   // sizeof(sa_family_t), where sun_path begins
	addrSize   = 110 // sizeof(struct sockaddr_un)
	autoNames  = 1 << 20
)

// A name is what a socket is bound to. It does not change.
type name struct {
	addr    []byte   // as getsockname(2) returns it
	key     string   // of an abstract name in Network.abstract, "" for a path
	binding *binding // of a path
}

// A binding is what the inode of a bound path leads to (Inode.Private). Accepted connections share the name,
// not the binding.
type binding struct{ sock atomic.Pointer[sock] }

// checkAddr checks an address: EINVAL. path is what it names, "" for an abstract name.
func checkAddr(addr []byte) (path string, err error) {
	if len(addr) <= familySize || len(addr) > addrSize || family(addr) != unix.AF_UNIX {
		return "", unix.EINVAL
	}
	p := addr[familySize:]
	if p[0] == 0 {
		return "", nil
	}
	if i := bytes.IndexByte(p, 0); i >= 0 {
		p = p[:i]
	}
	return string(p), nil
}

func family(addr []byte) int { return int(addr[0]) | int(addr[1])<<8 }

func abstractKey(space uint64, typ int, addr []byte) string {
	return strconv.FormatUint(space, 36) + " " + string(rune(typ)) + string(addr[familySize:])
}

// pathAddr is the address that a path is shown with: with a NUL behind.
func pathAddr(path string) []byte {
	b := make([]byte, 0, familySize+len(path)+1)
	b = append(b, unix.AF_UNIX, 0)
	return append(append(b, path...), 0)
}

// Bind implements socket.Ops.
func (k *sock) Bind(c *socket.Caller, addr []byte) error {
	if len(addr) == familySize && family(addr) == unix.AF_UNIX {
		return k.autobind()
	}
	path, err := checkAddr(addr)
	if err != nil {
		return err
	}
	if path == "" {
		return k.bindAbstract(addr)
	}
	return k.bindPath(c, path)
}

func (k *sock) bindAbstract(addr []byte) error {
	n := k.net
	key := abstractKey(k.space, k.s.Type, addr)
	n.mu.Lock()
	defer n.mu.Unlock()
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.name.Load() != nil:
		return unix.EINVAL
	case n.abstract[key] != nil:
		return unix.EADDRINUSE
	}
	n.abstract[key] = k
	k.name.Store(&name{addr: append([]byte(nil), addr...), key: key})
	return nil
}

// autobind gives the socket an abstract name of five hexadecimal digits, unless it has a name: ENOSPC.
func (k *sock) autobind() error {
	if k.name.Load() != nil {
		return nil
	}
	const digits = "0123456789abcdef"
	for range autoNames {
		k.net.mu.Lock()
		k.net.auto = (k.net.auto + 1) % autoNames
		v := k.net.auto
		k.net.mu.Unlock()
		addr := []byte{unix.AF_UNIX, 0, 0, digits[v>>16], digits[v>>12&15], digits[v>>8&15], digits[v>>4&15], digits[v&15]}
		switch err := k.bindAbstract(addr); err {
		case unix.EADDRINUSE:
		case unix.EINVAL: // named meanwhile
			return nil
		default:
			return err
		}
	}
	return unix.ENOSPC
}

func (k *sock) bindPath(c *socket.Caller, path string) error {
	mode := uint32(0o777)
	if f := k.s.File(); f != nil {
		mode = f.Inode().Mode() & 0o7777
	}
	b := &binding{}
	if err := vfs.Mknod(c.Ctx, vfs.Path{}, path, unix.S_IFSOCK|mode, 0, b); err != nil {
		if err == unix.EEXIST {
			err = unix.EADDRINUSE
		}
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.name.Load() != nil { // as late as Linux looks: a path that exists is EADDRINUSE
		vfs.Unlink(c.Ctx, vfs.Path{}, path)
		return unix.EINVAL
	}
	k.name.Store(&name{addr: pathAddr(path), binding: b})
	b.sock.Store(k)
	return nil
}

// unname makes the socket's name lead to nobody. The name in the tree stays, as Linux has it.
func (k *sock) unname() {
	nm := k.name.Load()
	if nm == nil {
		return
	}
	if nm.binding != nil {
		nm.binding.sock.CompareAndSwap(k, nil)
		return
	}
	k.net.mu.Lock()
	if k.net.abstract[nm.key] == k {
		delete(k.net.abstract, nm.key)
	}
	k.net.mu.Unlock()
}

// find returns the socket that addr names: ECONNREFUSED when there is none, EPROTOTYPE when it is of another
// type, and what the path walk gives.
func (n *Network) find(space uint64, c *socket.Caller, addr []byte, typ int) (*sock, error) {
	path, err := checkAddr(addr)
	if err != nil {
		return nil, err
	}
	var k *sock
	if path == "" {
		n.mu.Lock()
		k = n.abstract[abstractKey(space, typ, addr)]
		n.mu.Unlock()
	} else {
		p, err := vfs.Lookup(c.Ctx, vfs.Path{}, path, 0)
		if err != nil {
			return nil, err
		}
		i := p.Inode()
		if err := i.Access(c.Cred, vfs.MayWrite); err != nil {
			return nil, err
		}
		i.Lock()
		b, _ := i.Private.(*binding)
		i.Unlock()
		if b != nil {
			k = b.sock.Load()
		}
	}
	switch {
	case k == nil:
		return nil, unix.ECONNREFUSED
	case k.s.Type != typ:
		return nil, unix.EPROTOTYPE
	}
	return k, nil
}

// Name implements socket.Ops.
func (k *sock) Name(peer bool) ([]byte, error) {
	if peer {
		k = k.peer.Load()
		if k == nil {
			return nil, unix.ENOTCONN
		}
	}
	if nm := k.name.Load(); nm != nil {
		return nm.addr, nil
	}
	return []byte{unix.AF_UNIX, 0}, nil
}
