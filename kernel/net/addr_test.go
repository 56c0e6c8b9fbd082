package net

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestShortAddress: an address that is cut off anywhere is EINVAL, whatever it would have been.
func TestShortAddress(t *testing.T) {
	for _, test := range []struct{ socket, address, least int }{
		{unix.AF_INET, unix.AF_INET, sizeInet4}, {unix.AF_INET6, unix.AF_INET, sizeInet4}, {unix.AF_INET6, unix.AF_INET6, sizeInet6Old},
	} {
		whole := make([]byte, sizeInet6)
		whole[0] = byte(test.address)
		for n := range len(whole) + 1 {
			want := error(nil)
			if n < test.least {
				want = unix.EINVAL
			}
			if _, err := parseAddr(test.socket, whole[:n]); err != want {
				t.Errorf("%d bytes of family %d for a socket of %d: %v, not %v", n, test.address, test.socket, err, want)
			}
		}
	}
}
