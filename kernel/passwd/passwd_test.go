package passwd

import (
	"slices"
	"testing"
)

const (
	users  = "root:x:0:0:root:/root:/bin/bash\nwww-data:x:33:33::/var/www:/bin/false\nbad:x:y:1::/:\nshort:x:1\n"
	groups = "root:x:0:\nwww-data:x:33:\nadm:x:4:syslog,www-data\nssl:x:110:www-data\n"
)

func TestFind(t *testing.T) {
	for _, c := range []struct {
		spec     string
		uid, gid uint32
		groups   []uint32
		home     string
	}{
		{"www-data", 33, 33, []uint32{4, 33, 110}, "/var/www"},
		{"33", 33, 33, []uint32{4, 33, 110}, "/var/www"},
		{"www-data:adm", 33, 4, nil, "/var/www"},
		{"1000", 1000, 0, nil, "/"},
		{"1000:1001", 1000, 1001, nil, "/"},
		{"root", 0, 0, []uint32{0}, "/root"},
	} {
		u, err := find(users, groups, c.spec)
		if err != nil {
			t.Errorf("%s: %v", c.spec, err)
			continue
		}
		got := slices.Clone(u.Cred.Groups)
		slices.Sort(got)
		if u.Cred.EUID != c.uid || u.Cred.FSGID != c.gid || !slices.Equal(got, c.groups) || u.Home != c.home {
			t.Errorf("%s: %+v, groups %v, home %s", c.spec, u.Cred, got, u.Home)
		}
		if root := u.Cred.Capable(0); root != (c.uid == 0) {
			t.Errorf("%s: capable %t", c.spec, root)
		}
	}
	for spec, want := range map[string]error{"nobody": ErrNoUser, "bad": ErrNoUser, "-1": ErrNoUser, "root:none": ErrNoGroup, "4294967296": ErrNoUser} {
		if _, err := find(users, groups, spec); err != want {
			t.Errorf("%s: %v", spec, err)
		}
	}
}

func FuzzFind(f *testing.F) {
	f.Add(users, groups, "www-data:adm")
	f.Fuzz(func(t *testing.T, users, groups, spec string) {
		if u, err := find(users, groups, spec); err == nil && u.Cred.EUID != 0 && u.Cred.Effective != 0 {
			t.Errorf("%q keeps capabilities", spec)
		}
	})
}
