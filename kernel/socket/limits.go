package socket

import "sync/atomic"

// Limits of the sockets of the whole machine, which root may change: /proc/sys/net/core (socket(7), listen(2)).
var (
	DefaultSend    = limit(212992)  // wmem_default: bytes of a new socket's buffer
	DefaultReceive = limit(212992)  // rmem_default
	MaxSend        = limit(4 << 20) // wmem_max: what SO_SNDBUF may ask for, in bytes
	MaxReceive     = limit(4 << 20) // rmem_max
	MaxBacklog     = limit(4096)    // somaxconn: what listen(2) may ask for
)

func limit(n int32) *atomic.Int32 {
	l := new(atomic.Int32)
	l.Store(n)
	return l
}
