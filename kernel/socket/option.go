package socket

import (
	"math"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
)

// The least sizes of buffers, in bytes.
const (
	MinSendBuffer = 4608 // SOCK_MIN_SNDBUF
	MinRecvBuffer = 2304 // SOCK_MIN_RCVBUF
)

// Flags are the options of SOL_SOCKET that are on or off.
type Flags uint32

// The flags.
const (
	Debug Flags = 1 << iota
	ReuseAddr
	ReusePort
	DontRoute
	Broadcast
	KeepAlive
	OOBInline
	NoCheck
	PassCred
	Timestamp   // SO_TIMESTAMP
	TimestampNS // SO_TIMESTAMPNS
	RxqOvfl
	ZeroCopy
	SelectErrQueue
	LockFilter
)

// flagNames are the options that the flags stand for.
var flagNames = map[int]Flags{
	unix.SO_DEBUG: Debug, unix.SO_REUSEADDR: ReuseAddr, unix.SO_REUSEPORT: ReusePort, unix.SO_DONTROUTE: DontRoute,
	unix.SO_BROADCAST: Broadcast, unix.SO_KEEPALIVE: KeepAlive, unix.SO_OOBINLINE: OOBInline, unix.SO_NO_CHECK: NoCheck,
	unix.SO_PASSCRED: PassCred, unix.SO_TIMESTAMP: Timestamp, unix.SO_TIMESTAMPNS: TimestampNS,
	unix.SO_RXQ_OVFL: RxqOvfl, unix.SO_SELECT_ERR_QUEUE: SelectErrQueue,
	unix.SO_ZEROCOPY: ZeroCopy, unix.SO_LOCK_FILTER: LockFilter,
}

// Options are the options of level SOL_SOCKET that every socket has. Any goroutine may read them.
type Options struct {
	flags      atomic.Uint32
	sndbuf     atomic.Int32
	rcvbuf     atomic.Int32
	bufLock    atomic.Int32
	rcvlowat   atomic.Int32
	priority   atomic.Int32
	mark       atomic.Uint32
	linger     atomic.Int32 // seconds; -1: off
	lingerTime atomic.Int32 // what was given while off
	peekOff    atomic.Int32 // -1: off
	recvWait   atomic.Int64 // ns; 0: for ever
	sendWait   atomic.Int64
	err        atomic.Int32
	cookie     atomic.Uint64
}

var lastCookie atomic.Uint64

func (o *Options) init() {
	o.sndbuf.Store(DefaultSend.Load())
	o.rcvbuf.Store(DefaultReceive.Load())
	o.rcvlowat.Store(1)
	o.linger.Store(-1)
	o.peekOff.Store(-1)
}

// Inherit makes o what an accepted socket has from the listener's options: all but SO_PRIORITY.
func (o *Options) Inherit(from *Options) {
	o.flags.Store(from.flags.Load())
	for _, p := range [][2]*atomic.Int32{{&o.sndbuf, &from.sndbuf}, {&o.rcvbuf, &from.rcvbuf}, {&o.bufLock, &from.bufLock}, {&o.rcvlowat, &from.rcvlowat},
		{&o.linger, &from.linger}, {&o.lingerTime, &from.lingerTime}, {&o.peekOff, &from.peekOff}} {
		p[0].Store(p[1].Load())
	}
	o.mark.Store(from.mark.Load())
	o.recvWait.Store(from.recvWait.Load())
	o.sendWait.Store(from.sendWait.Load())
}

// Is reports whether all the flags are on.
func (o *Options) Is(f Flags) bool { return Flags(o.flags.Load())&f == f }

// SetFlag turns flags on or off.
func (o *Options) SetFlag(f Flags, on bool) {
	if on {
		o.flags.Or(uint32(f))
	} else {
		o.flags.And(^uint32(f))
	}
}

// SendBuffer is SO_SNDBUF as getsockopt(2) shows it: the double of what was asked for.
func (o *Options) SendBuffer() int { return int(o.sndbuf.Load()) }

// RecvBuffer is SO_RCVBUF.
func (o *Options) RecvBuffer() int { return int(o.rcvbuf.Load()) }

// SetBuffers sets both buffers without a check; for a family whose default is another.
func (o *Options) SetBuffers(send, recv int) {
	o.sndbuf.Store(int32(send))
	o.rcvbuf.Store(int32(recv))
}

// RecvLowat is SO_RCVLOWAT in bytes.
func (o *Options) RecvLowat() int { return int(o.rcvlowat.Load()) }

// RecvTimeout is SO_RCVTIMEO in ns, 0: none.
func (o *Options) RecvTimeout() int64 { return o.recvWait.Load() }

// SendTimeout is SO_SNDTIMEO in ns, 0: none.
func (o *Options) SendTimeout() int64 { return o.sendWait.Load() }

// Linger is SO_LINGER: whether it is on and the seconds.
func (o *Options) Linger() (on bool, seconds int) {
	s := o.linger.Load()
	return s >= 0, int(max(s, 0))
}

// PeekOffset is SO_PEEK_OFF, -1 when off.
func (o *Options) PeekOffset() int { return int(o.peekOff.Load()) }

