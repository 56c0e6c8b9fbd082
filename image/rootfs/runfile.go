package rootfs

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Run tells the kernel what to run.
type Run struct {
	Exe      string   // path of the program in the guest
	Args     []string // argv; the first is argv[0]
	Env      []string // KEY=VALUE
	Dir      string   // working directory; "" for "/"
	Hostname string
	User     string // USER[:GROUP], names in the guest or numbers; "" for root
	Missing  bool   // tell which files were not found
	Rows     int    // of the terminal, in characters; 0 when there is none
	Columns  int
	Strace   bool // log every system call
	Verbose  bool // log what the kernel does
	Network  Network

	// Root is the file system to run in, with no target; nil: the archive that the run file is in.
	Root *Mount
	// Verity is how the root is verified: root hash, and where the superblock is.
	Verity *Verity
	// Overlay is the type of file system for a private writable layer over the root: "tmpfs", or "" for none.
	Overlay string
	Mounts  []Mount // beside the root, in order
}

// A Mount is a file system that the kernel mounts before the program starts (docs/boot-protocol.md).
type Mount struct{ Source, Target, Type, Options string }

// Verity names the Merkle tree of the root's block device.
type Verity struct {
	Hash   string // hexadecimal
	Offset uint64 // of the superblock, in bytes
	Device string // that holds the tree; "" for the root's own
}

// Linux's limits on what execve(2) hands to a program: MAX_ARG_STRLEN for one
// string, and a quarter of the default 8 MiB stack for all, pointers included.
const (
	maxArgString = 128 << 10
	maxArgTotal  = 2 << 20
)

// ErrTooLong is E2BIG: the arguments and the environment exceed Linux's limits.
var ErrTooLong = errors.New("argument list too long")

// File returns the run file: NUL-terminated records of the form key=value.
func (r *Run) File() ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	var b []byte
	record := func(key, value string) { b = append(append(append(append(b, key...), '='), value...), 0) }
	record("exe", r.Exe)
	for _, arg := range r.Args {
		record("arg", arg)
	}
	for _, env := range r.Env {
		record("env", env)
	}
	dir := r.Dir
	if dir == "" {
		dir = "/"
	}
	record("cwd", dir)
	if r.Hostname != "" {
		record("hostname", r.Hostname)
	}
	if r.User != "" {
		record("user", r.User)
	}
	if r.Missing {
		record("missing", "1")
	}
	if r.Rows > 0 || r.Columns > 0 {
		record("winsize", fmt.Sprintf("%d %d", r.Rows, r.Columns))
	}
	if r.Strace {
		record("strace", "1")
	}
	if r.Verbose {
		record("verbose", "1")
	}
	if r.Root != nil {
		record("root", fields(r.Root.Source, r.Root.Type, r.Root.Options))
	}
	if v := r.Verity; v != nil {
		record("verity", fields(v.Hash, strconv.FormatUint(v.Offset, 10), v.Device))
	}
	if r.Overlay != "" {
		record("overlay", r.Overlay)
	}
	for _, m := range r.Mounts {
		record("mount", fields(m.Source, m.Target, m.Type, m.Options))
	}
	r.Network.records(record)
	return b, nil
}

// fields joins words by spaces, those in them escaped as in fstab(5); empty ones at the end go.
func fields(words ...string) string {
	for len(words) > 0 && words[len(words)-1] == "" {
		words = words[:len(words)-1]
	}
	escaped := make([]string, len(words))
	for i, w := range words {
		escaped[i] = fieldEscapes.Replace(w)
		if w == "" {
			escaped[i] = "auto"
		}
	}
	return strings.Join(escaped, " ")
}

var fieldEscapes = strings.NewReplacer(" ", `\040`, "\t", `\011`, "\n", `\012`, "\v", `\013`, "\f", `\014`, "\r", `\015`, `\`, `\134`)

func (r *Run) check() error {
	total := 0
	lists := [][]string{{r.Exe, r.Dir, r.Hostname, r.Overlay, r.User}, r.Args, r.Env}
	if r.Root != nil {
		lists = append(lists, []string{r.Root.Source, r.Root.Type, r.Root.Options})
	}
	for _, m := range r.Mounts {
		lists = append(lists, []string{m.Source, m.Target, m.Type, m.Options})
	}
	for _, list := range lists {
		for _, s := range list {
			if strings.IndexByte(s, 0) >= 0 {
				return fmt.Errorf("%.40q holds a NUL byte", s)
			}
			if len(s)+1 > maxArgString {
				return fmt.Errorf("%w: %.40q… has %d bytes, Linux allows %d in one argument or variable", ErrTooLong, s, len(s), maxArgString-1)
			}
			total += len(s) + 1 + 8
		}
	}
	if total > maxArgTotal {
		return fmt.Errorf("%w: arguments and environment take %d bytes, Linux allows %d", ErrTooLong, total, maxArgTotal)
	}
	return nil
}
