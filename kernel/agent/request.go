package agent

import (
	"errors"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"gosv/kernel/bootargs"
)

// request is what a Start frame asks for.
type request struct {
	argv     []string
	env      []string
	dir      string
	user     string // NAME|UID[:GROUP|GID]
	terminal bool
	size     unix.Winsize
}

// parseRequest reads NUL-terminated records key=value: arg and env, repeatable; cwd, user, tty=1, winsize=ROWS COLUMNS.
func parseRequest(b []byte) (*request, error) {
	r := &request{}
	for text := string(b); text != ""; {
		record, rest, ok := strings.Cut(text, "\x00")
		key, value, ok2 := strings.Cut(record, "=")
		if !ok || !ok2 {
			return nil, errors.New("malformed request")
		}
		text = rest
		switch key {
		case "arg":
			r.argv = append(r.argv, value)
		case "env":
			r.env = append(r.env, value)
		case "cwd":
			r.dir = value
		case "user":
			r.user = value
		case "tty":
			r.terminal = value == "1"
		case "winsize":
			w, ok := bootargs.ParseWindow(value)
			if !ok {
				return nil, errors.New("malformed window size")
			}
			r.size = unix.Winsize{Row: w.Rows, Col: w.Columns}
		default:
			return nil, errors.New("unknown record " + strconv.Quote(key))
		}
	}
	if len(r.argv) == 0 || r.argv[0] == "" {
		return nil, errors.New("no program")
	}
	return r, nil
}

// merge returns the variables of base with those of list in place of, or behind, them.
func merge(base, list []string) []string {
	out := append([]string(nil), base...)
next:
	for _, v := range list {
		name, _, _ := strings.Cut(v, "=")
		for i, o := range out {
			if n, _, _ := strings.Cut(o, "="); n == name {
				out[i] = v
				continue next
			}
		}
		out = append(out, v)
	}
	return out
}
