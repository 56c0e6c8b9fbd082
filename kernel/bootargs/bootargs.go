// Package bootargs reads what the host asks of the kernel: the command line,
// and the run file that gosv puts in front of the initial RAM disk. Both come
// from outside and are checked.
package bootargs

import (
	"errors"
	"strconv"
	"strings"
)

// Args is what to run, and how.
type Args struct {
	Path     string   // the program
	Argv     []string // argv[0] included
	Envp     []string
	Dir      string // working directory
	Hostname string
	User     string // of the program, USER[:GROUP], names or numbers; "": root
	Missing  bool   // tell which files were looked for and not found
	Window   Window // of the terminal, if there is one
	Strace   bool   // log every system call
	Verbose  bool   // log the kernel's own messages
	Network  Network
	// Root is the file system to run in, with the target "/"; nil: what the initial RAM disk brought.
	Root *Mount
	// Overlay is the type of file system for a private writable layer over the root; "": none.
	Overlay string
	// Verity says how the root is verified; nil: it is not.
	Verity *Verity
	// Mounts are mounted in order before the program starts.
	Mounts []Mount
	// Devices are the arguments of virtio_mmio.device= words, in order.
	Devices []string
}

// Window is the size of a terminal in characters, 0 when it is not known.
type Window struct{ Rows, Columns uint16 }

// ParseWindow reads ROWS COLUMNS.
func ParseWindow(s string) (Window, bool) {
	rows, cols, _ := strings.Cut(s, " ")
	r, err := strconv.ParseUint(rows, 10, 16)
	c, err2 := strconv.ParseUint(cols, 10, 16)
	return Window{uint16(r), uint16(c)}, err == nil && err2 == nil
}

// Defaults are what Linux gives its first program, but for PATH, which is
// that of a Debian shell.
var defaultEnv = []string{
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	"HOME=/root",
	"TERM=linux",
}

// Parse reads the command line and, when there is one, the run file, which says
// all of the program. When neither names a program but there is a root, which it asks for or which
// the initial RAM disk is an image of, Path is empty: the root's own run file (ParseRun) or Default says what to run.
func Parse(line string, run []byte, image bool) (*Args, error) {
	a := &Args{Dir: "/", Hostname: "gosv"}
	if err := a.parseLine(line); err != nil {
		return nil, err
	}
	if run != nil {
		if err := a.parseRun(run, everything); err != nil {
			return nil, err
		}
		return a, nil
	}
	if a.Path != "" || a.Root == nil && !image {
		a.Default("/init")
	}
	return a, nil
}

// ParseRun reads the run file of the root file system, which says all of the program but nothing of the root itself.
func (a *Args) ParseRun(run []byte) error { return a.parseRun(run, programOnly) }

// Default makes path the program unless there is one.
func (a *Args) Default(path string) {
	a.Envp = append(append([]string{}, defaultEnv...), a.Envp...)
	if a.Path == "" {
		a.Path = path
	}
	a.Argv = append([]string{a.Path}, a.Argv...)
}

// words of the command line that are for others: QEMU, Linux.
var ignored = map[string]bool{
	"console": true, "rootwait": true, "rootdelay": true, "quiet": true, "panic": true,
	"reboot": true, "earlyprintk": true, "pci": true, "acpi": true, "nokaslr": true, "tsc_early_khz": true,
	"i8042.nokbd": true, "i8042.noaux": true, "noapic": true, "nomodule": true, "mitigations": true,
}

func (a *Args) parseLine(line string) error {
	var root Mount
	program := false // behind --, where all is the program's
	for _, w := range words(line) {
		key, value, hasValue := strings.Cut(w, "=")
		var err error
		switch {
		case program && key != "virtio_mmio.device": // which QEMU puts last
			a.Argv = append(a.Argv, w)
		case w == "--":
			program = true
		case w == "gosv.verbose":
			a.Verbose = true
		case w == "gosv.strace":
			a.Strace = true
		case key == "gosv.overlay":
			a.Overlay = value
		case key == "gosv.verity":
			err = a.parseVerity(value)
		case key == "gosv.mount":
			err = a.parseMount(value)
		case strings.HasPrefix(key, "gosv."):
		case key == "root" && hasValue:
			root.Source = value
		case key == "rootfstype":
			root.Type = value
		case key == "rootflags":
			root.addOptions(value)
		case w == "ro", w == "rw":
			root.addOptions(w)
		case key == "virtio_mmio.device":
			a.Devices = append(a.Devices, value)
		case ignored[key]:
		case key == "init" && a.Path == "":
			a.Path = value
		case a.Path == "" && strings.HasPrefix(w, "/"):
			a.Path = w
		case hasValue:
			a.Envp = append(a.Envp, w)
		case a.Path != "":
			a.Argv = append(a.Argv, w)
		}
		if err != nil {
			return errors.New("command line: " + err.Error())
		}
	}
	if root.Source != "" {
		root.Target = "/"
		a.Root = &root
	}
	return nil
}

// words splits a command line as Linux does: at spaces outside double quotes, which go.
func words(line string) []string {
	var list []string
	var w []byte
	quoted, any := false, false
	for i := range len(line) + 1 {
		switch {
		case i == len(line) || !quoted && isSpace(line[i]):
			if any {
				list = append(list, string(w))
			}
			w, any = w[:0], false
		case line[i] == '"':
			quoted, any = !quoted, true
		default:
			w, any = append(w, line[i]), true
		}
	}
	return list
}

func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

// What a run file may say.
const (
	programOnly = iota
	everything
)

// parseRun reads NUL-terminated records key=value.
func (a *Args) parseRun(run []byte, what int) error {
	text := string(run)
	a.Path, a.Argv, a.Envp = "", nil, nil
	for len(text) > 0 {
		record, rest, ok := strings.Cut(text, "\x00")
		if !ok {
			return errors.New("run file: last record is not terminated")
		}
		text = rest
		key, value, ok := strings.Cut(record, "=")
		if !ok {
			return errors.New("run file: record without =: " + strconv.Quote(record))
		}
		if (key == "root" || key == "verity") && what != everything {
			return errors.New("run file of the root: it may not say " + key + "=")
		}
		if err := a.record(key, value); err != nil {
			return errors.New("run file: " + err.Error())
		}
	}
	if a.Path == "" && len(a.Argv) > 0 {
		a.Path = a.Argv[0]
	}
	if a.Path == "" {
		return errors.New("run file: no program")
	}
	if len(a.Argv) == 0 {
		a.Argv = []string{a.Path}
	}
	return nil
}

// record takes what one record of a run file says.
func (a *Args) record(key, value string) error {
	switch key {
	case "exe":
		a.Path = value
	case "arg":
		a.Argv = append(a.Argv, value)
	case "env":
		a.Envp = append(a.Envp, value)
	case "cwd":
		a.Dir = value
	case "hostname":
		a.Hostname = value
	case "user":
		a.User = value
	case "missing":
		a.Missing = value == "1"
	case "winsize":
		w, ok := ParseWindow(value)
		if !ok {
			return errors.New("bad winsize")
		}
		a.Window = w
	case "strace":
		a.Strace = value == "1"
	case "verbose":
		a.Verbose = value == "1"
	case "mount":
		return a.parseMount(value)
	case "overlay":
		a.Overlay = value
	case "root":
		return a.parseRoot(value)
	case "verity":
		return a.parseVerity(value)
	default:
		name, ok := strings.CutPrefix(key, "net.")
		if !ok {
			return errors.New("unknown record " + strconv.Quote(key))
		}
		return a.Network.record(name, value)
	}
	return nil
}
