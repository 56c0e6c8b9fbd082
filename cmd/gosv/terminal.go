package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"gosv/image/rootfs"
)

// terminal is the terminal of this process, whose far side becomes the guest's.
type terminal struct {
	in    *os.File      // where keys come from; nil: none are passed on
	saved *unix.Termios // in's modes before raw
	sized *os.File      // the terminal whose size counts; nil: there is none
	once  sync.Once
}

// openTerminal finds the terminal of the standard streams. With interactive,
// standard input must be one.
func openTerminal(interactive bool, std streams) (*terminal, error) {
	t := &terminal{}
	for _, s := range []any{std.in, std.out, std.err} {
		if f, ok := s.(*os.File); ok && t.sized == nil && isTerminal(f) {
			t.sized = f
		}
	}
	if !interactive {
		return t, nil
	}
	f, ok := std.in.(*os.File)
	if !ok || !isTerminal(f) {
		return nil, errors.New("the input device is not a TTY; leave out --tty to pass on a pipe or a file")
	}
	t.in = f
	return t, nil
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// raw has every key passed on as it is: the guest does the editing and the echo.
func (t *terminal) raw() error {
	if t.in == nil {
		return nil
	}
	m, err := unix.IoctlGetTermios(int(t.in.Fd()), unix.TCGETS)
	if err != nil {
		return os.NewSyscallError("tcgetattr", err)
	}
	saved := *m
	t.saved = &saved
	m.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	m.Oflag &^= unix.OPOST
	m.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	m.Cflag = m.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	m.Cc[unix.VMIN], m.Cc[unix.VTIME] = 1, 0
	return os.NewSyscallError("tcsetattr", unix.IoctlSetTermios(int(t.in.Fd()), unix.TCSETS, m))
}

// restore gives the terminal its modes back.
func (t *terminal) restore() {
	if t.saved == nil {
		return
	}
	t.once.Do(func() {
		_ = unix.IoctlSetTermios(int(t.in.Fd()), unix.TCSETSW, t.saved) // fails when the terminal is gone
	})
}

// size returns the size of the terminal in characters, if there is one.
func (t *terminal) size() (rows, cols int, ok bool) {
	if t.sized == nil {
		return 0, 0, false
	}
	ws, err := unix.IoctlGetWinsize(int(t.sized.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, 0, false
	}
	return int(ws.Row), int(ws.Col), true
}

// streams returns the streams of a session whose terminal is in raw mode.
func (t *terminal) streams(std streams) streams {
	if t.in == nil {
		std.in = nil
		return std
	}
	std.err = crlf{std.err}
	return std
}

// crlf begins lines at the left, which a terminal in raw mode does not by itself.
type crlf struct{ io.Writer }

func (w crlf) Write(p []byte) (int, error) {
	if _, err := w.Writer.Write(bytes.ReplaceAll(p, []byte{'\n'}, []byte{'\r', '\n'})); err != nil {
		return 0, err
	}
	return len(p), nil
}

// env adds TERM to the environment of a program, unless it is there.
func (t *terminal) env(list []string) []string {
	if lookupEnv(list, "TERM") != "" {
		return list
	}
	term := os.Getenv("TERM")
	if term == "" || t.sized == nil {
		term = "xterm"
	}
	return append(list, "TERM="+term)
}

// addTerminfo packs the description of a terminal that terminfo(5) has on this machine, if it has.
func addTerminfo(tree *rootfs.Tree, term string) error {
	if term == "" || strings.ContainsAny(term, "/.") {
		return nil
	}
	for _, dir := range []string{"/etc/terminfo", "/lib/terminfo", "/usr/share/terminfo", "/usr/lib/terminfo"} {
		name := filepath.Join(dir, term[:1], term)
		if info, err := os.Stat(name); err != nil || !info.Mode().IsRegular() || tree.Has(name) {
			continue
		}
		return tree.Import(name)
	}
	return nil
}