// SetPeekOffset sets SO_PEEK_OFF.
func (o *Options) SetPeekOffset(n int) { o.peekOff.Store(int32(n)) }

// MovePeekOffset adds n to SO_PEEK_OFF when it is on, not below 0.
func (o *Options) MovePeekOffset(n int) {
	if v := o.peekOff.Load(); v >= 0 {
		o.peekOff.Store(max(v+int32(n), 0))
	}
}

// Mark is SO_MARK.
func (o *Options) Mark() uint32 { return o.mark.Load() }

// Priority is SO_PRIORITY.
func (o *Options) Priority() int { return int(o.priority.Load()) }

// SetError keeps an error for SO_ERROR and the next operation; 0 for none.
func (o *Options) SetError(e unix.Errno) { o.err.Store(int32(e)) }

// HasError reports whether one is kept.
func (o *Options) HasError() bool { return o.err.Load() != 0 }

// TakeError returns the error that is kept and forgets it; nil for none.
func (o *Options) TakeError() error {
	if o.err.Load() == 0 {
		return nil
	}
	if e := unix.Errno(o.err.Swap(0)); e != 0 {
		return e
	}
	return nil
}

// Int lays out an option that is an int.
func Int(v int) []byte { return le.AppendUint32(nil, uint32(v)) }

// ParseInt reads an option that is an int: EINVAL when there are fewer bytes.
func ParseInt(b []byte) (int, error) {
	if len(b) < 4 {
		return 0, unix.EINVAL
	}
	return int(int32(le.Uint32(b))), nil
}

func boolInt(v bool) []byte {
	if v {
		return Int(1)
	}
	return Int(0)
}

// timeval lays out a timeout.
func timeval(ns int64) []byte {
	b := le.AppendUint64(nil, uint64(ns/1e9))
	return le.AppendUint64(b, uint64(ns%1e9/1000))
}

// parseTimeval reads a timeout in ns: EINVAL, EDOM. A negative one is the shortest.
func parseTimeval(b []byte) (int64, error) {
	if len(b) < 16 {
		return 0, unix.EINVAL
	}
	sec, usec := int64(le.Uint64(b)), int64(le.Uint64(b[8:]))
	switch {
	case usec < 0 || usec >= 1e6:
		return 0, unix.EDOM
	case sec < 0:
		return 1, nil
	case sec >= math.MaxInt64/int64(time.Second)-1:
		return 0, nil
	}
	return sec*1e9 + usec*1000, nil
}

// Option is getsockopt(2) of any level.
func (s *Socket) Option(c *Caller, level, name int) ([]byte, error) {
	b, err := s.ops.Option(c, level, name)
	if err != unix.ENOPROTOOPT || level != unix.SOL_SOCKET {
		return b, err
	}
	return s.common(name)
}

// common is getsockopt(2) of SOL_SOCKET.
func (s *Socket) common(name int) ([]byte, error) {
	if f, ok := flagNames[name]; ok {
		return boolInt(s.Is(f)), nil
	}
	switch name {
	case unix.SO_TYPE:
		return Int(s.Type), nil
	case unix.SO_PROTOCOL:
		return Int(s.Protocol), nil
	case unix.SO_DOMAIN:
		return Int(s.Family), nil
	case unix.SO_ERROR:
		if e, ok := s.TakeError().(unix.Errno); ok {
			return Int(int(e)), nil
		}
		return Int(0), nil
	case unix.SO_SNDBUF:
		return Int(s.SendBuffer()), nil
	case unix.SO_RCVBUF:
		return Int(s.RecvBuffer()), nil
	case unix.SO_BUF_LOCK:
		return Int(int(s.bufLock.Load())), nil
	case unix.SO_RCVLOWAT:
		return Int(s.RecvLowat()), nil
	case unix.SO_SNDLOWAT:
		return Int(1), nil
	case unix.SO_PRIORITY:
		return Int(s.Priority()), nil
	case unix.SO_MARK:
		return Int(int(s.Mark())), nil
	case unix.SO_LINGER:
		on, sec := s.Linger()
		if !on {
			sec = int(s.lingerTime.Load())
		}
		return append(boolInt(on), Int(sec)...), nil
	case unix.SO_RCVTIMEO, unix.SO_RCVTIMEO_NEW:
		return timeval(s.RecvTimeout()), nil
	case unix.SO_SNDTIMEO, unix.SO_SNDTIMEO_NEW:
		return timeval(s.SendTimeout()), nil
	case unix.SO_ACCEPTCONN, unix.SO_BSDCOMPAT, unix.SO_INCOMING_NAPI_ID:
		return Int(0), nil
	case unix.SO_PEERCRED:
		return Ucred{0, ^uint32(0), ^uint32(0)}.Bytes(), nil
	case unix.SO_PEERSEC, unix.SO_PASSSEC: // no security module
		return nil, unix.ENOPROTOOPT
	case unix.SO_PEEK_OFF:
		return nil, unix.EOPNOTSUPP
	case unix.SO_COOKIE:
		if s.cookie.Load() == 0 {
			s.cookie.CompareAndSwap(0, lastCookie.Add(1))
		}
		return le.AppendUint64(nil, s.cookie.Load()), nil
	}
	return nil, unix.ENOPROTOOPT
}

