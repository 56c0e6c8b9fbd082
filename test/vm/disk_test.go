package vm

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestDisk reads a disk in the machine as a stream, and finds on the host what the machine wrote to it.
func TestDisk(t *testing.T) {
	for _, p := range []place{{"microvm", 1}, {"q35", 2}} {
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			text := make([]byte, 6<<20+512)
			noise(len(text))().Read(text)
			dir := t.TempDir()
			disk, fixed := filepath.Join(dir, "disk"), filepath.Join(dir, "fixed")
			for name, b := range map[string][]byte{disk: text, fixed: text[:1<<20]} {
				if err := os.WriteFile(name, b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			const script = `cat /dev/vda | md5sum
cat /dev/vdb | md5sum
(echo x > /dev/vdb) 2>/dev/null && echo "wrote to what is read-only"
dd if=/dev/zero of=/dev/vda bs=1000 seek=3 count=5 conv=notrunc,fsync status=none
echo end | dd of=/dev/vda bs=4096 seek=1000 conv=notrunc status=none
exit 3`
			o := run(t, job{program: "/bin/sh", args: []string{"-c", script}, flags: []string{
				"--disk", disk, "--disk", fixed + ",ro", "-v", "/usr/bin/md5sum:/usr/bin/md5sum", "-v", "/bin/cat:/bin/cat", "-v", "/bin/dd:/bin/dd"}}, p)
			var want strings.Builder
			for _, b := range [][]byte{text, text[:1<<20]} {
				sum := md5.Sum(b)
				want.WriteString(hex.EncodeToString(sum[:]) + "  -\n")
			}
			if o.status != 3 || o.stdout != want.String() {
				t.Fatalf("%v\nwant %s", o, want.String())
			}
			clear(text[3000:8000])
			copy(text[4096*1000:], "end\n")
			if got, err := os.ReadFile(disk); err != nil || !bytes.Equal(got, text) {
				t.Errorf("the disk is not what was written to it: %v", err)
			}
		})
	}
}
