package main

import (
	"bytes"
	"os"
	"path/filepath"
	"syscall"

	"gosv/image/cpio"
)

// guests are the programs that run in the machines, and the archives that hold
// them as /init: the same bytes for every kernel.
type guests struct {
	hello, hellodyn, lat, disk, tsckhz string // executables
	helloRoot, latRoot, diskRoot       string // newc archives
}

// buildGuests compiles bench/guest into dir.
func buildGuests(source, dir string) (guests, error) {
	g := guests{
		hello: filepath.Join(dir, "hello"), hellodyn: filepath.Join(dir, "hello-dyn"), lat: filepath.Join(dir, "lat"), disk: filepath.Join(dir, "disk"), tsckhz: filepath.Join(dir, "tsckhz"),
		helloRoot: filepath.Join(dir, "hello.cpio"), latRoot: filepath.Join(dir, "lat.cpio"), diskRoot: filepath.Join(dir, "disk.cpio"),
	}
	for _, b := range []struct{ out, source, link string }{
		{g.hello, "hello.c", "-static"}, {g.hellodyn, "hello.c", "-pie"}, {g.lat, "lat.c", "-static"}, {g.disk, "disk.c", "-static"}, {g.tsckhz, "tsckhz.c", "-static"},
	} {
		src, err := filepath.Abs(filepath.Join(source, b.source))
		if err != nil {
			return g, err
		}
		// Without the loop optimisation, copies stay the loops that they are in the source.
		if err := runIn(dir, "gcc", "-O2", "-g0", "-s", "-Wall", "-Wextra", "-fno-tree-loop-distribute-patterns", "-pthread", b.link, "-o", b.out, src); err != nil {
			return g, err
		}
	}
	for archive, program := range map[string]string{g.helloRoot: g.hello, g.latRoot: g.lat, g.diskRoot: g.disk} {
		if err := writeRoot(archive, program, nil, nil); err != nil {
			return g, err
		}
	}
	return g, nil
}

// writeRoot packs program as /init, and more files with their data. Linux needs /dev/console to give it its
// output.
func writeRoot(archive, program string, more []cpio.Header, contents [][]byte) error {
	data, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	w := cpio.NewWriter(&b)
	for _, h := range []cpio.Header{
		{Name: ".", Mode: syscall.S_IFDIR | 0o755},
		{Name: "dev", Mode: syscall.S_IFDIR | 0o755},
		{Name: "dev/console", Mode: syscall.S_IFCHR | 0o600, RMajor: 5, RMinor: 1},
		{Name: "dev/null", Mode: syscall.S_IFCHR | 0o666, RMajor: 1, RMinor: 3},
		{Name: "dev/zero", Mode: syscall.S_IFCHR | 0o666, RMajor: 1, RMinor: 5},
		{Name: "tmp", Mode: syscall.S_IFDIR | 0o1777},
		{Name: "init", Mode: syscall.S_IFREG | 0o755, Size: int64(len(data))},
	} {
		if err := w.Write(h, bytes.NewReader(data)); err != nil {
			return err
		}
	}
	for i, h := range more {
		if err := w.Write(h, bytes.NewReader(contents[i])); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return os.WriteFile(archive, b.Bytes(), 0o644)
}
