package abi

import (
	"reflect"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// fill gives every named field of a structure its own value, so that two
// fields that a layout mixes up are seen.
func fill(v reflect.Value, next *uint64) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Field(i); f.CanSet() && v.Type().Field(i).Name != "_" {
				fill(f, next)
			}
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i), next)
		}
	case reflect.Int64, reflect.Int32, reflect.Int16, reflect.Int8:
		*next++
		v.SetInt(int64(*next))
	case reflect.Uint64, reflect.Uint32, reflect.Uint16, reflect.Uint8:
		*next++
		v.SetUint(*next)
	}
}

func filled[T any]() T {
	var x T
	n := uint64(0)
	fill(reflect.ValueOf(&x).Elem(), &n)
	return x
}

// host returns x as the host's own layout, which is Linux's.
func host[T any](x *T) []byte { return unsafe.Slice((*byte)(unsafe.Pointer(x)), unsafe.Sizeof(*x)) }

func testPut[T any](t *testing.T, name string, size int, put func([]byte, T)) {
	t.Helper()
	x := filled[T]()
	b := make([]byte, size)
	for i := range b {
		b[i] = 0xff
	}
	clear(b) // structures without padding need no clearing of their own
	put(b, x)
	if want := host(&x); string(want) != string(b) {
		t.Errorf("%s: got %x, want %x", name, b, want)
	}
}

func testGet[T comparable](t *testing.T, name string, get func([]byte) T) {
	t.Helper()
	x := filled[T]()
	if got := get(host(&x)); got != x {
		t.Errorf("%s: got %+v, want %+v", name, got, x)
	}
}

func ptr[T any](put func([]byte, *T)) func([]byte, T) {
	return func(b []byte, x T) { put(b, &x) }
}

func TestLayoutsAreThoseOfTheHost(t *testing.T) {
	testPut(t, "timespec", SizeofTimespec, PutTimespec)
	testPut(t, "timeval", SizeofTimeval, PutTimeval)
	testPut(t, "itimerspec", SizeofItimerspec, PutItimerspec)
	testPut(t, "itimerval", SizeofItimerval, PutItimerval)
	testPut(t, "tms", SizeofTms, PutTms)
	testPut(t, "stat", SizeofStat, ptr(PutStat))
	testPut(t, "statfs", SizeofStatfs, func(b []byte, s unix.Statfs_t) {
		PutStatfs(b, &s)
		copy(b[88:], host(&s)[88:]) // f_spare
	})
	testPut(t, "statx", SizeofStatx, func(b []byte, s unix.Statx_t) {
		PutStatx(b, &s)
		copy(b[160:], host(&s)[160:]) // newer than Linux 6.1
	})
	testPut(t, "pollfd", SizeofPollFd, PutPollFd)
	testPut(t, "flock", SizeofFlock, PutFlock)
	testPut(t, "sysinfo", SizeofSysinfo, func(b []byte, s unix.Sysinfo_t) {
		PutSysinfo(b, &s)
		le.PutUint16(b[82:], s.Pad)
	})
	testPut(t, "utsname", SizeofUtsname, ptr(PutUtsname))
	testPut(t, "rusage", SizeofRusage, ptr(PutRusage))
	testPut(t, "rlimit", SizeofRlimit, PutRlimit)
	testPut(t, "sched_attr", SizeofSchedAttr, PutSchedAttr)
	testPut(t, "cap data", SizeofCapUserData, PutCapUserData)

	testGet(t, "timespec", GetTimespec)
	testGet(t, "timeval", GetTimeval)
	testGet(t, "itimerspec", GetItimerspec)
	testGet(t, "itimerval", GetItimerval)
	testGet(t, "stat", GetStat)
	testGet(t, "pollfd", GetPollFd)
	testGet(t, "flock", GetFlock)
	testGet(t, "open_how", GetOpenHow)
	testGet(t, "rlimit", GetRlimit)
	testGet(t, "clone_args", GetCloneArgs)
	testGet(t, "robust_list_head", GetRobustListHead)
	testGet(t, "sched_attr", GetSchedAttr)
	testGet(t, "cap header", GetCapUserHeader)
	testGet(t, "cap data", GetCapUserData)
	testGet(t, "sigaction", GetSigAction)
}

// TestPackedEpollEvent uses the layout by hand: Go has no packed structures.
func TestPackedEpollEvent(t *testing.T) {
	b := make([]byte, SizeofEpollEvent)
	e := EpollEvent{Events: 0x01020304, Data: 0x1112131415161718}
	PutEpollEvent(b, e)
	want := unix.EpollEvent{Events: e.Events, Fd: 0x15161718, Pad: 0x11121314}
	if string(b) != string(host(&want)) {
		t.Errorf("got %x", b)
	}
	if GetEpollEvent(b) != e {
		t.Errorf("got %+v", GetEpollEvent(b))
	}
}

func TestTimeConversion(t *testing.T) {
	for _, c := range []struct {
		ns  int64
		sec int64
		sub int64
	}{{0, 0, 0}, {1, 0, 1}, {-1, -1, 999999999}, {1500000000, 1, 500000000}, {-1000000000, -1, 0}} {
		ts := NsecToTimespec(c.ns)
		if ts.Sec != c.sec || ts.Nsec != c.sub {
			t.Errorf("NsecToTimespec(%d) = %+v", c.ns, ts)
		}
		if tv := NsecToTimeval(c.ns); tv.Sec != c.sec || tv.Usec != c.sub/1000 {
			t.Errorf("NsecToTimeval(%d) = %+v", c.ns, tv)
		}
		if c.ns >= 0 && TimespecToNsec(ts) != c.ns {
			t.Errorf("TimespecToNsec(%+v) = %d", ts, TimespecToNsec(ts))
		}
	}
	if got := TimespecToNsec(unix.Timespec{Sec: 1 << 62}); got != maxNsec {
		t.Errorf("overflow gives %d", got)
	}
	if ValidTimespec(unix.Timespec{Nsec: 1e9}) || ValidTimespec(unix.Timespec{Sec: -1}) || !ValidTimespec(unix.Timespec{Nsec: 999999999}) {
		t.Error("ValidTimespec")
	}
}
