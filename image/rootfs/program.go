package rootfs

import (
	"fmt"
	"io/fs"

	"gosv/image/elfdeps"
)

// openedLibraries are what glibc opens at run time without naming it in its
// header: the name-service modules for the nsswitch.conf that Base writes (since
// glibc 2.34 they are part of libc), and the unwinder, for pthread_cancel(3)
// and pthread_exit(3). They need not exist.
var openedLibraries = []string{"libnss_files.so.2", "libnss_dns.so.2", "libgcc_s.so.1"}

// Program adds a program with its interpreter and libraries, all under the
// names that the source has them at, and what the C library's loader wants.
func (t *Tree) Program(f *elfdeps.Finder, name string) (*elfdeps.Closure, error) {
	c, err := f.Closure(name)
	if err != nil {
		return nil, err
	}
	if c.Interpreter != "" && !c.Musl() {
		for _, lib := range openedLibraries {
			if _, err := f.Library(c, lib); err != nil {
				return nil, err
			}
		}
	}
	for _, file := range c.Programs {
		if err := t.Import(file); err != nil {
			return nil, err
		}
	}
	if c.Interpreter == "" {
		return c, nil
	}
	if err := t.Import(c.Interpreter); err != nil {
		return nil, err
	}
	for _, lib := range c.Libraries {
		if err := t.Import(lib.Path); err != nil {
			return nil, err
		}
	}
	if !c.Musl() {
		return c, nil
	}
	if _, _, err := t.options.Source.Resolve(elfdeps.MuslPathFile); err == nil {
		return c, t.Import(elfdeps.MuslPathFile)
	}
	return c, nil
}

// Base adds the directories and the files in /etc that programs take for
// granted, where the tree does not have them yet.
func (t *Tree) Base(hostname string) error {
	dirs := []struct {
		name string
		perm fs.FileMode
	}{
		{"/dev", 0o755}, {"/etc", 0o755}, {"/proc", 0o555}, {"/root", 0o700}, {"/run", 0o755}, {"/sys", 0o555},
		{"/tmp", fs.ModeSticky | 0o777}, {"/var", 0o755}, {"/var/tmp", fs.ModeSticky | 0o777},
	}
	for _, d := range dirs {
		if n := t.nodes[d.name]; n != nil && !n.implied {
			continue
		}
		if err := t.Dir(d.name, d.perm); err != nil {
			return err
		}
	}
	files := []struct{ name, text string }{
		{"/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"},
		{"/etc/group", "root:x:0:\nnogroup:x:65534:\n"},
		{"/etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\nprotocols: files\nservices: files\n"},
		{"/etc/resolv.conf", ""},
		{"/etc/hosts", fmt.Sprintf("127.0.0.1\tlocalhost %s\n::1\tlocalhost %[1]s\n", hostname)},
		{"/etc/hostname", hostname + "\n"},
	}
	for _, f := range files {
		if t.Has(f.name) {
			continue
		}
		if err := t.File(f.name, 0o644, []byte(f.text)); err != nil {
			return err
		}
	}
	if _, info, err := t.options.Source.Resolve("/etc/localtime"); err == nil && info.Mode().IsRegular() && !t.Has("/etc/localtime") {
		return t.Copy("/etc/localtime", "/etc/localtime")
	}
	return nil
}

// LoaderCache adds an ld.so.cache for the glibc programs in the tree, which
// spares their loader the search and covers directories that only the host's
// own cache knew.
func (t *Tree) LoaderCache(programs []*elfdeps.Closure) error {
	var libs []elfdeps.Library
	seen := map[string]bool{}
	for _, c := range programs {
		if c.Interpreter == "" || c.Musl() {
			continue
		}
		for _, lib := range c.Libraries {
			if !seen[lib.Name] {
				seen[lib.Name] = true
				libs = append(libs, lib)
			}
		}
	}
	if len(libs) == 0 || t.Has("/etc/ld.so.cache") {
		return nil
	}
	return t.File("/etc/ld.so.cache", 0o644, elfdeps.Cache(libs))
}
