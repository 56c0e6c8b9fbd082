package cred

import (
	"testing"

	"golang.org/x/sys/unix"
)

func user(id uint32) *Cred {
	return &Cred{UID: id, EUID: id, SUID: id, FSUID: id, GID: id, EGID: id, SGID: id, FSGID: id, Bounding: AllCaps}
}

func TestSetUID(t *testing.T) {
	c, err := Root().SetUID(1000)
	if err != nil || c.UID != 1000 || c.SUID != 1000 || c.FSUID != 1000 || c.Effective != 0 || c.Permitted != 0 {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := c.SetUID(0); err != unix.EPERM {
		t.Error(err)
	}
	if _, err := c.SetUID(Keep); err != unix.EINVAL {
		t.Error(err)
	}
	// A set-user-ID program gives up and takes back its privilege.
	s, _ := user(1000).Exec(unix.S_IFREG|unix.S_ISUID|0o755, 0, 0, false)
	down, err := s.SetRESUID(Keep, 1000, Keep)
	if err != nil || down.Effective != 0 || down.Permitted != AllCaps {
		t.Errorf("%+v, %v", down, err)
	}
	up, err := down.SetREUID(Keep, 0)
	if err != nil || up.Effective != AllCaps {
		t.Errorf("%+v, %v", up, err)
	}
	if Root().Effective != AllCaps || Root().UID != 0 {
		t.Error("a Cred was changed")
	}
}

func TestKeepCaps(t *testing.T) {
	c, _ := Root().SetKeepCaps(true)
	c, err := c.SetRESUID(5, 5, 5)
	if err != nil || c.Permitted != AllCaps || c.Effective != 0 {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestExec(t *testing.T) {
	const reg = unix.S_IFREG | 0o755
	for _, x := range []struct {
		what   string
		c      *Cred
		mode   uint32
		nosuid bool
		euid   uint32
		egid   uint32
		caps   Cap
		secure bool
	}{
		{"user", user(7), reg, false, 7, 7, 0, false},
		{"setuid", user(7), reg | unix.S_ISUID, false, 0, 7, AllCaps, true},
		{"setgid", user(7), reg | unix.S_ISGID, false, 7, 0, 0, true},
		{"setgid without execution", user(7), unix.S_IFREG | unix.S_ISGID | 0o705, false, 7, 7, 0, false},
		{"setuid on nosuid", user(7), reg | unix.S_ISUID, true, 7, 7, 0, false},
		{"setuid with no_new_privs", user(7).SetNoNewPrivs(), reg | unix.S_ISUID, false, 7, 7, 0, false},
		{"root", Root(), reg, false, 0, 0, AllCaps, false},
	} {
		n, secure := x.c.Exec(x.mode, 0, 0, x.nosuid)
		if n.EUID != x.euid || n.SUID != x.euid || n.FSUID != x.euid || n.EGID != x.egid || n.Effective != x.caps || secure != x.secure {
			t.Errorf("%s: %+v, secure %v", x.what, n, secure)
		}
	}
	if n, _ := Root().Exec(reg, 0, 0, false); n != Root() {
		t.Error("an exec that changes nothing made a new Cred")
	}
}

func TestCaps(t *testing.T) {
	c, err := Root().SetCaps(1, 3, 0)
	if err != nil || c.Effective != 1 || c.Permitted != 3 {
		t.Errorf("%+v, %v", c, err)
	}
	for _, x := range [][3]Cap{{4, 3, 0}, {1, 7, 0}, {0, 0, 8}} {
		if _, err := c.SetCaps(x[0], x[1], x[2]); err != unix.EPERM {
			t.Errorf("SetCaps%v: %v", x, err)
		}
	}
	if _, err := Root().RaiseAmbient(unix.CAP_KILL); err != unix.EPERM {
		t.Error("ambient without inheritable:", err)
	}
	i, _ := Root().SetCaps(AllCaps, AllCaps, AllCaps)
	a, err := i.RaiseAmbient(unix.CAP_KILL)
	if err != nil || !a.Ambient.Has(unix.CAP_KILL) {
		t.Error(err)
	}
}

func TestGroups(t *testing.T) {
	c, err := Root().SetGroups([]uint32{30, 10, 20})
	if err != nil || !c.InGroup(20) || !c.InGroup(0) || c.InGroup(5) {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := user(1).SetGroups(nil); err != unix.EPERM {
		t.Error(err)
	}
}

func TestFSUID(t *testing.T) {
	c := Root().SetFSUID(5)
	if c.FSUID != 5 || c.Capable(unix.CAP_DAC_OVERRIDE) || !c.Capable(unix.CAP_SYS_ADMIN) {
		t.Errorf("%+v", c)
	}
	if c = c.SetFSUID(0); c.Effective != AllCaps {
		t.Errorf("%+v", c)
	}
	u := user(5)
	if u.SetFSUID(0) != u {
		t.Error("a user became root")
	}
}

func TestRealView(t *testing.T) {
	s, _ := user(1000).Exec(unix.S_IFREG|unix.S_ISUID|0o755, 0, 0, false)
	if r := s.RealView(); r.FSUID != 1000 || r.Effective != 0 {
		t.Errorf("%+v", r)
	}
	if Root().RealView() != Root() {
		t.Error("root's view differs")
	}
}

func TestSecurebits(t *testing.T) {
	c, err := Root().SetSecurebits(SecureNoRoot | SecureNoRoot<<1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.SetSecurebits(0); err != unix.EPERM {
		t.Error(err)
	}
	if n, _ := c.Exec(unix.S_IFREG|0o755, 0, 0, false); n.Effective != 0 {
		t.Errorf("%+v", n)
	}
}
