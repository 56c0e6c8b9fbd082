package bootargs

import (
	"reflect"
	"testing"
)

func TestLine(t *testing.T) {
	for _, c := range []struct {
		line string
		path string
		argv []string
		env  []string
	}{
		{"", "/init", []string{"/init"}, nil},
		{"/bin/ls -l /", "/bin/ls", []string{"/bin/ls", "-l", "/"}, nil},
		{"console=ttyS0 quiet init=/a b", "/a", []string{"/a", "b"}, nil},
		{`/bin/sh A=1 -- -c "x=1; echo $x" root=/y /z virtio_mmio.device=1`, "/bin/sh", []string{"/bin/sh", "-c", "x=1; echo $x", "root=/y", "/z"}, []string{"A=1"}},
		{"X=1 /init LATMS=10 arg virtio_mmio.device=512@0xfeb00e00:12", "/init", []string{"/init", "arg"}, []string{"X=1", "LATMS=10"}},
	} {
		a, err := Parse(c.line, nil, false)
		if err != nil {
			t.Fatal(err)
		}
		if a.Path != c.path || !reflect.DeepEqual(a.Argv, c.argv) || !reflect.DeepEqual(a.Envp[len(defaultEnv):], append([]string{}, c.env...)) {
			t.Errorf("%q: %+v", c.line, a)
		}
	}
	if a, _ := Parse("virtio_mmio.device=512@0xfeb00e00:12 gosv.verbose gosv.strace", nil, false); len(a.Devices) != 1 || !a.Verbose || !a.Strace {
		t.Errorf("%+v", a)
	}
}

func TestRun(t *testing.T) {
	a, err := Parse("/ignored", []byte("exe=/bin/sh\x00arg=sh\x00arg=-c\x00arg=echo a=b\x00env=A=B=C\x00cwd=/tmp\x00strace=1\x00user=www:5\x00missing=1\x00"), false)
	if err != nil {
		t.Fatal(err)
	}
	want := &Args{Path: "/bin/sh", Argv: []string{"sh", "-c", "echo a=b"}, Envp: []string{"A=B=C"}, Dir: "/tmp", Hostname: "gosv", Strace: true, User: "www:5", Missing: true}
	if !reflect.DeepEqual(a, want) {
		t.Errorf("%+v", a)
	}
	for _, bad := range []string{"", "exe=/a", "exe\x00", "what=1\x00", "env=A=B\x00"} {
		if _, err := Parse("", []byte(bad), false); err == nil && bad != "" {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestMounts(t *testing.T) {
	a, err := Parse(`root=PARTLABEL=r rootfstype=erofs rootflags=x=1 ro gosv.overlay=tmpfs gosv.mount="/dev/vdb /a\040b ext4" gosv.verity="00ff 4096"`, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	want := &Args{
		Dir: "/", Hostname: "gosv", Root: &Mount{"PARTLABEL=r", "/", "erofs", "x=1,ro"}, Overlay: "tmpfs",
		Mounts: []Mount{{"/dev/vdb", "/a b", "ext4", ""}}, Verity: &Verity{Root: []byte{0, 0xff}, Offset: 4096},
	}
	if !reflect.DeepEqual(a, want) {
		t.Errorf("%+v", a)
	}
	if err := a.ParseRun([]byte("exe=/bin/x\x00mount=tag /mnt virtiofs ro\x00")); err != nil || a.Path != "/bin/x" || len(a.Mounts) != 2 {
		t.Errorf("%+v, %v", a, err)
	}
	if err := a.ParseRun([]byte("exe=/bin/x\x00root=initrd\x00")); err == nil {
		t.Error("a root's run file named a root")
	}
	a, err = Parse("root=/dev/vda init=/bin/sh -c", []byte("exe=/a\x00root=initrd auto ro,x\x00verity=00 0 /dev/vdb\x00"), false)
	if err != nil || *a.Root != (Mount{"initrd", "/", "", "ro,x"}) || a.Verity.Tree != "/dev/vdb" {
		t.Errorf("%+v, %v", a, err)
	}
	for _, bad := range []string{"root=\x00", "root=a b c d\x00", "mount=a b c\x00", "mount=a /b\x00", "verity=0\x00", "verity=xx\x00", "verity=00 -1\x00"} {
		if _, err := Parse("", []byte("exe=/a\x00"+bad), false); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("/init A=B x", []byte("exe=/a\x00"))
	f.Add("virtio_mmio.device=1", []byte("env=\x00arg=\x00"))
	f.Fuzz(func(t *testing.T, line string, run []byte) {
		if len(run) == 0 {
			run = nil
		}
		a, err := Parse(line, run, false)
		if err == nil && a.Root == nil && (a.Path == "" || len(a.Argv) == 0) {
			t.Errorf("nothing to run: %+v", a)
		}
	})
}
