package agent

import (
	"encoding/binary"
	"errors"
	"strconv"

	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
	"gosv/kernel/task"
	"gosv/kernel/vfs"
)

// argument is the memory of an ioctl that the kernel itself makes: four bytes or eight.
type argument []byte

// CopyIn implements vfs.UserMemory.
func (m argument) CopyIn(dst []byte, va uint64) (int, error) { return move(dst, m, va) }

// CopyOut implements vfs.UserMemory.
func (m argument) CopyOut(va uint64, src []byte) (int, error) {
	if va > uint64(len(m)) {
		return 0, unix.EFAULT
	}
	return move(m[va:], src, 0)
}

func move(dst, src []byte, at uint64) (int, error) {
	if at > uint64(len(src)) {
		return 0, unix.EFAULT
	}
	n := copy(dst, src[at:])
	if n < min(len(dst), len(src)) {
		return n, unix.EFAULT
	}
	return n, nil
}

func ioctl(ctx *vfs.Context, f *vfs.File, cmd uint32, arg []byte) error {
	_, err := f.Ioctl(&vfs.IoctlArgs{Cmd: cmd, Mem: argument(arg), Ctx: ctx})
	return err
}

// openTerminal makes a pseudo-terminal: its slave is the program's descriptors 0 to 2, its master ours. It belongs to
// the program's user, as after grantpt(3).
func (s *session) openTerminal(ctx *vfs.Context, e *ends, size unix.Winsize) error {
	master, err := vfs.Open(ctx, ctx.Root, "/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return errors.New("no terminal: /dev/ptmx: " + err.Error())
	}
	e.in = master
	var unlock, number [4]byte
	if err := errors.Join(ioctl(ctx, master, unix.TIOCSPTLCK, unlock[:]), ioctl(ctx, master, unix.TIOCGPTN, number[:])); err != nil {
		return err
	}
	root := *ctx
	root.Cred = cred.Root()
	name := "/dev/pts/" + strconv.Itoa(int(binary.LittleEndian.Uint32(number[:])))
	slave, err := vfs.Open(&root, ctx.Root, name, unix.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	for range 3 {
		if _, err := e.files.Install(slave, 0, 0, 3); err != nil {
			return err
		}
		slave.IncRef()
	}
	slave.DecRef()
	e.terminal = slave.Ops().(task.TerminalFile).Terminal()
	master.IncRef()
	e.out = master
	master.IncRef()
	s.mu.Lock()
	s.tty = master
	s.mu.Unlock()
	s.resize(size)
	return nil
}

// resize tells the terminal, if there is one, how large it is.
func (s *session) resize(size unix.Winsize) {
	var arg [8]byte
	binary.LittleEndian.PutUint16(arg[:], size.Row)
	binary.LittleEndian.PutUint16(arg[2:], size.Col)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tty != nil {
		_ = ioctl(&vfs.Context{Root: s.a.Root, Cred: cred.Root()}, s.tty, unix.TIOCSWINSZ, arg[:]) // a terminal takes any size
	}
}

func (s *session) closeTerminal() {
	s.mu.Lock()
	f := s.tty
	s.tty = nil
	s.mu.Unlock()
	if f != nil {
		f.DecRef()
	}
}
