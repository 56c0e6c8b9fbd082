package vm

import (
	"bytes"
	"context"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gosv/image/verity"
)

const fsDir = "FSCONF_DIR="

// TestFileSystems runs the conformance program and fsx on each writable file system; both pass on Linux's first.
func TestFileSystems(t *testing.T) {
	conf, fsx, mounted := guestPath("fsconf.static"), guestPath("fsx.static"), guestPath("mounted.static")
	check := func(t *testing.T, o outcome, word string) {
		t.Helper()
		if o.status != 0 || !strings.Contains(o.stdout, word) {
			t.Errorf("%v", o)
		}
	}
	t.Run("linux", func(t *testing.T) {
		if os.Getuid() != 0 {
			t.Skip("needs root")
		}
		o, err := onLinux(job{program: conf, env: []string{fsDir + t.TempDir()}})
		if err != nil {
			t.Fatal(err)
		}
		check(t, o, "PASSED")
		if o, err = onLinux(job{program: fsx, args: []string{"-p", "2", filepath.Join(t.TempDir(), "x"), "2000"}}); err != nil {
			t.Fatal(err)
		}
		check(t, o, "the same")
	})
	mounts := map[string][]string{
		"ext4":    {"ext4", "/dev/vda", "", "/m"},
		"tmpfs":   {"tmpfs", "x", "size=64m", "/m"},
		"overlay": {"overlay", "x", "lowerdir=/etc:/lower,upperdir=/up,workdir=/work", "/m", "/lower", "/up", "/work"},
	}
	for name, m := range mounts {
		for i, program := range []string{conf, fsx} {
			args := append(append([]string{}, m...), "--", program)
			word := "PASSED"
			if i == 1 {
				args = append(args, "-p", "2", "/m/x", "1500", strconv.Itoa(len(name)))
				word = "the same"
			}
			t.Run(name+"/"+filepath.Base(program), func(t *testing.T) {
				t.Parallel()
				flags := []string{"-v", program + ":" + program}
				image := ""
				if name == "ext4" {
					image = ext4Image(t, 64<<20, "-b", "4096")
					flags = append(flags, "--disk", image)
				}
				o := run(t, job{program: mounted, args: args, env: []string{fsDir + "/m"}, flags: flags, limit: 2 * time.Minute}, small)
				check(t, o, word)
				if image != "" {
					tool(t, "e2fsck", "-fn", image)
				}
			})
		}
	}
}

// TestInodeFlags makes random calls on files with the flags of chattr(1), which print what they print on Linux.
func TestInodeFlags(t *testing.T) {
	program, mounted := guestPath("iflags.static"), guestPath("mounted.static")
	const count = "2400"
	mounts := map[string][]string{
		"ext4":    {"ext4", "/dev/vda", "", "/m"},
		"tmpfs":   {"tmpfs", "x", "size=16m", "/m"},
		"overlay": {"overlay", "x", "lowerdir=/etc:/lower,upperdir=/up,workdir=/work", "/m", "/lower", "/up", "/work"},
	}
	for name, m := range mounts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, magic := t.TempDir(), int64(unix.EXT4_SUPER_MAGIC)
			if name != "ext4" { // Linux's overlay wants a mount of its own, and differs in nothing here
				var err error
				if dir, err = os.MkdirTemp("/dev/shm", "iflags"); err != nil {
					t.Skip(err)
				}
				t.Cleanup(func() { os.RemoveAll(dir) })
				magic = unix.TMPFS_MAGIC
			}
			var st unix.Statfs_t
			if err := unix.Statfs(dir, &st); err != nil || st.Type != magic {
				t.Skipf("%s is no %s: %v", dir, name, err)
			}
			seed := strconv.Itoa(len(name))
			linux, err := onLinux(job{program: program, args: []string{dir, seed, count}})
			if err != nil || linux.status == 77 || os.Getuid() != 0 {
				t.Skipf("no flags on Linux: %v %v", err, linux.status)
			}
			flags := []string{"-v", program + ":" + program}
			image := ""
			if name == "ext4" {
				image = ext4Image(t, 32<<20)
				flags = append(flags, "--disk", image)
			}
			o := run(t, job{program: mounted, args: append(slices.Clone(m), "--", program, "/m", seed, count), flags: flags}, small)
			if o.status != 0 || linux.status != 0 {
				t.Fatalf("%v\non Linux %v", o, linux)
			}
			if got, want := strings.Split(o.stdout, "\n"), strings.Split(linux.stdout, "\n"); !slices.Equal(got, want) {
				for i := range min(len(got), len(want)) {
					if got[i] != want[i] {
						t.Fatalf("%q, on Linux %q", got[i], want[i])
					}
				}
				t.Fatalf("%d lines, on Linux %d", len(got), len(want))
			}
			if image != "" {
				tool(t, "e2fsck", "-fn", image)
			}
		})
	}
}

