package loader

import (
	"bytes"

	"golang.org/x/sys/unix"
)

// parseScript reads the first line of a script, "#!interpreter [argument]", from
// the first bytes of a file (execve(2), interpreter scripts). The argument, if
// any, is all the rest of the line without the blanks around it. It fails with ENOEXEC when
// there is no interpreter or its name does not fit.
func parseScript(b []byte) (interp, arg string, err error) {
	line := b[2:]
	end := bytes.IndexByte(line, '\n')
	whole := end >= 0 || len(b) < firstBytes
	if end >= 0 {
		line = line[:end]
	}
	if nul := bytes.IndexByte(line, 0); nul >= 0 {
		line, whole = line[:nul], true
	}
	line = bytes.TrimLeft(line, " \t")
	n := bytes.IndexAny(line, " \t")
	if n < 0 {
		if n = len(line); !whole {
			return "", "", unix.ENOEXEC // the name may be cut off
		}
	}
	if n == 0 {
		return "", "", unix.ENOEXEC
	}
	return string(line[:n]), string(bytes.Trim(line[n:], " \t")), nil
}
