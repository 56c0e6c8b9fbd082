package elfdeps

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// multiarch is Debian's directory for x86-64 libraries, below /lib and /usr/lib.
const multiarch = "x86_64-linux-gnu"

// glibcDirs is where glibc's loader looks last. Distributions differ in which of
// these are built in; none has two different libraries under one name there.
var glibcDirs = []string{"/lib/" + multiarch, "/usr/lib/" + multiarch, "/lib64", "/usr/lib64", "/lib", "/usr/lib"}

// muslDirs is where musl's loader looks when it has no path file.
var muslDirs = []string{"/lib", "/usr/local/lib", "/usr/lib"}

// muslOwn are the libraries that musl's loader is itself (ldso/dynlink.c,
// load_library).
var muslOwn = []string{"c", "pthread", "rt", "m", "dl", "util", "xnet"}

// loaded is an object on its way through the loader.
type loaded struct {
	*object
	path   string
	parent *loaded // whose DT_NEEDED brought it in; nil for the program
}

// libraries adds, breadth first, what main needs.
func (f *Finder) libraries(c *Closure, main *loaded, musl bool) error {
	have := map[string]bool{path.Base(c.Interpreter): true}
	for _, l := range c.Libraries {
		have[l.Name] = true
	}
	for queue := []*loaded{main}; len(queue) > 0; queue = queue[1:] {
		user := queue[0]
		for _, name := range user.Needed {
			if have[name] || musl && isMuslOwn(name) {
				continue
			}
			have[name] = true
			lib, err := f.find(name, user, musl)
			if err != nil {
				return err
			}
			if lib.Soname != "" {
				have[lib.Soname] = true
			}
			c.Libraries = append(c.Libraries, Library{Name: name, Path: lib.path})
			queue = append(queue, lib)
		}
	}
	return nil
}

// Library adds a library that nothing names in its headers but the program
// opens at run time, and what that one needs in turn. It reports false, without
// an error, when the directories of the libraries found so far have no such file.
func (f *Finder) Library(c *Closure, name string) (bool, error) {
	for _, l := range c.Libraries {
		if l.Name == name {
			return true, nil
		}
	}
	root := &loaded{object: &object{Needed: []string{name}}, path: c.Programs[0]}
	err := f.libraries(c, root, c.Musl())
	if errors.Is(err, ErrMissing) {
		return false, nil
	}
	return err == nil, err
}

func isMuslOwn(name string) bool {
	rest, ok := strings.CutPrefix(name, "lib")
	if !ok {
		return false
	}
	for _, own := range muslOwn {
		if strings.HasPrefix(rest, own+".") {
			return true
		}
	}
	return false
}

// find looks a DT_NEEDED name up as the loader does for user.
func (f *Finder) find(name string, user *loaded, musl bool) (*loaded, error) {
	if strings.Contains(name, "/") {
		full := expand(name, user.path)
		if lib := f.try(full, user); lib != nil && path.IsAbs(full) {
			return lib, nil
		}
		return nil, fmt.Errorf("%s, which %w", needs(user, full), ErrMissing)
	}
	dirs := f.glibcPath(user)
	if musl {
		dirs = f.muslPath(user)
	}
	for _, dir := range dirs {
		if !path.IsAbs(dir) {
			continue // relative to the working directory: not in the image
		}
		if lib := f.try(path.Join(dir, name), user); lib != nil {
			return lib, nil
		}
	}
	return nil, fmt.Errorf("%s, which %w: install the package that holds it, or name its directory in LD_LIBRARY_PATH",
		needs(user, name), ErrMissing)
}

// needs begins the complaint about a library that user wants.
func needs(user *loaded, name string) string {
	if user.parent == nil {
		return "needs the library " + name
	}
	return fmt.Sprintf("needs %s, which needs the library %s", user.path, name)
}

// try loads the library at full, or returns nil as the loader goes on to the
// next directory: not there, or made for another machine.
func (f *Finder) try(full string, user *loaded) *loaded {
	file, err := f.Root.Open(full)
	if err != nil {
		return nil
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil
	}
	o, err := parseELF(file, info.Size())
	if err != nil {
		return nil
	}
	return &loaded{object: o, path: full, parent: user}
}

