package mm

import (
	"testing"

	"gosv/kernel/mem"
	"gosv/kernel/uio"
	"gosv/machine"
)

func uioBuffer(b []byte) uio.Buffer { return uio.Buffer(b) }

func mustPage(t testing.TB, c *mem.Cache, index uint64) machine.Frame {
	t.Helper()
	f, err := c.Page(index, false)
	if err != nil {
		t.Fatal(err)
	}
	c.Pool().Unref(f)
	return f
}
