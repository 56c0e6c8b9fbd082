package bundle

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"gosv/image/elfdeps"
	"gosv/image/rootfs"
)

// DefaultPath is PATH where nothing sets it.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Run returns what the kernel is to run for the bundle: the program's path in the
// tree, its arguments, and the user resolved by the tree's own /etc/passwd.
func (b *Bundle) Run() (*rootfs.Run, error) {
	argv := b.Spec.Args(nil)
	if len(argv) == 0 {
		return nil, errors.New("nothing says which program runs: name it behind the image")
	}
	home, err := b.home(b.Spec.User)
	if err != nil {
		return nil, err
	}
	env := MergeEnv([]string{"PATH=" + DefaultPath, "HOME=" + home}, b.Spec.Env)
	dir := path.Clean("/" + b.Spec.WorkDir)
	exe, err := b.find(argv[0], dir, env)
	if err != nil {
		return nil, err
	}
	return &rootfs.Run{Exe: exe, Args: argv, Env: env, Dir: dir, Hostname: b.Spec.Hostname, User: b.Spec.User}, nil
}

// find looks for a program in the tree as execvp(3) does.
func (b *Bundle) find(name, dir string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		if !path.IsAbs(name) {
			name = path.Join(dir, name)
		}
		return name, b.executable(name)
	}
	search := ""
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			search = v
		}
	}
	for _, d := range strings.Split(search, ":") {
		full := path.Join(dir, d, name)
		if path.IsAbs(d) {
			full = path.Join(d, name)
		}
		if b.executable(full) == nil {
			return full, nil
		}
	}
	return "", fmt.Errorf("%s: no such program in the image's PATH %s: %w", name, search, elfdeps.ErrNotFound)
}

func (b *Bundle) executable(name string) error {
	_, e, err := b.Tree.Stat(name)
	switch {
	case err != nil:
		return fmt.Errorf("%s: not found in the image: %w", name, elfdeps.ErrNotFound)
	case !e.Mode.IsRegular() || e.Mode&0o111 == 0:
		return fmt.Errorf("%s: permission denied: %w", name, elfdeps.ErrNotExecutable)
	}
	return nil
}

// home checks that the image knows a user, USER[:GROUP] in names or numbers, and
// returns the home directory.
func (b *Bundle) home(spec string) (string, error) {
	if spec == "" {
		spec = "0"
	}
	name, group, hasGroup := strings.Cut(spec, ":")
	if hasGroup {
		if f, err := b.entry("/etc/group", group, 4); err != nil {
			return "", err
		} else if f == nil && !numeric(group) {
			return "", fmt.Errorf("group %s: not in the image's /etc/group", group)
		}
	}
	f, err := b.entry("/etc/passwd", name, 7)
	switch {
	case err != nil:
		return "", err
	case f != nil && f[5] != "":
		return f[5], nil
	case f == nil && !numeric(name):
		return "", fmt.Errorf("user %s: not in the image's /etc/passwd", name)
	case name == "0":
		return "/root", nil
	}
	return "/", nil
}

func numeric(s string) bool {
	_, err := strconv.ParseUint(s, 10, 32)
	return err == nil
}

// entry returns the line of a file of the tree, with n fields or more, whose first
// or third field is key; nil when there is none.
func (b *Bundle) entry(name, key string, n int) ([]string, error) {
	_, e, err := b.Tree.Stat(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && e.Open == nil {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	f, err := e.Open()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	in := bufio.NewScanner(io.LimitReader(f, 4<<20))
	for in.Scan() {
		if fields := strings.Split(in.Text(), ":"); len(fields) >= n && (fields[0] == key || fields[2] == key) {
			return fields, nil
		}
	}
	return nil, in.Err()
}