// glibcPath is the search order of ld.so(8), without hardware capabilities.
func (f *Finder) glibcPath(user *loaded) []string {
	var dirs []string
	if len(user.Runpath) == 0 {
		for o := user; o != nil; o = o.parent {
			if len(o.Runpath) == 0 {
				dirs = append(dirs, expandAll(o.Rpath, o.path)...)
			}
		}
	}
	dirs = append(dirs, f.LibraryPath...)
	dirs = append(dirs, expandAll(user.Runpath, user.path)...)
	if user.NoDefault {
		return dirs
	}
	return append(append(dirs, f.ldSoConf()...), glibcDirs...)
}

// muslPath is the search order of musl: LD_LIBRARY_PATH, then the run paths of
// the object and of those that needed it, then the path file.
func (f *Finder) muslPath(user *loaded) []string {
	dirs := slices.Clone(f.LibraryPath)
	for o := user; o != nil; o = o.parent {
		paths := o.Rpath
		if len(o.Runpath) > 0 {
			paths = o.Runpath
		}
		dirs = append(dirs, expandAll(paths, o.path)...)
	}
	text, err := f.Root.ReadFile(MuslPathFile)
	if err != nil {
		return append(dirs, muslDirs...)
	}
	return append(dirs, strings.FieldsFunc(string(text), func(r rune) bool { return r == ':' || r == '\n' })...)
}

// MuslPathFile lists the directories that musl's loader searches.
const MuslPathFile = "/etc/ld-musl-x86_64.path"

func expandAll(paths []string, object string) []string {
	out := make([]string, 0, len(paths))
	for _, p := range paths {
		out = append(out, expand(p, object))
	}
	return out
}

// expand replaces the loader's dynamic string tokens (ld.so(8)).
func expand(s, object string) string {
	for _, token := range []struct{ name, value string }{
		{"ORIGIN", path.Dir(object)}, {"LIB", "lib/" + multiarch}, {"PLATFORM", "x86_64"},
	} {
		s = strings.ReplaceAll(s, "${"+token.name+"}", token.value)
		s = strings.ReplaceAll(s, "$"+token.name, token.value)
	}
	return s
}

func splitPaths(values []string) []string {
	var out []string
	for _, v := range values {
		for p := range strings.SplitSeq(v, ":") {
			if p != "" {
				out = append(out, p)
			}
		}
	}
	return out
}

// ldSoConf returns the directories that /etc/ld.so.conf lists, the ones that
// ldconfig(8) puts into the loader's cache.
func (f *Finder) ldSoConf() []string {
	if f.configured == nil {
		f.configured = f.readConf("/etc/ld.so.conf", 0)
		if f.configured == nil {
			f.configured = []string{}
		}
	}
	return f.configured
}

func (f *Finder) readConf(name string, depth int) []string {
	const maxDepth = 8
	text, err := f.Root.ReadFile(name)
	if err != nil || depth > maxDepth {
		return nil
	}
	var dirs []string
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		line, _, _ := strings.Cut(lines.Text(), "#")
		line = strings.TrimSpace(line)
		if pattern, ok := strings.CutPrefix(line, "include"); ok {
			for _, included := range f.glob(strings.TrimSpace(pattern), path.Dir(name)) {
				dirs = append(dirs, f.readConf(included, depth+1)...)
			}
			continue
		}
		if path.IsAbs(line) {
			dirs = append(dirs, line)
		}
	}
	return dirs
}

// glob expands a pattern in a file's name; the directory part is taken as is.
func (f *Finder) glob(pattern, dir string) []string {
	if !path.IsAbs(pattern) {
		pattern = path.Join(dir, pattern)
	}
	real, _, err := f.Root.Resolve(path.Dir(pattern))
	if err != nil {
		return nil
	}
	entries, err := os.ReadDir(f.Root.Host(real))
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		if ok, err := filepath.Match(path.Base(pattern), e.Name()); ok && err == nil {
			names = append(names, path.Join(real, e.Name()))
		}
	}
	return names
}
