package afunix

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"gosv/kernel/socket"
	"gosv/kernel/vfs"
)

// Option implements socket.Ops.
func (k *sock) Option(_ *socket.Caller, level, name int) ([]byte, error) {
	if level != unix.SOL_SOCKET {
		return nil, unix.EOPNOTSUPP
	}
	switch name {
	case unix.SO_PEERCRED:
		k.mu.Lock()
		defer k.mu.Unlock()
		return k.peerCred.Bytes(), nil
	case unix.SO_PEERGROUPS:
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.peerCred == noCred {
			return nil, unix.ENODATA
		}
		b := make([]byte, 0, 4*len(k.peerGroups))
		for _, g := range k.peerGroups {
			b = binary.LittleEndian.AppendUint32(b, g)
		}
		return b, nil
	case unix.SO_ACCEPTCONN:
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.state == listening {
			return socket.Int(1), nil
		}
		return socket.Int(0), nil
	case unix.SO_PEEK_OFF:
		return socket.Int(k.s.PeekOffset()), nil
	}
	return nil, unix.ENOPROTOOPT
}

// SetOption implements socket.Ops.
func (k *sock) SetOption(_ *socket.Caller, level, name int, value []byte) error {
	if level != unix.SOL_SOCKET {
		return unix.EOPNOTSUPP
	}
	if name == unix.SO_PEEK_OFF {
		v, err := socket.ParseInt(value)
		if err == nil {
			k.s.SetPeekOffset(v)
		}
		return err
	}
	return unix.ENOPROTOOPT
}

// Ioctl implements socket.Ops: SIOCINQ (FIONREAD) and SIOCOUTQ.
func (k *sock) Ioctl(a *vfs.IoctlArgs) (uint64, error) {
	switch a.Cmd {
	case unix.SIOCOUTQ:
		return 0, a.PutInt32(k.wmem.Load())
	case unix.SIOCATMARK:
		k.mu.Lock()
		at := k.queue.oob != nil && k.queue.head == k.queue.oob
		k.mu.Unlock()
		v := int32(0)
		if at {
			v = 1
		}
		return 0, a.PutInt32(v)
	case unix.SIOCINQ:
		k.mu.Lock()
		st, n := k.state, k.queue.bytes
		if !k.connects() {
			n = 0
			if k.queue.head != nil {
				n = k.queue.head.n
			}
		}
		k.mu.Unlock()
		if st == listening {
			return 0, unix.EINVAL
		}
		return 0, a.PutInt32(int32(n))
	}
	if k.net.Ioctl != nil {
		return k.net.Ioctl(a)
	}
	return 0, unix.ENOTTY
}
