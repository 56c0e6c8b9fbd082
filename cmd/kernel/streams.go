package main

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"gosv/driver/chardev"
	"gosv/driver/console"
	"gosv/driver/uart"
	"gosv/kernel/bootargs"
	"gosv/kernel/cred"
	"gosv/kernel/task"
	"gosv/kernel/tty"
	"gosv/kernel/vfs"
	"gosv/kernel/wait"
	"gosv/machine"
)

// writeTimeout bounds what a message to the host waits, in ns.
const writeTimeout = 2e9

// streams are the ways to the host: the program's standard streams, the control
// port and the log port. Without ports of their own the three streams share
// one port, or the serial port.
type streams struct {
	m                     machine.Machine
	stdin, stdout, stderr chardev.Stream
	tty                   *console.Port // instead of the three
	terminal              *tty.Terminal // on tty
	console               *uart.Port    // the serial port, when it is the program's
	control, log          *console.Port
	exec                  *console.Port // by which the host asks for further programs
	ports                 []*console.Port
	lost                  func(tag string) // told of a share whose server is gone; set before listen
}

// openStreams opens the ports of the first console device that has ours. A port that is there and cannot be
// opened is an error: what goes another way would be lost.
func openStreams(m machine.Machine, consoles []*console.Console) (*streams, error) {
	s := &streams{m: m}
	var failed error
	open := func(name string, dir console.Direction) *console.Port {
		for _, c := range consoles {
			if p := c.Port(name); p != nil {
				if err := p.Open(dir); err != nil {
					failed = errors.New("port " + name + ": " + err.Error())
					return nil
				}
				s.ports = append(s.ports, p)
				return p
			}
		}
		return nil
	}
	s.control = open("gosv.control", console.Input|console.Output)
	s.log = open("gosv.log", console.Output)
	s.exec = open("gosv.exec", console.Input|console.Output)
	s.tty = open("gosv.tty", console.Input|console.Output)
	if failed != nil || s.tty != nil {
		return s, failed
	}
	in, out, errs := open("gosv.stdin", console.Input), open("gosv.stdout", console.Output), open("gosv.stderr", console.Output)
	if failed != nil {
		return nil, failed
	}
	if in != nil && out != nil && errs != nil {
		s.stdin, s.stdout, s.stderr = in, out, errs
		return s, nil
	}
	if p := open("gosv.console", console.Input|console.Output); p != nil || failed != nil {
		s.stdin, s.stdout, s.stderr = p, p, p
		return s, failed
	}
	u, err := uart.Open(m, uart.COM1, uart.COM1IRQ)
	if err != nil {
		return nil, errors.New("no way to the host: neither our ports on a virtio console nor a serial port")
	}
	s.console = u
	s.stdin, s.stdout, s.stderr = u, u, u
	return s, nil
}

// files returns a table with descriptors 0, 1 and 2.
func (s *streams) files(ctx *vfs.Context, now int64) (*vfs.FDTable, error) {
	t := vfs.NewFDTable()
	if s.terminal != nil {
		f, err := vfs.Open(ctx, ctx.Root, "/dev/console", unix.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		for range 3 {
			if _, err := t.Install(f, 0, 0, 3); err != nil {
				return nil, err
			}
			f.IncRef()
		}
		f.DecRef()
		return t, nil
	}
	root := cred.Root()
	for _, f := range []*vfs.File{
		chardev.Pipe(s.stdin, now, root, unix.O_RDONLY),
		chardev.Pipe(s.stdout, now, root, unix.O_WRONLY),
		chardev.Pipe(s.stderr, now, root, unix.O_WRONLY),
	} {
		if _, err := t.Install(f, 0, 0, 3); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// say sends the host one line on the control port.
func (s *streams) say(line string) {
	if s.control != nil {
		s.control.WriteAll([]byte(strings.ReplaceAll(line, "\n", " ")+"\n"), s.m.Monotonic()+writeTimeout)
	}
}

// flush waits until the host has taken all output.
func (s *streams) flush(deadline int64) {
	for s.terminal != nil && !s.terminal.Idle() && s.m.Monotonic() < deadline {
		time.Sleep(time.Millisecond)
	}
	for _, p := range s.ports {
		p.Flush(deadline)
	}
	if s.console != nil {
		s.console.Flush(deadline)
	}
}

// listen serves the host's requests on the control port.
func (s *streams) listen(k *task.Kernel) {
	if s.control == nil {
		return
	}
	go func() {
		ring := wait.NewBell()
		s.control.Register(&wait.Entry{Waiter: ring, Events: unix.POLLIN | unix.POLLHUP})
		var line []byte
		buf := make([]byte, 256)
		for {
			n, err := s.control.Read(buf)
			for _, b := range buf[:n] {
				if b != '\n' {
					if len(line) < 256 {
						line = append(line, b)
					}
					continue
				}
				s.serve(k, string(line))
				line = line[:0]
			}
			if err == nil && n == 0 {
				return // the host closed it
			}
			if err != nil {
				<-ring
			}
		}
	}()
}

// serve carries out one request of the host.
func (s *streams) serve(k *task.Kernel, line string) {
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "signal":
		if n, err := strconv.Atoi(rest); err == nil && n > 0 && n <= 64 {
			k.SignalInit(unix.Signal(n))
		}
	case "winsize":
		if w, ok := bootargs.ParseWindow(rest); ok && s.terminal != nil {
			s.terminal.SetSize(unix.Winsize{Row: w.Rows, Col: w.Columns})
		}
	case "gone":
		s.lost(rest)
	}
}
