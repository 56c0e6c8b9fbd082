package sha256

import (
	"bytes"
	"crypto/sha256"
	"testing"
)

// Every length up to three blocks, written in two pieces, gives the standard library's hash.
func TestAgainstStandardLibrary(t *testing.T) {
	text := make([]byte, 3*BlockSize)
	for i := range text {
		text[i] = byte(i * 7)
	}
	for n := range text {
		h := New()
		_, _ = h.Write(text[:n/3])
		_, _ = h.Write(text[n/3 : n])
		want := sha256.Sum256(text[:n])
		if got := h.Sum(nil); !bytes.Equal(got, want[:]) || !bytes.Equal(h.Sum(nil), got) {
			t.Fatalf("%d bytes: %x, want %x", n, got, want)
		}
	}
}