// SetOption is setsockopt(2) of any level.
func (s *Socket) SetOption(c *Caller, level, name int, value []byte) error {
	err := s.ops.SetOption(c, level, name, value)
	if err != unix.ENOPROTOOPT || level != unix.SOL_SOCKET {
		return err
	}
	return s.setCommon(c.Cred, name, value)
}

// setCommon is setsockopt(2) of SOL_SOCKET.
func (s *Socket) setCommon(c *cred.Cred, name int, value []byte) error {
	v, err := ParseInt(value)
	if err != nil {
		return err
	}
	if name == unix.SO_ZEROCOPY {
		return s.setZeroCopy(v)
	}
	if f, ok := flagNames[name]; ok {
		return s.setFlag(c, f, v != 0)
	}
	admin := c.Capable(unix.CAP_NET_ADMIN)
	switch name {
	case unix.SO_SNDBUF:
		s.sndbuf.Store(bufferSize(min(v, int(MaxSend.Load())), MinSendBuffer))
		s.Queue.Notify(unix.EPOLLOUT | unix.EPOLLWRNORM)
	case unix.SO_RCVBUF:
		s.rcvbuf.Store(bufferSize(min(v, int(MaxReceive.Load())), MinRecvBuffer))
	case unix.SO_SNDBUFFORCE:
		if !admin {
			return unix.EPERM
		}
		s.sndbuf.Store(bufferSize(max(v, 0), MinSendBuffer))
		s.Queue.Notify(unix.EPOLLOUT | unix.EPOLLWRNORM)
	case unix.SO_RCVBUFFORCE:
		if !admin {
			return unix.EPERM
		}
		s.rcvbuf.Store(bufferSize(max(v, 0), MinRecvBuffer))
	case unix.SO_BUF_LOCK:
		if v&^3 != 0 {
			return unix.EINVAL
		}
		s.bufLock.Store(int32(v))
	case unix.SO_RCVLOWAT:
		if v < 0 {
			v = math.MaxInt32
		}
		s.rcvlowat.Store(int32(max(v, 1)))
	case unix.SO_PRIORITY:
		if (v < 0 || v > 6) && !admin && !c.Capable(unix.CAP_NET_RAW) {
			return unix.EPERM
		}
		s.priority.Store(int32(v))
	case unix.SO_MARK:
		if !admin && !c.Capable(unix.CAP_NET_RAW) {
			return unix.EPERM
		}
		s.mark.Store(uint32(v))
	case unix.SO_LINGER:
		return s.setLinger(value)
	case unix.SO_RCVTIMEO, unix.SO_RCVTIMEO_NEW:
		return setTimeout(&s.recvWait, value)
	case unix.SO_SNDTIMEO, unix.SO_SNDTIMEO_NEW:
		return setTimeout(&s.sendWait, value)
	case unix.SO_PEEK_OFF:
		return unix.EOPNOTSUPP
	case unix.SO_BSDCOMPAT:
		return nil
	default:
		return unix.ENOPROTOOPT
	}
	return nil
}

func (s *Socket) setFlag(c *cred.Cred, f Flags, on bool) error {
	switch {
	case f == Debug && on && !c.Capable(unix.CAP_NET_ADMIN):
		return unix.EACCES
	case f == LockFilter && !on && s.Is(LockFilter): // for good
		return unix.EPERM
	}
	s.SetFlag(f, on)
	switch {
	case f == Timestamp && on:
		s.SetFlag(TimestampNS, false)
	case f == TimestampNS && on:
		s.SetFlag(Timestamp, false)
	}
	return nil
}

// setZeroCopy is SO_ZEROCOPY: EINVAL, EOPNOTSUPP where MSG_ZEROCOPY tells nothing.
func (s *Socket) setZeroCopy(v int) error {
	switch _, ok := s.ops.(ZeroCopier); {
	case !ok || s.Type == unix.SOCK_RAW || s.Type == unix.SOCK_DGRAM && s.Protocol != unix.IPPROTO_UDP:
		return unix.EOPNOTSUPP
	case v&^1 != 0:
		return unix.EINVAL
	}
	s.SetFlag(ZeroCopy, v != 0)
	return nil
}

// bufferSize is what SO_SNDBUF and SO_RCVBUF make of a number: the double, for the bookkeeping (socket(7)).
func bufferSize(v, least int) int32 {
	return int32(max(min(v, math.MaxInt32/2)*2, least))
}

func (s *Socket) setLinger(value []byte) error {
	if len(value) < 8 {
		return unix.EINVAL
	}
	on, sec := le.Uint32(value) != 0, int32(min(le.Uint32(value[4:]), math.MaxInt32))
	if !on {
		s.linger.Store(-1)
	} else {
		s.linger.Store(sec)
		s.lingerTime.Store(sec)
	}
	return nil
}

func setTimeout(to *atomic.Int64, value []byte) error {
	ns, err := parseTimeval(value)
	if err == nil {
		to.Store(ns)
	}
	return err
}
