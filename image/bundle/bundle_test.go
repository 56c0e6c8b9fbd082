package bundle

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gosv/image/elfdeps"
)

// write makes files below a new folder.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestKindOf(t *testing.T) {
	dir := write(t, map[string]string{"gosv.yaml": "program: x\n", "x.tar": strings.Repeat("x", 600), "layout/oci-layout": "{}", "prog": "\x7fELF"})
	for name, want := range map[string]Kind{".": Folder, "gosv.yaml": Recipe, "x.tar": Archive, "layout": Archive, "prog": Program, "nothing": Program} {
		if got := KindOf(filepath.Join(dir, name)); got != want {
			t.Errorf("%s: %d, want %d", name, got, want)
		}
	}
}

// A recipe adds files and has the last word.
func TestRecipe(t *testing.T) {
	dir := write(t, map[string]string{
		"root/bin/app": "\x7fELF", "root/etc/passwd": "web:x:33:34::/srv:\n", "conf/a": "a", "conf/sub/b": "b",
		"gosv.yaml": "root: ./root\nargs: [app, x]\nfiles:\n  /etc/conf: ./conf\nuser: web\nenv: {A: b}\nvolumes: [/data]\nread-only: true\n",
	})
	b, err := Open(Recipe, filepath.Join(dir, "gosv.yaml"), nil, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	run, err := b.Run()
	if err != nil {
		t.Fatal(err)
	}
	if run.Exe != "/bin/app" || run.User != "web" || !slices.Contains(run.Env, "A=b") || !slices.Contains(run.Env, "HOME=/srv") || !slices.Equal(run.Args, []string{"app", "x"}) {
		t.Errorf("%+v", run)
	}
	if !b.Tree.Has("/etc/conf/sub/b") || !b.Tree.Has("/proc") || !slices.Equal(b.Spec.Scratch, []string{"/tmp", "/run", "/data"}) {
		t.Errorf("%+v", b.Spec)
	}
	b2, err := Open(Recipe, filepath.Join(dir, "gosv.yaml"), []string{"app", "other"}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b2.Close()
	if run, err := b2.Run(); err != nil || !slices.Equal(run.Args, []string{"app", "other"}) {
		t.Errorf("%+v, %v", run, err)
	}
}

func TestRunRefuses(t *testing.T) {
	dir := write(t, map[string]string{"bin/app": "\x7fELF", "etc/passwd": "web:x:33:34::/srv:\n", "etc/group": "staff:x:50:\n"})
	for _, test := range []struct {
		args []string
		user string
		want string
		is   error
	}{
		{nil, "", "which program", nil}, {[]string{"app"}, "nix", "user nix", nil}, {[]string{"app"}, "web:nix", "group nix", nil},
		{[]string{"gone"}, "", "no such program", elfdeps.ErrNotFound}, {[]string{"/etc"}, "", "permission denied", elfdeps.ErrNotExecutable},
		{[]string{"app"}, "web:staff", "", nil}, {[]string{"app"}, "33:50", "", nil}, {[]string{"app"}, "4711", "", nil}, {[]string{"bin/app"}, "", "", nil},
	} {
		b, err := Open(Folder, dir, test.args, Options{})
		if err != nil {
			t.Fatal(err)
		}
		b.Spec.User = test.user
		_, err = b.Run()
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) || test.is != nil && !errors.Is(err, test.is) {
			t.Errorf("%q as %q: %v, want %q", test.args, test.user, err, test.want)
		}
		b.Close()
	}
}

func TestMergeEnv(t *testing.T) {
	if got := MergeEnv([]string{"A=1", "B=2"}, []string{"B=3", "AB=4"}); !slices.Equal(got, []string{"A=1", "B=3", "AB=4"}) {
		t.Error(got)
	}
	if got := MergeEnv([]string{"C=0", "C=1"}, []string{"A=1", "B=2", "A=3"}); !slices.Equal(got, []string{"C=1", "B=2", "A=3"}) {
		t.Error(got)
	}
}