// TestBlockCalls is about FITRIM, BLKROSET and direct I/O on a disk with ext4, and Debian's tools for flags and for trimming.
func TestBlockCalls(t *testing.T) {
	t.Parallel()
	image := ext4Image(t, 64<<20, "-b", "1024")
	o := run(t, job{program: guestPath("blkcalls.static"), flags: []string{"--disk", image}}, small)
	if o.status != 0 || !strings.Contains(o.stdout, "PASSED") {
		t.Errorf("%v", o)
	}
	tool(t, "e2fsck", "-fn", image)
	const script = `set -e
mkdir /m; mount -t ext4 /dev/vda /m
fstrim -v /m | sed 's/.*(//' | { read n x; [ $n -gt 50000000 ]; }
fstrim -v /m
echo 1 > /m/f
chattr +a /m/f; lsattr /m/f
echo 2 >> /m/f
if echo 3 > /m/f; then exit 9; fi
if rm -f /m/f; then exit 8; fi
chattr -a /m/f; chattr +i /m/f
if echo 4 >> /m/f; then exit 7; fi
umount /m; mount -t ext4 /dev/vda /m
lsattr /m/f
chattr -i /m/f; cat /m/f
rm /m/f
umount /m`
	o = run(t, job{program: "/bin/bash", args: []string{"-c", script}, flags: append([]string{"--disk", image},
		with("mount", "umount", "mkdir", "fstrim", "sed", "chattr", "lsattr", "rm", "cat")...)}, small)
	const want = "/m: 0 B (0 bytes) trimmed\n-----a--------e------- /m/f\n----i---------e------- /m/f\n1\n2\n"
	if o.status != 0 || o.stdout != want {
		t.Errorf("%v\nwant %s", o, want)
	}
	tool(t, "e2fsck", "-fn", image)
}

