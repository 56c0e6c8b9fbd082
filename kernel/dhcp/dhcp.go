// Package dhcp asks for addresses: a client of DHCP for IPv4 (RFC 2131, 2132, 3396, 3397, 3442) and one for IPv6
// (RFC 8415, without prefixes and authentication). It speaks in frames of Ethernet and needs no network stack under it,
// since an interface without an address can do little else; what it learns its user gives to the interface.
//
// What servers say is foreign: lengths are checked, names may hold only what names of hosts hold, lists
// and messages under way are bounded, and times have a least value, so that no server makes the
// client spin. A client belongs to one goroutine; Receive may be called on any.
package dhcp

import (
	"math/rand/v2"
	"time"
)

// Config is what both clients need.
type Config struct {
	// MAC is the address of the interface.
	MAC [6]byte
	// Hostname is sent to the server when it is not empty.
	Hostname string
	// Send sends a whole frame of Ethernet, which may get lost.
	Send func(frame []byte)
	// Log takes messages; it may be nil.
	Log func(string)
}

func (c *Config) log(s string) {
	if c.Log != nil {
		c.Log("dhcp: " + s)
	}
}

// Bounds.
const (
	maxServers = 8 // of each kind in a lease
	maxRoutes  = 64
	maxNames   = 16
	maxWaiting = 8 // messages that were received and not looked at

	leastTime  = 10 * time.Second // of a lease, whatever the server says
	firstWait  = time.Second      // for an answer, then twice as long each time
	mostWait   = 64 * time.Second
	leastAgain = time.Minute // between two tries to renew (RFC 2131 §4.4.5)
)

// jitter changes d by a tenth at most, so that machines that start together do not ask together.
func jitter(d time.Duration) time.Duration {
	return d + time.Duration((rand.Float64()-0.5)*0.2*float64(d))
}

// seconds makes a time that a server said: never less than leastTime; forever is true for the value that stands for that.
func seconds(v uint32) (d time.Duration, forever bool) {
	return max(time.Duration(v)*time.Second, leastTime), v == ^uint32(0)
}

// A waiter takes what was received, for a client.
type waiter[M any] struct {
	in   chan *M
	stop chan struct{}
}

func newWaiter[M any]() waiter[M] {
	return waiter[M]{make(chan *M, maxWaiting), make(chan struct{})}
}

// put keeps a message, unless too many are there.
func (w *waiter[M]) put(m *M) {
	select {
	case w.in <- m:
	default:
	}
}

// await returns the first message that fits; nil after d, and when the client is to stop.
func (w *waiter[M]) await(d time.Duration, fits func(*M) bool) *M {
	t := time.NewTimer(max(d, 0))
	defer t.Stop()
	for {
		select {
		case m := <-w.in:
			if fits(m) {
				return m
			}
		case <-t.C:
			return nil
		case <-w.stop:
			return nil
		}
	}
}

// pause waits for d; false when the client is to stop.
func (w *waiter[M]) pause(d time.Duration) bool {
	w.await(d, func(*M) bool { return false })
	return !w.stopped()
}

func (w *waiter[M]) stopped() bool {
	select {
	case <-w.stop:
		return true
	default:
		return false
	}
}

// hostName returns a name of a host or domain as a server says it: "" unless it is one.
func hostName(b []byte) string {
	for len(b) > 0 && (b[len(b)-1] == 0 || b[len(b)-1] == '.') {
		b = b[:len(b)-1]
	}
	if len(b) == 0 || len(b) > 253 || b[0] == '-' || b[0] == '.' {
		return ""
	}
	for _, c := range b {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_') {
			return ""
		}
	}
	return string(b)
}

// searchList reads names as DNS writes them (RFC 1035 §3.1, §4.1.4; RFC 3397): those before the first that is wrong.
func searchList(b []byte) (names []string) {
	for at := 0; at < len(b) && len(names) < maxNames; {
		name, next := domain(b, at)
		if name == "" {
			break
		}
		names, at = append(names, name), next
	}
	return names
}

// domain reads the name at a place of b, and says where the next begins. A pointer leads backwards only, so that no loop is possible.
func domain(b []byte, at int) (name string, next int) {
	var text []byte
	least := at
	for {
		if at >= len(b) {
			return "", 0
		}
		n := int(b[at])
		switch {
		case n == 0:
			if next == 0 {
				next = at + 1
			}
			return hostName(text), next
		case n >= 0xc0:
			if at+1 >= len(b) {
				return "", 0
			}
			to := (n&0x3f)<<8 | int(b[at+1])
			if to >= least {
				return "", 0
			}
			if next == 0 {
				next = at + 2
			}
			at, least = to, to
		case n > 63 || at+1+n > len(b) || len(text)+n > 253:
			return "", 0
		default:
			text = append(append(text, b[at+1:at+1+n]...), '.')
			at += 1 + n
		}
	}
}
