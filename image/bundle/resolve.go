package bundle

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
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
	user, err := b.user(b.Spec.User)
	if err != nil {
		return nil, err
	}
	env := MergeEnv([]string{"PATH=" + DefaultPath, "HOME=" + user.home}, b.Spec.Env)
	dir := path.Clean("/" + b.Spec.WorkDir)
	exe, err := b.find(argv[0], dir, env)
	if err != nil {
		return nil, err
	}
	return &rootfs.Run{Exe: exe, Args: argv, Env: env, Dir: dir, Hostname: b.Spec.Hostname, User: user.ids}, nil
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

// user is who the program runs as.
type user struct {
	ids  []uint32 // user, group, supplementary groups; nil for root
	home string
}

// user resolves NAME|UID[:GROUP|GID].
func (b *Bundle) user(name string) (user, error) {
	if name == "" {
		name = "0"
	}
	who, group, hasGroup := strings.Cut(name, ":")
	passwd, err := b.lines("/etc/passwd", 7)
	if err != nil {
		return user{}, err
	}
	groups, err := b.lines("/etc/group", 4)
	if err != nil {
		return user{}, err
	}
	u := user{home: "/"}
	uid, err := strconv.ParseUint(who, 10, 32)
	numeric, login := err == nil, ""
	found, gid := false, uint64(0)
	for _, f := range passwd {
		id, err := strconv.ParseUint(f[2], 10, 32)
		if err != nil || f[0] != who && !(numeric && id == uid) {
			continue
		}
		uid, found, login, u.home = id, true, f[0], f[5]
		gid, _ = strconv.ParseUint(f[3], 10, 32)
		break
	}
	if !found && !numeric {
		return u, fmt.Errorf("user %s: not in the image's /etc/passwd", who)
	}
	if uid == 0 && !found {
		u.home = "/root"
	}
	u.ids = []uint32{uint32(uid), uint32(gid)}
	if hasGroup {
		id, err := groupID(groups, group)
		if err != nil {
			return u, err
		}
		u.ids[1] = id
		return u.orRoot(), nil
	}
	for _, f := range groups {
		if id, err := strconv.ParseUint(f[2], 10, 32); err == nil && login != "" && slices.Contains(strings.Split(f[3], ","), login) {
			u.ids = append(u.ids, uint32(id))
		}
	}
	return u.orRoot(), nil
}

// orRoot leaves out what is so anyway.
func (u user) orRoot() user {
	if slices.Equal(u.ids, []uint32{0, 0}) {
		u.ids = nil
	}
	return u
}

func groupID(groups [][]string, name string) (uint32, error) {
	if id, err := strconv.ParseUint(name, 10, 32); err == nil {
		return uint32(id), nil
	}
	for _, f := range groups {
		if id, err := strconv.ParseUint(f[2], 10, 32); err == nil && f[0] == name {
			return uint32(id), nil
		}
	}
	return 0, fmt.Errorf("group %s: not in the image's /etc/group", name)
}

// lines returns the lines of a file of the tree that have n fields.
func (b *Bundle) lines(name string, n int) ([][]string, error) {
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
	var list [][]string
	in := bufio.NewScanner(io.LimitReader(f, 4<<20))
	for in.Scan() {
		if fields := strings.Split(in.Text(), ":"); len(fields) >= n {
			list = append(list, fields)
		}
	}
	return list, in.Err()
}
