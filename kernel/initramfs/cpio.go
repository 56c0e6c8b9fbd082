package initramfs

import (
	"errors"

	"gosv/kernel/vfs"
)

// A reader gives the bytes of an archive.
type reader interface {
	// next returns the next n bytes, which stay valid until the next call; ErrTruncated when there are fewer.
	next(n int) ([]byte, error)
	// offset is the number of bytes given so far, counted from a multiple of 4.
	offset() int64
}

// inPlace reads an archive that lies in memory.
type inPlace struct {
	b   []byte
	pos int
}

func (r *inPlace) next(n int) ([]byte, error) {
	if len(r.b)-r.pos < n {
		return nil, ErrTruncated
	}
	r.pos += n
	return r.b[r.pos-n : r.pos], nil
}

func (r *inPlace) offset() int64 { return int64(r.pos) }

// stream reads an archive out of something that gives bytes as it likes.
type stream struct {
	read func([]byte) (int, error) // (0, errEnd) at the end
	buf  []byte                    // not yet given
	room []byte
	pos  int64
}

var errEnd = errors.New("end")

func (r *stream) next(n int) ([]byte, error) {
	if err := r.want(n); err != nil {
		return nil, err
	}
	b := r.buf[:n]
	r.buf = r.buf[n:]
	r.pos += int64(n)
	return b, nil
}

// want makes at least n bytes wait in buf.
func (r *stream) want(n int) error {
	if len(r.buf) >= n {
		return nil
	}
	if len(r.room) < n {
		r.room = make([]byte, max(n, 2*maxChunk))
	}
	have := copy(r.room, r.buf)
	for have < n {
		m, err := r.read(r.room[have:])
		have += m
		if err == errEnd && m == 0 {
			r.buf = r.room[:have]
			return ErrTruncated
		}
		if err != nil && err != errEnd {
			return err
		}
	}
	r.buf = r.room[:have]
	return nil
}

// skipZeros passes over what stands between archives: errEnd when nothing follows.
func (r *stream) skipZeros() error {
	for {
		if err := r.want(1); err == ErrTruncated {
			return errEnd
		} else if err != nil {
			return err
		}
		if r.buf[0] != 0 {
			return nil
		}
		r.buf = r.buf[1:]
		r.pos++
	}
}

func (r *stream) offset() int64 { return r.pos }

// maxChunk is the most of a file's contents that is asked for at once.
const maxChunk = 64 << 10

// eachChunk calls f with n bytes in pieces.
func eachChunk(r reader, n int64, f func(b []byte, off int64) error) error {
	for off := int64(0); off < n; {
		b, err := r.next(int(min(n-off, maxChunk)))
		if err != nil {
			return err
		}
		if err := f(b, off); err != nil {
			return err
		}
		off += int64(len(b))
	}
	return nil
}

// header is what stands before each file (cpio(5), "New ASCII Format").
type header struct {
	ino, mode, uid, gid, nlink uint32
	mtime                      int64 // ns
	size                       uint32
	major, minor               uint32
	rdevMajor, rdevMinor       uint32
	check                      uint32
	summed                     bool  // check is the sum of the data's bytes
	done                       int64 // bytes of the data that were taken already
}

const (
	headerSize = 110
	trailer    = "TRAILER!!!"
	// maxName is a path and the zeros behind it that move the data to a page boundary.
	maxName = vfs.PathMax + 4096
)

// padding returns how many bytes are missing to a multiple of 4.
func padding(n int64) int { return int(-n & 3) }

// readHeader reads a header and the name behind it.
func readHeader(r reader) (h header, name string, err error) {
	start := r.offset()
	b, err := r.next(headerSize)
	if err != nil {
		return h, "", err
	}
	if string(b[:5]) != "07070" || b[5] != '1' && b[5] != '2' {
		return h, "", ErrFormat
	}
	var v [13]uint32
	for i := range v {
		n, ok := hex(b[6+8*i : 14+8*i])
		if !ok {
			return h, "", ErrFormat
		}
		v[i] = n
	}
	h = header{
		ino: v[0], mode: v[1], uid: v[2], gid: v[3], nlink: v[4], mtime: int64(v[5]) * 1e9, size: v[6],
		major: v[7], minor: v[8], rdevMajor: v[9], rdevMinor: v[10], check: v[12], summed: b[5] == '2',
	}
	length := int(v[11])
	if length == 0 || length > maxName {
		return h, "", ErrFormat
	}
	n, err := r.next(length)
	if err != nil {
		return h, "", err
	}
	name = cString(n)
	if len(name) >= vfs.PathMax {
		return h, "", ErrFormat
	}
	if name == trailer {
		// What stands behind it is zeros, if anything.
		return h, name, nil
	}
	_, err = r.next(padding(r.offset() - start))
	return h, name, err
}

// hex reads eight hexadecimal digits.
func hex(b []byte) (v uint32, ok bool) {
	for _, c := range b {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		v = v<<4 | uint32(c)
	}
	return v, true
}
