// Package uart drives a 16550 serial port (PC16550D data sheet; QEMU, Firecracker and real PCs have
// it at I/O port 0x3f8, interrupt 4).
//
// Input comes by interrupt into a buffer; while that is full the chip's own
// buffer holds the host back. Output goes to the chip as long as it takes bytes,
// which a virtual one always does at once; EAGAIN otherwise.
//
// Lock order: Port.reader or Port.writer, then Port.mu. An interrupt takes only mu, which is never held while a program's memory
// is copied.
package uart

import (
	"errors"
	"gosv/kernel/uio"
	"gosv/kernel/wait"
	"gosv/machine"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// COM1 is the first serial port of a PC: its first I/O port and its interrupt.
const (
	COM1    = 0x3f8
	COM1IRQ = 4
)

// Registers, relative to the first port.
const (
	regData       = 0 // receive and transmit buffer; divisor low with DLAB
	regEnable     = 1 // interrupt enable; divisor high with DLAB
	regIdentify   = 2 // interrupt identification, read
	regFIFO       = 2 // FIFO control, write
	regLine       = 3
	regModem      = 4
	regLineStatus = 5
)

const (
	enableInput  = 1 << 0
	enableOutput = 1 << 1

	fifoOn   = 1 << 0 // an interrupt from the first byte on; what a FIFO that is on already holds stays
	fifoIsOn = 3 << 6 // in regIdentify

	line8N1  = 3
	lineDLAB = 1 << 7
	divisor  = 1 // 115200 baud

	modemReady = 1<<0 | 1<<1 | 1<<3 // DTR, RTS, OUT2: interrupts on

	statusData  = 1 << 0
	statusEmpty = 1 << 5 // the transmit buffer or FIFO is empty
)

const (
	fifoSize = 16
	// outputPolls is how often a busy transmitter is looked at before EAGAIN.
	outputPolls = 64
	bufferSize  = 4096
)

// Events of each direction.
const (
	inEvents  = unix.POLLIN | unix.EPOLLRDNORM
	outEvents = unix.POLLOUT | unix.EPOLLWRNORM
)

// ErrNone says that there is no serial port.
var ErrNone = errors.New("no serial port there")

// Machine is what the driver needs of the machine.
type Machine interface {
	machine.Interrupts
	In(port uint16, size int) uint32
	Out(port uint16, size int, v uint32)
	Monotonic() int64
}

// A Port is a serial port.
type Port struct {
	m     Machine
	base  uint16
	burst int // bytes that an empty transmitter takes
	queue wait.Queue

	reader  sync.Mutex // serialises ReadTo, guards inPart
	inPart  [256]byte
	writer  sync.Mutex // serialises WriteFrom, guards outPart
	outPart [fifoSize]byte

	mu         sync.Mutex // guards what follows, and the registers
	buf        [bufferSize]byte
	head, tail uint32 // filled by interrupts, emptied by ReadTo; they run free
	enabled    uint8  // regEnable
}

// Open sets up the port at I/O port base with interrupt irq: ErrNone when there is none.
func Open(m Machine, base uint16, irq uint32) (*Port, error) {
	p := &Port{m: m, base: base, burst: 1}
	if p.in(regLineStatus) == 0xff {
		return nil, ErrNone
	}
	p.out(regEnable, 0)
	p.out(regLine, lineDLAB|line8N1)
	p.out(regData, divisor&0xff)
	p.out(regEnable, divisor>>8)
	p.out(regLine, line8N1)
	p.out(regModem, modemReady)
	v, err := m.Vector("ttyS", p.interrupt)
	if err != nil {
		return nil, err
	}
	if err := m.Route(irq, v, false, false); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.receive() // switching the FIFO on would lose what came already
	p.out(regFIFO, fifoOn)
	if p.in(regIdentify)&fifoIsOn == fifoIsOn {
		p.burst = fifoSize
	}
	p.enable(enableInput)
	return p, nil
}

func (p *Port) in(reg uint16) uint8     { return uint8(p.m.In(p.base+reg, 1)) }
func (p *Port) out(reg uint16, v uint8) { p.m.Out(p.base+reg, 1, uint32(v)) }

// enable says which interrupts are wanted. p.mu is held.
//
// +checklocks:p.mu
func (p *Port) enable(bits uint8) {
	if p.enabled != bits {
		p.enabled = bits
		p.out(regEnable, bits)
	}
}

// interrupt takes input and sees whether the transmitter is empty. The line is edge-triggered, so it
// does not stop before nothing that is enabled is left.
func (p *Port) interrupt() {
	var ready wait.Mask
	p.mu.Lock()
	if p.receive() {
		ready |= inEvents
	}
	if p.enabled&enableOutput != 0 && p.in(regLineStatus)&statusEmpty != 0 {
		p.enable(p.enabled &^ enableOutput)
		ready |= outEvents
	}
	p.mu.Unlock()
	p.queue.Notify(ready)
}

// receive moves input from the chip to the buffer; it reports whether there was any. When the buffer is full
// the chip keeps the rest and may not interrupt. p.mu is held.
//
// +checklocks:p.mu
func (p *Port) receive() bool {
	had := p.head
	for p.head-p.tail < bufferSize {
		if p.in(regLineStatus)&statusData == 0 {
			p.enable(p.enabled | enableInput)
			return p.head != had
		}
		p.buf[p.head%bufferSize] = p.in(regData)
		p.head++
	}
	p.enable(p.enabled &^ enableInput)
	return p.head != had
}

// Read is ReadTo a slice.
func (p *Port) Read(b []byte) (int, error) {
	dst := uio.Buffer(b)
	n, err := p.ReadTo(&dst)
	return int(n), err
}

// Write is WriteFrom a slice.
func (p *Port) Write(b []byte) (int, error) {
	src := uio.Buffer(b)
	n, err := p.WriteFrom(&src)
	return int(n), err
}

// ReadTo moves input to dst: EAGAIN when there is none, EFAULT. A serial line has no end of file.
func (p *Port) ReadTo(dst uio.Sink) (int64, error) {
	p.reader.Lock()
	defer p.reader.Unlock()
	if dst.Left() == 0 {
		return 0, nil
	}
	var total int64
	for dst.Left() > 0 {
		n := p.peek(p.inPart[:])
		if n == 0 {
			break
		}
		done, err := dst.Put(p.inPart[:n])
		p.drop(done)
		total += int64(done)
		if done < n {
			if total == 0 {
				return 0, err
			}
			break
		}
	}
	if total == 0 {
		return 0, unix.EAGAIN
	}
	return total, nil
}

// peek copies the oldest input.
func (p *Port) peek(b []byte) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := min(len(b), int(p.head-p.tail))
	for i := range n {
		b[i] = p.buf[(p.tail+uint32(i))%bufferSize]
	}
	return n
}

