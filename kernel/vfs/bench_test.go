package vfs_test

import (
	"testing"

	"golang.org/x/sys/unix"

	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/kernel/vfs/vfstest"
)

func BenchmarkStat(b *testing.B) {
	tr := vfstest.New(b)
	vfs.Mkdir(tr.Ctx, vfs.Path{}, "/tmp", 0o755)
	tr.Write(b, "/tmp/file", "x")
	var st unix.Stat_t
	for b.Loop() {
		vfs.Stat(tr.Ctx, vfs.Path{}, "/tmp/file", 0, &st)
	}
}

func BenchmarkOpenClose(b *testing.B) {
	tr := vfstest.New(b)
	vfs.Mkdir(tr.Ctx, vfs.Path{}, "/tmp", 0o755)
	tr.Write(b, "/tmp/file", "x")
	tab := vfs.NewFDTable()
	for b.Loop() {
		f, _ := vfs.Open(tr.Ctx, vfs.Path{}, "/tmp/file", 0, 0)
		fd, _ := tab.Install(f, 0, 0, 1024)
		tab.Close(fd)
	}
}

func BenchmarkPread4K(b *testing.B) {
	tr := vfstest.New(b)
	tr.Write(b, "/file", string(make([]byte, 65536)))
	f, _ := vfs.Open(tr.Ctx, vfs.Path{}, "/file", 0, 0)
	buf := make([]byte, 4096)
	for b.Loop() {
		dst := uio.Buffer(buf)
		f.Pread(&dst, 8192)
	}
	f.DecRef()
}

func BenchmarkCreateUnlink(b *testing.B) {
	tr := vfstest.New(b)
	vfs.Mkdir(tr.Ctx, vfs.Path{}, "/tmp", 0o755)
	for b.Loop() {
		f, _ := vfs.Open(tr.Ctx, vfs.Path{}, "/tmp/file", unix.O_CREAT|unix.O_WRONLY, 0o644)
		f.DecRef()
		vfs.Unlink(tr.Ctx, vfs.Path{}, "/tmp/file")
	}
}
