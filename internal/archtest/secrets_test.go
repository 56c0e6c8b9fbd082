package archtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"gosv/image/rootfs"
	"gosv/image/secrets"
)

// forTests are files with what only looks like a secret: those of the scanner's own tests.
var forTests = []string{"/image/secrets/secrets_test.go"}

// No file of the project looks like a credential.
func TestNoSecrets(t *testing.T) {
	out, err := exec.Command("git", "-C", root, "ls-files", "-z").Output()
	if err != nil {
		t.Skip("needs a git checkout")
	}
	top, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	tree := rootfs.New(rootfs.Options{})
	n := 0
	for name := range strings.SplitSeq(strings.TrimRight(string(out), "\x00"), "\x00") {
		full := filepath.Join(top, name)
		if info, err := os.Lstat(full); err != nil || !info.Mode().IsRegular() {
			continue
		}
		if err := tree.Copy(full, "/"+name); err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n < 100 {
		t.Fatalf("only %d files", n)
	}
	found, err := secrets.Scan(tree, func(int64) {})
	if err != nil {
		t.Fatal(err)
	}
next:
	for _, f := range found {
		for _, known := range forTests {
			if f.Path == known {
				continue next
			}
		}
		t.Errorf("%s: %s", f.Path, f.Why)
	}
}