// drop removes the oldest input, and lets the chip go on if it had to stop.
func (p *Port) drop(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tail += uint32(n)
	if n > 0 && p.enabled&enableInput == 0 {
		p.receive()
	}
}

// WriteFrom moves bytes from src to the line, as many as the chip takes: EAGAIN when it takes none, EFAULT.
func (p *Port) WriteFrom(src uio.Source) (int64, error) {
	p.writer.Lock()
	defer p.writer.Unlock()
	var total int64
	for src.Left() > 0 {
		if !p.ready() {
			if total == 0 {
				return 0, unix.EAGAIN
			}
			break
		}
		n, err := src.Take(p.outPart[:p.burst])
		for _, b := range p.outPart[:n] {
			p.out(regData, b)
		}
		total += int64(n)
		if err != nil || n == 0 {
			if total == 0 {
				return 0, err
			}
			break
		}
	}
	return total, nil
}

// ready reports whether the transmitter is empty; if not, a notification is on the way.
func (p *Port) ready() bool {
	for range outputPolls {
		if p.in(regLineStatus)&statusEmpty != 0 {
			return true
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.enable(p.enabled | enableOutput)
	return false
}

// Readiness returns which of the poll(2) events in mask are true now. After one was missing, its
// notification will come.
func (p *Port) Readiness(mask wait.Mask) wait.Mask {
	var ready wait.Mask
	p.mu.Lock()
	if p.head != p.tail {
		ready |= mask & inEvents
	}
	p.mu.Unlock()
	if mask&outEvents != 0 && p.ready() {
		ready |= mask & outEvents
	}
	return ready
}

// Register has e told of the port's events; Unregister ends that.
func (p *Port) Register(e *wait.Entry) { p.queue.Add(e) }

// Unregister takes back Register.
func (p *Port) Unregister(e *wait.Entry) { p.queue.Remove(e) }

// Flush waits until the chip has sent everything: ETIMEDOUT after the deadline, a monotonic time in nanoseconds.
func (p *Port) Flush(deadline int64) error {
	for p.in(regLineStatus)&statusEmpty == 0 {
		if p.m.Monotonic() >= deadline {
			return unix.ETIMEDOUT
		}
		runtime.Gosched()
	}
	return nil
}

// WriteAll writes all of b, and waits for the chip until the deadline, a monotonic time in nanoseconds: ETIMEDOUT.
func (p *Port) WriteAll(b []byte, deadline int64) error {
	for len(b) > 0 {
		n, err := p.Write(b)
		b = b[n:]
		if err == nil {
			continue
		}
		if p.m.Monotonic() >= deadline {
			return unix.ETIMEDOUT
		}
		runtime.Gosched()
	}
	return nil
}
