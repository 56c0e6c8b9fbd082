package apps

import (
	"bufio"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// debian is a root file system made by mkroot, and what dpkg knows about it.
type debian struct {
	dir      string
	needs    map[string][]string // package: those it depends on, as far as they are installed
	provides map[string][]string // name: packages that stand for it
	owners   map[string][]string // file, by its name without symbolic links in its directory: packages
	loose    []string            // files that no package owns
}

// open reads dpkg's records in dir.
func open(dir string) (*debian, error) {
	d := &debian{dir: dir, needs: map[string][]string{}, provides: map[string][]string{}, owners: map[string][]string{}}
	if err := d.readStatus(); err != nil {
		return nil, err
	}
	if err := d.readLists(); err != nil {
		return nil, err
	}
	return d, d.findLoose()
}

// readStatus reads which packages there are and what they depend on (deb822(5)).
func (d *debian) readStatus() error {
	f, err := os.Open(filepath.Join(d.dir, "var/lib/dpkg/status"))
	if err != nil {
		return err
	}
	defer f.Close()
	name := ""
	in := bufio.NewScanner(f)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		key, value, ok := strings.Cut(in.Text(), ": ")
		switch {
		case !ok:
		case key == "Package":
			name = value
			d.provides[name] = append(d.provides[name], name)
			d.needs[name] = nil
		case key == "Provides":
			for _, p := range relation(value) {
				d.provides[p] = append(d.provides[p], name)
			}
		case key == "Depends" || key == "Pre-Depends":
			d.needs[name] = append(d.needs[name], relation(value)...)
		}
	}
	return in.Err()
}

// relation returns the names in a list of dependencies, alternatives too: those
// that are not installed do no harm.
func relation(s string) (names []string) {
	for _, alternative := range strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == '|' }) {
		name, _, _ := strings.Cut(strings.TrimSpace(alternative), " ")
		name, _, _ = strings.Cut(name, ":")
		names = append(names, name)
	}
	return names
}

// readLists reads which files the packages own.
func (d *debian) readLists() error {
	lists, err := filepath.Glob(filepath.Join(d.dir, "var/lib/dpkg/info/*.list"))
	if err != nil {
		return err
	}
	dirs := map[string]string{}
	for _, list := range lists {
		name, _, _ := strings.Cut(strings.TrimSuffix(filepath.Base(list), ".list"), ":")
		b, err := os.ReadFile(list)
		if err != nil {
			return err
		}
		for _, file := range strings.Fields(string(b)) {
			file = d.real(file, dirs)
			d.owners[file] = append(d.owners[file], name)
		}
	}
	return nil
}

// real resolves the links in a file's directory: /bin is /usr/bin.
func (d *debian) real(file string, dirs map[string]string) string {
	dir, base := filepath.Split(file)
	dir = filepath.Clean(dir)
	real, ok := dirs[dir]
	if !ok {
		real = dir
		if r, err := filepath.EvalSymlinks(filepath.Join(d.dir, dir)); err == nil {
			if rel, err := filepath.Rel(d.dir, r); err == nil && !strings.HasPrefix(rel, "..") {
				real = filepath.Join("/", rel)
			}
		}
		dirs[dir] = real
	}
	return filepath.Join(real, base)
}

// unwanted is what no program needs in a test. What the tests themselves put into /apps, machines get by name.
var unwanted = []string{
	"/apps", "/boot", "/dev", "/proc", "/sys", "/tmp", "/usr/share/doc", "/usr/share/man", "/usr/share/info", "/usr/share/locale", "/usr/share/i18n",
	"/usr/share/lintian", "/usr/share/bug", "/var/cache", "/var/lib/apt", "/var/lib/dpkg", "/var/lib/mysql", "/var/lib/postgresql", "/var/log",
	"/etc/ssl/certs",
}

// findLoose lists the files that installing made: links of alternatives, users,
// the loader's cache. Byte code of Python counts as its source's.
func (d *debian) findLoose() error {
	return filepath.WalkDir(d.dir, func(host string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := filepath.Join("/", strings.TrimPrefix(host, d.dir))
		if slices.Contains(unwanted, name) {
			return filepath.SkipDir
		}
		switch {
		case e.IsDir() || d.owners[name] != nil:
		case filepath.Base(filepath.Dir(name)) == "__pycache__":
			module, _, _ := strings.Cut(filepath.Base(name), ".")
			d.owners[name] = d.owners[filepath.Join(filepath.Dir(filepath.Dir(name)), module+".py")]
		default:
			d.loose = append(d.loose, name)
		}
		return nil
	})
}

// files returns what a machine for the packages holds: their files, those of the
// packages they depend on, and the loose ones. Directories are in it too.
func (d *debian) files(packages []string) ([]string, error) {
	in := map[string]bool{}
	var add func(name string)
	add = func(name string) {
		for _, p := range d.provides[name] {
			if !in[p] {
				in[p] = true
				for _, n := range d.needs[p] {
					add(n)
				}
			}
		}
	}
	for _, p := range append([]string{"base-files", "base-passwd", "bash", "dash", "coreutils", "mawk", "grep", "sed", "procps", "libc-bin", "debianutils"}, packages...) {
		if d.provides[p] == nil {
			return nil, fmt.Errorf("package %s is not installed in %s", p, d.dir)
		}
		add(p)
	}
	list := slices.Clone(d.loose)
	for file, owners := range d.owners {
		if slices.ContainsFunc(owners, func(p string) bool { return in[p] }) && !slices.ContainsFunc(unwanted, func(u string) bool { return strings.HasPrefix(file, u+"/") }) {
			list = append(list, file)
		}
	}
	slices.Sort(list)
	return list, nil
}

// What tests have built into the system does not make the machines of others larger.
func TestLoose(t *testing.T) {
	d := &debian{dir: t.TempDir(), owners: map[string][]string{"/etc/passwd": {"base-passwd"}}}
	for _, name := range []string{"etc/passwd", "etc/alternatives/awk", "apps/etcd", "tmp/x"} {
		file := filepath.Join(d.dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.findLoose(); err != nil || !slices.Equal(d.loose, []string{"/etc/alternatives/awk"}) {
		t.Error(d.loose, err)
	}
}
