package sysroot

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"syscall"
	"testing"
)

// tree makes a small root: values are contents, "->x" a link, "/" a directory.
func tree(t *testing.T, files map[string]string) Root {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		switch {
		case text == "/":
			err = os.MkdirAll(full, 0o755)
		case len(text) > 2 && text[:2] == "->":
			err = os.Symlink(text[2:], full)
		default:
			err = os.WriteFile(full, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return At(dir)
}

func TestResolve(t *testing.T) {
	r := tree(t, map[string]string{
		"usr/lib/libc.so":   "libc",
		"usr/lib/up.so":     "->../lib/libc.so",
		"lib":               "->usr/lib",
		"lib64":             "->/usr/lib",
		"etc/alt/pick":      "->/lib64/up.so",
		"usr/bin/tool":      "->../../../../../etc/alt/pick",
		"loop":              "->loop",
		"loop2/a":           "->../loop2/b",
		"loop2/b":           "->a",
		"dangling":          "->nowhere",
		"usr/lib/dir-slash": "->/usr/lib/",
	})
	tests := []struct {
		name, want string
		err        error
	}{
		{"/usr/lib/libc.so", "/usr/lib/libc.so", nil},
		{"lib/libc.so", "/usr/lib/libc.so", nil},
		{"/lib64/up.so", "/usr/lib/libc.so", nil},
		{"/usr/bin/tool", "/usr/lib/libc.so", nil},
		{"/lib/..", "/usr", nil},
		{"/lib/../lib/./libc.so", "/usr/lib/libc.so", nil},
		{"/../../usr", "/usr", nil},
		{"/", "/", nil},
		{"/usr/lib/dir-slash/libc.so", "/usr/lib/libc.so", nil},
		{"/loop", "", syscall.ELOOP},
		{"/loop2/a", "", syscall.ELOOP},
		{"/dangling", "", fs.ErrNotExist},
		{"/nothing/here", "", fs.ErrNotExist},
		{"/usr/lib/libc.so/x", "", syscall.ENOTDIR},
		{"/usr/lib/up.so/x", "", syscall.ENOTDIR},
	}
	for _, test := range tests {
		got, info, err := r.Resolve(test.name)
		if got != test.want || !errors.Is(err, test.err) {
			t.Errorf("Resolve(%q) = %q, %v; want %q, %v", test.name, got, err, test.want, test.err)
		}
		if err == nil && info == nil {
			t.Errorf("Resolve(%q): no information", test.name)
		}
	}
	if b, err := r.ReadFile("/usr/bin/tool"); err != nil || string(b) != "libc" {
		t.Errorf("ReadFile: %q, %v", b, err)
	}
	f, err := r.Open("/etc/alt/pick")
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

func TestWalkNamesEveryEntry(t *testing.T) {
	r := tree(t, map[string]string{
		"usr/lib/x/real.so": "x",
		"usr/lib/ld.so":     "->x/real.so",
		"lib64":             "->/usr/lib",
	})
	steps, err := r.Walk("/lib64/ld.so")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range steps {
		got = append(got, s.Path)
	}
	want := []string{"/lib64", "/usr", "/usr/lib", "/usr/lib/ld.so", "/usr/lib/x", "/usr/lib/x/real.so"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestMachineRoot(t *testing.T) {
	var r Root
	got, info, err := r.Resolve("/proc/self/..")
	if err != nil || got != "/proc" || !info.IsDir() {
		t.Errorf("%q, %v", got, err)
	}
}
