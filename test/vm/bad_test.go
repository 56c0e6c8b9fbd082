package vm

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gosv/image/cpio"
)

// spoilt are programs that cannot be run, made from one that can.
func spoilt(t *testing.T) map[string][]byte {
	t.Helper()
	static := read(t, guestPath("hello.static"))
	dynamic := read(t, guestPath("hello.dyn"))
	change := func(b []byte, f func(b []byte)) []byte {
		b = bytes.Clone(b)
		f(b)
		return b
	}
	// header returns the program header of a type.
	header := func(b []byte, kind elf.ProgType) []byte {
		off := binary.LittleEndian.Uint64(b[32:])
		for i := range uint64(binary.LittleEndian.Uint16(b[56:])) {
			if p := b[off+56*i:]; binary.LittleEndian.Uint32(p) == uint32(kind) {
				return p
			}
		}
		t.Fatalf("no program header of type %v", kind)
		return nil
	}
	le := binary.LittleEndian
	return map[string][]byte{
		"empty":              {},
		"one_byte":           {0x7f},
		"text":               []byte("this is no program\n"),
		"truncated_header":   static[:40],
		"truncated_phdrs":    static[:100],
		"truncated_segments": static[:8192],
		"machine_arm":        change(static, func(b []byte) { le.PutUint16(b[18:], uint16(elf.EM_AARCH64)) }),
		"class_32":           change(static, func(b []byte) { b[4] = 1 }),
		"big_endian":         change(static, func(b []byte) { b[5] = 2 }),
		"type_rel":           change(static, func(b []byte) { le.PutUint16(b[16:], uint16(elf.ET_REL)) }),
		"no_phdrs":           change(static, func(b []byte) { le.PutUint16(b[56:], 0) }),
		"many_phdrs":         change(static, func(b []byte) { le.PutUint16(b[56:], 0xffff) }),
		"phdrs_far_away":     change(static, func(b []byte) { le.PutUint64(b[32:], 1<<62) }),
		"phdr_size":          change(static, func(b []byte) { le.PutUint16(b[54:], 55) }),
		"load_in_kernel":     change(static, func(b []byte) { le.PutUint64(header(b, elf.PT_LOAD)[16:], 0xffffffff80200000) }),
		"load_wraps":         change(static, func(b []byte) { le.PutUint64(header(b, elf.PT_LOAD)[40:], ^uint64(0)-4096) }),
		"load_at_zero":       change(static, func(b []byte) { le.PutUint64(header(b, elf.PT_LOAD)[16:], 0) }),
		"filesz_over_memsz":  change(static, func(b []byte) { le.PutUint64(header(b, elf.PT_LOAD)[32:], 1<<40) }),
		"huge_memsz":         change(static, func(b []byte) { le.PutUint64(header(b, elf.PT_LOAD)[40:], 1<<46) }),
		"interp_unfinished": change(dynamic, func(b []byte) {
			le.PutUint64(header(b, elf.PT_INTERP)[32:], le.Uint64(header(b, elf.PT_INTERP)[32:])-1)
		}),
		"interp_far_away": change(dynamic, func(b []byte) { le.PutUint64(header(b, elf.PT_INTERP)[8:], 1<<50) }),
		"interp_huge":     change(dynamic, func(b []byte) { le.PutUint64(header(b, elf.PT_INTERP)[32:], 1<<30) }),
	}
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// livesOnLinux says whether Linux runs the program all the same.
func livesOnLinux(t *testing.T, data []byte) bool {
	t.Helper()
	file := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(file, data, 0o755); err != nil {
		t.Fatal(err)
	}
	o, err := onLinux(job{program: file, limit: time.Minute})
	return err == nil && o.status == 0
}

// acceptable is the end of a program that cannot be executed: refused, or
// killed when it was too late to refuse; where Linux runs it, running it.
func acceptable(status int, lives bool) bool {
	return status == 126 || status == 128+int(syscall.SIGKILL) || status == 128+int(syscall.SIGSEGV) || lives && status == 0
}

// TestBadProgramsByGosv: the tool refuses them before it starts a machine, or
// the kernel does, but always with a word and soon.
func TestBadProgramsByGosv(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, data := range spoilt(t) {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, data, 0o755); err != nil {
			t.Fatal(err)
		}
		o, err := inVM(job{program: file, limit: time.Minute}, small)
		if err != nil {
			t.Fatal(err)
		}
		if lives := livesOnLinux(t, data); o.hung || !acceptable(o.status, lives) || (o.status == 126 && o.stderr == "") {
			t.Errorf("%s: want status 126 and a message (runs on Linux: %v): %v", name, lives, o)
		}
	}
	file := filepath.Join(dir, "nointerp")
	data := bytes.Replace(read(t, guestPath("hello.dyn")), []byte("/lib64/ld-linux-x86-64.so.2"), []byte("/lib64/ld-absent-86-64.so.2"), 1)
	if err := os.WriteFile(file, data, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		program string
		status  int
		word    string
	}{
		{file, 127, "ld-absent"}, {filepath.Join(dir, "none"), 127, "none"}, {dir, 126, "directory"},
	} {
		o, err := inVM(job{program: c.program, limit: time.Minute}, small)
		if err != nil {
			t.Fatal(err)
		}
		if o.status != c.status || !strings.Contains(o.stderr, c.word) {
			t.Errorf("%s: want status %d and a word about %q: %v", c.program, c.status, c.word, o)
		}
	}
}

