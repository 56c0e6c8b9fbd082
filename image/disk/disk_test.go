package disk

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gosv/image/pvh"
)

// write makes an image whose root file system is text.
func write(t *testing.T, c Config) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk.img"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := Write(f, c); errors.Is(err, ErrNoLoader) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

const rootText = "this stands for a root file system"

func config(kernel []byte) Config {
	return Config{
		Kernel: kernel,
		Root: func(w Area) (Part, error) {
			b := make([]byte, 8192)
			copy(b, rootText)
			_, err := w.WriteAt(append(b, "of an earlier try"...), 0)
			return Part{Size: 8192, GUID: identity("test", b)}, err
		},
		CommandLine: func(root GUID) string { return "root=PARTUUID=" + root.String() },
	}
}

func TestWriteIsReproducible(t *testing.T) {
	a, _ := os.ReadFile(write(t, config(pvh.Stub(1))))
	b, _ := os.ReadFile(write(t, config(pvh.Stub(1))))
	if !bytes.Equal(a, b) {
		t.Error("two images of the same input differ")
	}
}

func TestPartitions(t *testing.T) {
	b, _ := os.ReadFile(write(t, config(pvh.Stub(1))))
	parts, err := Partitions(bytes.NewReader(b), int64(len(b)))
	if err != nil || len(parts) != 3 {
		t.Fatal(parts, err)
	}
	root, ok := Find(parts, TypeRoot)
	if !ok || root.Size() != 8192 || !bytes.HasPrefix(b[root.Offset():], []byte(rootText)) || bytes.Contains(b, []byte("earlier try")) {
		t.Errorf("%+v", root)
	}
	if line, err := CommandLine(bytes.NewReader(b), parts); err != nil || line != "root=PARTUUID="+root.GUID.String() {
		t.Error(line, err)
	}
	if _, err := Partitions(bytes.NewReader(b), root.Offset()+1000); err == nil {
		t.Error("a truncated disk is taken")
	}
	b[600]++
	if _, err := Partitions(bytes.NewReader(b), int64(len(b))); err == nil {
		t.Error("a damaged table is taken")
	}
}

// Other people's tools see what was meant.
func TestTools(t *testing.T) {
	image := write(t, config(pvh.Stub(1)))
	for _, test := range []struct {
		command []string
		want    string
	}{
		{[]string{"fdisk", "-l", image}, "gpt"},
		{[]string{"fsck.vfat", "-n", "PART"}, ""},
		{[]string{"mdir", "-i", image + "@@1M", "::/EFI/BOOT"}, "BOOTX64"},
	} {
		tool, err := exec.LookPath(test.command[0])
		if err != nil {
			continue
		}
		args := test.command[1:]
		if args[len(args)-1] == "PART" {
			b, _ := os.ReadFile(image)
			parts, _ := Partitions(bytes.NewReader(b), int64(len(b)))
			esp, _ := Find(parts, TypeESP)
			file := filepath.Join(t.TempDir(), "esp")
			if err := os.WriteFile(file, b[esp.Offset():][:esp.Size()], 0o600); err != nil {
				t.Fatal(err)
			}
			args = append(args[:len(args)-1:len(args)-1], file)
		}
		out, err := exec.Command(tool, args...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), test.want) || strings.Contains(string(out), "corrupt") {
			t.Errorf("%v: %v\n%s", test.command, err, out)
		}
	}
}

// firmwares are the ways to boot a disk with QEMU, as further arguments.
var firmwares = map[string][]string{
	"SeaBIOS, IDE":    {"-M", "pc", "-drive", "format=raw,file=IMAGE"},
	"SeaBIOS, virtio": {"-M", "q35", "-drive", "format=raw,if=virtio,file=IMAGE"},
	"OVMF":            {"-M", "q35", "-bios", "/usr/share/ovmf/OVMF.fd", "-drive", "format=raw,if=virtio,file=IMAGE"},
}

// The loaders start a kernel: the stub ends QEMU with a status of its own.
func TestBoot(t *testing.T) {
	qemu, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		t.Skip(err)
	}
	image := write(t, config(pvh.Stub(0x2a)))
	for name, args := range firmwares {
		t.Run(name, func(t *testing.T) {
			args = append([]string{"-accel", "tcg", "-cpu", "max", "-m", "256", "-nodefaults", "-display", "none", "-no-reboot", "-snapshot", "-serial", "stdio",
				"-device", "isa-debug-exit,iobase=0xf4,iosize=4"}, args...)
			for i, a := range args {
				if args[i] = strings.ReplaceAll(a, "IMAGE", image); a == "-bios" {
					if _, err := os.Stat(args[i+1]); err != nil {
						t.Skip(err)
					}
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			out, err := exec.CommandContext(ctx, qemu, args...).CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 0x2a<<1|1 {
				t.Errorf("%v\n%q", err, out)
			}
		})
	}
}
