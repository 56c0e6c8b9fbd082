package abi

import "golang.org/x/sys/unix"

// Sizes of the structures for time.
const (
	SizeofTimespec   = 16
	SizeofTimeval    = 16
	SizeofItimerspec = 32
	SizeofItimerval  = 32
	SizeofTms        = 32
)

// PutTimespec writes struct timespec.
func PutTimespec(b []byte, t unix.Timespec) {
	b = b[:SizeofTimespec]
	put64(b, 0, uint64(t.Sec))
	put64(b, 8, uint64(t.Nsec))
}

// GetTimespec reads struct timespec.
func GetTimespec(b []byte) unix.Timespec {
	b = b[:SizeofTimespec]
	return unix.Timespec{Sec: int64(get64(b, 0)), Nsec: int64(get64(b, 8))}
}

// PutTimeval writes struct timeval.
func PutTimeval(b []byte, t unix.Timeval) {
	b = b[:SizeofTimeval]
	put64(b, 0, uint64(t.Sec))
	put64(b, 8, uint64(t.Usec))
}

// GetTimeval reads struct timeval.
func GetTimeval(b []byte) unix.Timeval {
	b = b[:SizeofTimeval]
	return unix.Timeval{Sec: int64(get64(b, 0)), Usec: int64(get64(b, 8))}
}

// Itimerspec is struct itimerspec.
type Itimerspec struct{ Interval, Value unix.Timespec }

// PutItimerspec writes struct itimerspec.
func PutItimerspec(b []byte, t Itimerspec) {
	b = b[:SizeofItimerspec]
	PutTimespec(b, t.Interval)
	PutTimespec(b[16:], t.Value)
}

// GetItimerspec reads struct itimerspec.
func GetItimerspec(b []byte) Itimerspec {
	b = b[:SizeofItimerspec]
	return Itimerspec{GetTimespec(b), GetTimespec(b[16:])}
}

// PutItimerval writes struct itimerval.
func PutItimerval(b []byte, t unix.Itimerval) {
	b = b[:SizeofItimerval]
	PutTimeval(b, t.Interval)
	PutTimeval(b[16:], t.Value)
}

// GetItimerval reads struct itimerval.
func GetItimerval(b []byte) unix.Itimerval {
	b = b[:SizeofItimerval]
	return unix.Itimerval{Interval: GetTimeval(b), Value: GetTimeval(b[16:])}
}

// PutTms writes struct tms, in clock ticks.
func PutTms(b []byte, t unix.Tms) {
	b = b[:SizeofTms]
	put64(b, 0, uint64(t.Utime))
	put64(b, 8, uint64(t.Stime))
	put64(b, 16, uint64(t.Cutime))
	put64(b, 24, uint64(t.Cstime))
}

// NsecToTimespec splits nanoseconds; Nsec is never negative.
func NsecToTimespec(ns int64) unix.Timespec {
	s, n := floorDiv(ns, 1e9)
	return unix.Timespec{Sec: s, Nsec: n}
}

// NsecToTimeval splits nanoseconds and drops what is below a microsecond.
func NsecToTimeval(ns int64) unix.Timeval {
	s, n := floorDiv(ns, 1e9)
	return unix.Timeval{Sec: s, Usec: n / 1000}
}

func floorDiv(a, b int64) (q, r int64) {
	q, r = a/b, a%b
	if r < 0 {
		q, r = q-1, r+b
	}
	return q, r
}

// ValidTimespec reports whether t is a span that Linux takes (timespec64_valid).
func ValidTimespec(t unix.Timespec) bool {
	return t.Sec >= 0 && t.Nsec >= 0 && t.Nsec < 1e9
}

// ValidTimeval reports whether t is a span that Linux takes.
func ValidTimeval(t unix.Timeval) bool {
	return t.Sec >= 0 && t.Usec >= 0 && t.Usec < 1e6
}

const maxNsec = 1<<63 - 1

// TimespecToNsec joins a valid timespec; what does not fit becomes the largest
// int64, 292 years, as in Linux (KTIME_MAX).
func TimespecToNsec(t unix.Timespec) int64 {
	if t.Sec >= maxNsec/1_000_000_000 {
		return maxNsec
	}
	return t.Sec*1e9 + t.Nsec
}

// TimevalToNsec joins a valid timeval as TimespecToNsec does.
func TimevalToNsec(t unix.Timeval) int64 {
	if t.Sec >= maxNsec/1_000_000_000 {
		return maxNsec
	}
	return t.Sec*1e9 + t.Usec*1000
}