// TestBadProgramsByKernel gives them to the kernel as /init, past the tool:
// each ends the machine soon with the status for "cannot be executed", or dies
// of a signal as the program that it pretends to be. The kernel never panics.
func TestBadProgramsByKernel(t *testing.T) {
	t.Parallel()
	cases := spoilt(t)
	cases["missing"] = nil
	for name, data := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status, serial := boot(t, data)
			good := acceptable(status, data != nil && livesOnLinux(t, data))
			if name == "missing" {
				good = status == 127
			}
			if !good || strings.Contains(serial, "panic") || strings.Contains(serial, "goroutine ") {
				t.Errorf("status %d, serial line %q", status, serial)
			}
		})
	}
}

// TestGoodProgramByKernel shows that the way of TestBadProgramsByKernel works.
func TestGoodProgramByKernel(t *testing.T) {
	t.Parallel()
	status, serial := boot(t, read(t, guestPath("hello.asm")))
	if status != 42 || !strings.Contains(serial, "hello from assembly") {
		t.Errorf("status %d, serial line %q", status, serial)
	}
}

// boot runs the kernel with init as /init on a bare machine, the serial line
// being the program's output. The status is what the guest wrote to
// isa-debug-exit, or -1.
func boot(t *testing.T, init []byte) (status int, serial string) {
	t.Helper()
	var b bytes.Buffer
	w := cpio.NewWriter(&b)
	headers := []cpio.Header{{Name: ".", Mode: syscall.S_IFDIR | 0o755}}
	if init != nil {
		headers = append(headers, cpio.Header{Name: "init", Mode: syscall.S_IFREG | 0o755, Size: int64(len(init))})
	}
	for _, h := range headers {
		if err := w.Write(h, bytes.NewReader(init)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(t.TempDir(), "root.cpio")
	if err := os.WriteFile(root, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	slots <- struct{}{}
	defer func() { <-slots }()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, "qemu-system-x86_64", "-M", "microvm,acpi=off", "-accel", "tcg", "-cpu", "max", "-m", "64", "-nodefaults",
		"-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio", "-device", "isa-debug-exit,iobase=0xf4,iosize=4",
		"-kernel", filepath.Join(filepath.Dir(gosv), "kernel.elf"), "-initrd", root, "-append", "/init")
	out, err := c.Output()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		t.Errorf("the machine did not end")
		return -1, string(out)
	case errors.As(err, &exit) && exit.ExitCode()&1 == 1:
		return exit.ExitCode() >> 1, string(out)
	}
	return -1, string(out)
}
