package klog

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/kernel/vfs/vfstest"
	"gosv/kernel/wait"
)

func newLog() *Log {
	var at int64
	return New(func() int64 { at += 1_500_000_000; return at })
}

func TestSyslog(t *testing.T) {
	l := newLog()
	if b, err := l.Take(100); b != nil || err != unix.EAGAIN || l.Readiness(unix.POLLIN) != 0 {
		t.Errorf("%q, %v from an empty log", b, err)
	}
	var followed strings.Builder
	l.Add(Kernel, "one\ntwo\n")
	l.Follow(func(line string) { followed.WriteString(line) })
	l.Add(Program, "three")
	if followed.String() != "one\ntwo\nthree\n" {
		t.Errorf("%q", followed.String())
	}
	const all = "<6>[    1.500000] one\n<6>[    3.000000] two\n<12>[    4.500000] three\n"
	if got := string(l.Last(1000, false)); got != all {
		t.Errorf("%q", got)
	}
	if got := string(l.Last(50, false)); got != all[44-22:] {
		t.Errorf("%q", got)
	}
	if l.Unread() != len(all) {
		t.Error(l.Unread())
	}
	var taken []byte
	for l.Readiness(unix.POLLIN) != 0 {
		b, err := l.Take(7)
		if err != nil || len(b) == 0 || len(b) > 7 {
			t.Fatalf("%q, %v", b, err)
		}
		taken = append(taken, b...)
	}
	if string(taken) != all || l.Unread() != 0 {
		t.Errorf("%q, %d left", taken, l.Unread())
	}
	if got := string(l.Last(1000, true)); got != all {
		t.Errorf("%q", got)
	}
	l.Add(Kernel, "four")
	if got := string(l.Last(1000, false)); got != "<6>[    6.000000] four\n" {
		t.Errorf("%q", got)
	}
}

// TestCapacity: the log is bounded, and who reads slowly goes on at what is still there.
func TestCapacity(t *testing.T) {
	l := newLog()
	for i := range 10 * Capacity / recordCost {
		l.Add(Kernel, fmt.Sprint(i))
	}
	if l.size > Capacity || len(l.records) > Capacity/recordCost {
		t.Errorf("%d bytes in %d records", l.size, len(l.records))
	}
	b, err := l.Take(1 << 20)
	if err != nil || strings.Count(string(b), "\n") != len(l.records) || !strings.HasSuffix(string(b), fmt.Sprintf("] %d\n", 10*Capacity/recordCost-1)) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	l.Add(Kernel, strings.Repeat("x", 2*Capacity))
	if len(l.records) != 1 {
		t.Errorf("%d records", len(l.records))
	}
}

func TestDevice(t *testing.T) {
	tr := vfstest.New(t)
	l := newLog()
	tr.NS.AddDevice(unix.S_IFCHR, 1, 11, l.Open)
	if err := vfs.Mknod(tr.Ctx, vfs.Path{}, "/kmsg", unix.S_IFCHR|0o644, unix.Mkdev(1, 11), nil); err != nil {
		t.Fatal(err)
	}
	open := func() *vfs.File {
		f, err := vfs.Open(tr.Ctx, vfs.Path{}, "/kmsg", unix.O_RDWR|unix.O_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	read := func(f *vfs.File, want string, wantErr error) {
		t.Helper()
		buf := make([]byte, 100)
		b := uio.Buffer(buf)
		n, err := f.Read(&b)
		if string(buf[:n]) != want || err != wantErr {
			t.Errorf("%q, %v, want %q, %v", buf[:n], err, want, wantErr)
		}
	}
	f := open()
	read(f, "", unix.EAGAIN)
	const both = unix.POLLIN | unix.POLLOUT
	if got := f.Readiness(both); got != unix.POLLOUT {
		t.Errorf("%#x", got)
	}
	for _, s := range []string{"plain\n", "<3>bad \\ \xff", "<131>local", "<x>odd", "<"} {
		b := uio.Buffer(s)
		if n, err := f.Write(&b); int(n) != len(s) || err != nil {
			t.Error(n, err)
		}
	}
	b := uio.Buffer(make([]byte, longest+1))
	if _, err := f.Write(&b); err != unix.EINVAL {
		t.Error(err)
	}
	if got := f.Readiness(both); got != wait.Mask(both) {
		t.Errorf("%#x", got)
	}
	short := uio.Buffer(make([]byte, 3))
	if _, err := f.Read(&short); err != unix.EINVAL {
		t.Error(err)
	}
	for range 2 {
		read(f, "12,0,1500000,-;plain\n", nil)
		read(f, "11,1,3000000,-;bad \\x5c \\xff\n", nil)
		read(f, "131,2,4500000,-;local\n", nil)
		read(f, "12,3,6000000,-;<x>odd\n", nil)
		read(f, "12,4,7500000,-;<\n", nil)
		read(f, "", unix.EAGAIN)
		if _, err := f.Seek(0, unix.SEEK_SET); err != nil {
			t.Error(err)
		}
	}
	l.Clear()
	l.Add(Kernel, "after")
	for range 2 {
		if _, err := f.Seek(0, unix.SEEK_DATA); err != nil {
			t.Error(err)
		}
		read(f, "6,5,9000000,-;after\n", nil)
	}
	if _, err := f.Seek(0, unix.SEEK_END); err != nil {
		t.Error(err)
	}
	read(f, "", unix.EAGAIN)
	read(f, "", unix.EAGAIN)
	l.Add(Kernel, "late")
	read(f, "6,6,10500000,-;late\n", nil)
	for range 2 * Capacity / recordCost {
		l.Add(Kernel, "")
	}
	read(f, "", unix.EPIPE)
	read(f, fmt.Sprintf("6,%d,%d,-;\n", l.first, (l.first+1)*1_500_000), nil)
	f.DecRef()
	tr.Ctx.Cred = &cred.Cred{UID: 1, EUID: 1, FSUID: 1}
	if _, err := vfs.Open(tr.Ctx, vfs.Path{}, "/kmsg", unix.O_RDONLY, 0); err != unix.EPERM {
		t.Error(err)
	}
}