// erofsImage makes an image of a root with these files.
func erofsImage(t *testing.T, files map[string][]byte, options ...string) string {
	t.Helper()
	if _, err := exec.LookPath("mkfs.erofs"); err != nil {
		t.Skip("needs mkfs.erofs")
	}
	dir := t.TempDir()
	root, image := filepath.Join(dir, "root"), filepath.Join(dir, "image")
	for name, b := range files {
		full := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, b, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"dev", "proc", "sys"} {
		if err := os.MkdirAll(filepath.Join(root, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("mkfs.erofs", append(append([]string{"--quiet"}, options...), image, root)...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return image
}

func guestFile(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(guestPath(name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestErofsRoot boots with an initial RAM disk that is an EROFS image, and a private layer over it; the image's own run file
// says what to run.
func TestErofsRoot(t *testing.T) {
	t.Parallel()
	image := erofsImage(t, map[string][]byte{
		"bin/fsconf": guestFile(t, "fsconf.static"), ".gosv/run": []byte("exe=/bin/fsconf\x00overlay=tmpfs\x00env=FSCONF_DIR=/lower\x00"), "lower/file": nil,
	}, "-zlz4hc")
	if out := bootImage(t, image, "gosv.verbose"); !strings.Contains(out, "PASSED") {
		t.Errorf("%s", shorten(out))
	}
	if out := bootDisk(t, image, "gosv.verbose root=/dev/vda"); !strings.Contains(out, "PASSED") {
		t.Errorf("on a disk: %s", shorten(out))
	}
}

// TestVerity boots a root with a Merkle tree. A byte that was changed is found when it is read, not before; the rest works.
func TestVerity(t *testing.T) {
	t.Parallel()
	secret := bytes.Repeat([]byte("a line that is looked for\n"), 1000)
	name := erofsImage(t, map[string][]byte{
		"bin/readall": guestFile(t, "readall.static"), "good": []byte("good\n"), "big": secret,
		".gosv/run": []byte("exe=/bin/readall\x00arg=readall\x00arg=/good\x00arg=/big\x00"),
	})
	image, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	image = append(image, make([]byte, -len(image)&(verity.BlockSize-1))...)
	tree, root, err := verity.Tree(bytes.NewReader(image), int64(len(image)), verity.Options{Salt: []byte("salt")})
	if err != nil {
		t.Fatal(err)
	}
	line := "gosv.verbose gosv.verity=\"" + hex.EncodeToString(root[:]) + " " + strconv.Itoa(len(image)) + "\""
	disk := append(image, tree...)
	boot := func(where string) string {
		if err := os.WriteFile(name, disk, 0o600); err != nil {
			t.Fatal(err)
		}
		if where == "disk" {
			return bootDisk(t, name, line+" root=/dev/vda rootfstype=erofs")
		}
		return bootImage(t, name, line)
	}
	at := bytes.Index(disk, secret[:4096]) + 10_000
	for _, where := range []string{"memory", "disk"} {
		if out := boot(where); !strings.Contains(out, "/good: 5 bytes") || !strings.Contains(out, "/big: 26000 bytes") {
			t.Errorf("%s: %s", where, shorten(out))
		}
		disk[at] ^= 1
		out := boot(where)
		if !strings.Contains(out, "/good: 5 bytes") || !strings.Contains(out, "/big: Input/output error") || !strings.Contains(out, "verity: block") {
			t.Errorf("%s, a changed byte: %s", where, shorten(out))
		}
		disk[at] ^= 1
	}
	line = strings.Replace(line, "gosv.verity=\"", "gosv.verity=\"00", 1)
	line = strings.Replace(line, hex.EncodeToString(root[31:])+" ", " ", 1)
	if out := boot("disk"); strings.Contains(out, "good: 5 bytes") {
		t.Errorf("a wrong root hash: %s", shorten(out))
	}
}

// bootImage starts the kernel with an initial RAM disk, and returns what comes out of the serial port.
func bootImage(t *testing.T, initrd, line string) string {
	t.Helper()
	return bootWith(t, line, "-initrd", initrd)
}

// bootDisk is bootImage with the image on a disk.
func bootDisk(t *testing.T, image, line string) string {
	t.Helper()
	return bootWith(t, line, "-global", "virtio-mmio.force-legacy=false", "-drive", "if=none,id=d,format=raw,readonly=on,file="+image,
		"-device", "virtio-blk-device,drive=d")
}

func bootWith(t *testing.T, line string, flags ...string) string {
	t.Helper()
	slots <- struct{}{}
	defer func() { <-slots }()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	kernel := filepath.Join(filepath.Dir(gosv), "kernel.elf")
	if _, err := os.Stat(kernel); err != nil {
		t.Skip("needs the kernel beside the command")
	}
	c := exec.CommandContext(ctx, "qemu-system-x86_64", append([]string{"-M", "microvm,acpi=off", "-accel", "tcg", "-cpu", "max,-la57", "-m", "256", "-nodefaults",
		"-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot", "-kernel", kernel, "-append", line}, flags...)...)
	out, err := c.CombinedOutput()
	if ctx.Err() != nil {
		t.Fatalf("hangs\n%s", shorten(string(out)))
	}
	if err != nil {
		t.Logf("%v", err)
	}
	return string(out)
}
