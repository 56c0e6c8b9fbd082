// Package passwd turns a name or number of a user, as `docker run --user` takes it, into
// credentials, by the /etc/passwd and /etc/group of the root file system (passwd(5), group(5)).
package passwd

import (
	"errors"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
)

// User is who a program runs as.
type User struct {
	Cred *cred.Cred
	Home string
}

// maxFile bounds what is read of a file, in bytes.
const maxFile = 1 << 20

// Errors of Find.
var (
	ErrNoUser  = errors.New("no such user")
	ErrNoGroup = errors.New("no such group")
)

// Find returns the user for USER[:GROUP], each a name or a number. Numbers need no entry. Without a group it is
// the user's own and all that list it as a member; with one it is that alone. The empty string is root. Files are
// read with ctx's root, as root.
func Find(ctx *vfs.Context, spec string) (*User, error) {
	if spec == "" {
		return &User{cred.Root(), "/root"}, nil
	}
	c := *ctx
	c.Cred = cred.Root()
	passwd, err := readFile(&c, "/etc/passwd")
	if err != nil {
		return nil, err
	}
	groups, err := readFile(&c, "/etc/group")
	if err != nil {
		return nil, err
	}
	return find(passwd, groups, spec)
}

func find(passwd, groups, spec string) (*User, error) {
	name, group, hasGroup := strings.Cut(spec, ":")
	var uid, gid uint32
	home := "/"
	list := []uint32{}
	if e := entry(passwd, name, 7); e != nil {
		u, err := strconv.ParseUint(e[2], 10, 32)
		g, err2 := strconv.ParseUint(e[3], 10, 32)
		if err != nil || err2 != nil {
			return nil, ErrNoUser
		}
		uid, gid, home = uint32(u), uint32(g), e[5]
		if !hasGroup {
			list = memberships(groups, e[0], gid)
		}
	} else if n, err := strconv.ParseUint(name, 10, 32); err == nil {
		uid = uint32(n)
	} else {
		return nil, ErrNoUser
	}
	if hasGroup {
		n, err := strconv.ParseUint(group, 10, 32)
		if e := entry(groups, group, 4); e != nil {
			n, err = strconv.ParseUint(e[2], 10, 32)
		}
		if err != nil {
			return nil, ErrNoGroup
		}
		gid = uint32(n)
	}
	c, err := become(uid, gid, list)
	if err != nil {
		return nil, err
	}
	return &User{c, home}, nil
}

func become(uid, gid uint32, groups []uint32) (*cred.Cred, error) {
	c, err := cred.Root().SetGroups(groups)
	if err == nil {
		c, err = c.SetRESGID(gid, gid, gid)
	}
	if err == nil {
		c, err = c.SetRESUID(uid, uid, uid)
	}
	return c, err
}

// entry returns the fields of the line whose first or third field is key, nil when there is none with n fields.
func entry(text, key string, n int) []string {
	for line := range strings.SplitSeq(text, "\n") {
		if f := strings.Split(line, ":"); len(f) == n && f[0] != "" && (f[0] == key || f[2] == key) {
			return f
		}
	}
	return nil
}

// memberships returns the groups that list the user, gid among them.
func memberships(groups, user string, gid uint32) []uint32 {
	list := []uint32{gid}
	for line := range strings.SplitSeq(groups, "\n") {
		f := strings.Split(line, ":")
		if len(f) != 4 {
			continue
		}
		for member := range strings.SplitSeq(f[3], ",") {
			if n, err := strconv.ParseUint(f[2], 10, 32); err == nil && member == user && uint32(n) != gid {
				list = append(list, uint32(n))
			}
		}
	}
	return list
}

// readFile returns a file's text, "" when there is none: EFBIG.
func readFile(ctx *vfs.Context, name string) (string, error) {
	f, err := vfs.Open(ctx, ctx.Root, name, unix.O_RDONLY, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.DecRef()
	var text []byte
	b := make([]byte, 4096)
	for len(text) <= maxFile {
		dst := uio.Buffer(b)
		n, err := f.Read(&dst)
		if err != nil {
			return "", err
		}
		if n == 0 {
			return string(text), nil
		}
		text = append(text, b[:n]...)
	}
	return "", unix.EFBIG
}
