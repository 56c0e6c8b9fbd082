package main

import (
	"errors"
	"runtime/debug"
	"strconv"

	"golang.org/x/sys/unix"

	"gosv/kernel/net"
	"gosv/machine"
)

// Exit statuses of gosv itself, as Docker has them.
const (
	statusError         = 125
	statusNotExecutable = 126
	statusNotFound      = 127
	statusSignal        = 128 // plus the number of the signal
)

// flushTimeout bounds what powering off waits for the host to take the output, in ns.
const flushTimeout = 5e9

// ending brings the machine to its end and tells the host why.
type ending struct {
	m       machine.Machine
	log     *log
	streams *streams     // nil until the ports are open
	sync    func()       // writes what file systems and disks hold; nil until there are any
	network *net.Network // which gives addresses back; nil until there is one
}

// exited is what follows the end of the first process.
func (e *ending) exited(status int, sig unix.Signal) {
	if sig != 0 {
		status = statusSignal + int(sig)
	}
	e.off("exit "+strconv.Itoa(status), status)
}

// failed is what follows when the program could not be started: because of the program when err is
// a *refusal, else because of the kernel.
func (e *ending) failed(err error) {
	status := statusError
	_, refused := err.(*refusal)
	switch {
	case !refused:
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		status = statusNotFound
	default:
		status = statusNotExecutable
	}
	if e.streams == nil || e.streams.control == nil {
		e.m.Emergency([]byte("gosv: " + err.Error() + "\n"))
	}
	e.off("error "+strconv.Itoa(status)+" "+err.Error(), status)
}

// onPanic reports a panic of the goroutine that boots.
func (e *ending) onPanic() {
	if r := recover(); r != nil {
		e.m.Emergency([]byte("gosv: panic while booting\n"))
		e.m.Emergency(debug.Stack())
		if err, ok := r.(error); ok {
			e.off("panic "+err.Error(), statusError)
		}
		e.off("panic while booting", statusError)
	}
}

// off tells the host, waits until it has all output, and powers off.
func (e *ending) off(word string, status int) {
	if e.sync != nil {
		e.sync()
	}
	if e.network != nil {
		e.network.Release()
	}
	if e.streams != nil {
		e.streams.flush(e.m.Monotonic() + flushTimeout)
		e.streams.say(word)
		e.streams.flush(e.m.Monotonic() + flushTimeout)
	}
	e.m.Off(status)
}
