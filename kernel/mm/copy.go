package mm

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"

	"gosv/machine"
)

// resolve makes the page at va accessible, or fails with EFAULT. It is called after a
// copy stopped there; tries counts the calls without progress in between, so that a
// program whose threads fight over the page cannot keep the kernel busy for ever.
func (as *AddressSpace) resolve(va uint64, access machine.Access, tries *int) error {
	const enough = 1000
	if *tries++; *tries > enough || as.Fault(va, access) != nil {
		return unix.EFAULT
	}
	return nil
}

// CopyIn copies from the program's memory at va to dst. It returns the number of bytes
// copied, with EFAULT when that is not all.
func (as *AddressSpace) CopyIn(dst []byte, va uint64) (int, error) {
	done := as.space.CopyIn(dst, va)
	for tries := 0; done < len(dst); {
		if err := as.resolve(va+uint64(done), machine.Read, &tries); err != nil {
			return done, err
		}
		if n := as.space.CopyIn(dst[done:], va+uint64(done)); n > 0 {
			done, tries = done+n, 0
		}
	}
	return done, nil
}

// CopyOut copies src to the program's memory at va. It returns the number of bytes copied,
// with EFAULT when that is not all.
func (as *AddressSpace) CopyOut(va uint64, src []byte) (int, error) {
	done := as.space.CopyOut(va, src)
	for tries := 0; done < len(src); {
		if err := as.resolve(va+uint64(done), machine.Write, &tries); err != nil {
			return done, err
		}
		if n := as.space.CopyOut(va+uint64(done), src[done:]); n > 0 {
			done, tries = done+n, 0
		}
	}
	return done, nil
}

// Zero writes n zero bytes at va; EFAULT when it cannot write them all.
func (as *AddressSpace) Zero(va, n uint64) error {
	done := as.space.ZeroOut(va, n)
	for tries := 0; done < n; {
		if err := as.resolve(va+done, machine.Write, &tries); err != nil {
			return err
		}
		if k := as.space.ZeroOut(va+done, n-done); k > 0 {
			done, tries = done+k, 0
		}
	}
	return nil
}

// ReadString returns the string at va without its NUL. It looks at max bytes at most, and
// ok is false when there is no NUL among them. EFAULT.
func (as *AddressSpace) ReadString(va uint64, max int) (s string, ok bool, err error) {
	var small [256]byte
	long := small[:0]
	for len(long) < max {
		n := min(max-len(long), pageSize-int(va&pageMask), len(small))
		if cap(long)-len(long) < n {
			wide := make([]byte, len(long), min(4*cap(long), max+len(small)))
			copy(wide, long)
			long = wide
		}
		part := long[len(long) : len(long)+n]
		if _, err := as.CopyIn(part, va); err != nil {
			return "", false, err
		}
		if end := bytes.IndexByte(part, 0); end >= 0 {
			return string(long[:len(long)+end]), true, nil
		}
		long = long[:len(long)+n]
		va += uint64(n)
	}
	return "", false, nil
}

// Load32 reads a word; EFAULT, also when it is not aligned.
func (as *AddressSpace) Load32(va uint64) (uint32, error) {
	for tries := 0; ; {
		if v, ok := as.space.Load32(va); ok {
			return v, nil
		}
		if va%4 != 0 {
			return 0, unix.EFAULT
		}
		if err := as.resolve(va, machine.Read, &tries); err != nil {
			return 0, err
		}
	}
}

// Store32 writes a word; EFAULT, also when it is not aligned.
func (as *AddressSpace) Store32(va uint64, v uint32) error {
	for tries := 0; !as.space.Store32(va, v); {
		if va%4 != 0 {
			return unix.EFAULT
		}
		if err := as.resolve(va, machine.Write, &tries); err != nil {
			return err
		}
	}
	return nil
}

// CompareAndSwap32 replaces old by new and returns the value found, which equals
// old exactly when the swap happened; EFAULT, also when the word is not aligned.
func (as *AddressSpace) CompareAndSwap32(va uint64, old, new uint32) (found uint32, err error) {
	for tries := 0; ; {
		if found, ok := as.space.CompareAndSwap32(va, old, new); ok {
			return found, nil
		}
		if va%4 != 0 {
			return 0, unix.EFAULT
		}
		if err := as.resolve(va, machine.Write, &tries); err != nil {
			return 0, err
		}
	}
}

// Load64 reads a word, which need not be aligned; EFAULT.
func (as *AddressSpace) Load64(va uint64) (uint64, error) {
	if v, ok := as.space.Load64(va); ok {
		return v, nil
	}
	var b [8]byte
	_, err := as.CopyIn(b[:], va)
	return binary.LittleEndian.Uint64(b[:]), err
}

// Store64 writes a word, which need not be aligned; EFAULT.
func (as *AddressSpace) Store64(va uint64, v uint64) error {
	if as.space.Store64(va, v) {
		return nil
	}
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], v)
	_, err := as.CopyOut(va, b[:])
	return err
}
