package vm

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestDisk reads a disk in the machine as a stream, and finds on the host what the machine wrote to it.
func TestDisk(t *testing.T) {
	for _, p := range []place{{"microvm", 1}, {"q35", 2}} {
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			text := make([]byte, 6<<20+512)
			noise(len(text))().Read(text)
			dir := t.TempDir()
			disk, fixed := filepath.Join(dir, "disk"), filepath.Join(dir, "fixed")
			for name, b := range map[string][]byte{disk: text, fixed: text[:1<<20]} {
				if err := os.WriteFile(name, b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			const script = `cat /dev/vda | md5sum
cat /dev/vdb | md5sum
(echo x > /dev/vdb) 2>/dev/null && echo "wrote to what is read-only"
dd if=/dev/zero of=/dev/vda bs=1000 seek=3 count=5 conv=notrunc,fsync status=none
echo end | dd of=/dev/vda bs=4096 seek=1000 conv=notrunc status=none
exit 3`
			o := run(t, job{program: "/bin/sh", args: []string{"-c", script}, flags: []string{
				"--disk", disk, "--disk", fixed + ",ro", "-v", "/usr/bin/md5sum:/usr/bin/md5sum", "-v", "/bin/cat:/bin/cat", "-v", "/bin/dd:/bin/dd"}}, p)
			var want strings.Builder
			for _, b := range [][]byte{text, text[:1<<20]} {
				sum := md5.Sum(b)
				want.WriteString(hex.EncodeToString(sum[:]) + "  -\n")
			}
			if o.status != 3 || o.stdout != want.String() {
				t.Fatalf("%v\nwant %s", o, want.String())
			}
			clear(text[3000:8000])
			copy(text[4096*1000:], "end\n")
			if got, err := os.ReadFile(disk); err != nil || !bytes.Equal(got, text) {
				t.Errorf("the disk is not what was written to it: %v", err)
			}
		})
	}
}

// ext4Image makes an image of an ext4 file system, empty or with what is in a folder.
func ext4Image(t *testing.T, size int64, args ...string) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "ext4")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, size); err != nil {
		t.Fatal(err)
	}
	tool(t, "mke2fs", append(append([]string{"-q", "-F", "-t", "ext4"}, args...), image)...)
	return image
}

// tool runs a program of e2fsprogs, which are in /sbin.
func tool(t *testing.T, name string, args ...string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		name = filepath.Join("/sbin", name)
	}
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
}

// with brings programs of this machine.
func with(names ...string) (flags []string) {
	for _, n := range names {
		if p, err := exec.LookPath(n); err == nil {
			flags = append(flags, "-v", p+":"+p)
		} else {
			flags = append(flags, "-v", "/sbin/"+n+":/sbin/"+n)
		}
	}
	return flags
}

// TestExt4 mounts a disk, works on it, and has it checked.
func TestExt4(t *testing.T) {
	t.Parallel()
	image := ext4Image(t, 64<<20)
	const script = `set -e
mkdir /m
mount -t ext4 /dev/vda /m
mkdir -p /m/a/b
i=0; while [ $i -lt 300 ]; do echo hello $i > /m/a/b/file-with-a-long-name-$i; i=$((i+1)); done
dd if=/dev/zero of=/m/big bs=64k count=400 status=none
cp /m/big /m/copy
cmp /m/big /m/copy
rm /m/big
sync
ln /m/copy /m/link; ln -s target /m/symbolic
mv /m/a/b /m/c
umount /m
mount -o ro /dev/vda /m
mount -o remount,rw,errors=remount-ro /m
mkdir -p /l /o /m/u /m/w; echo x > /l/old
mount -t overlay -o lowerdir=/l,upperdir=/m/u,workdir=/m/w o /o
mv /o/old /o/new
ls /o
umount /o
rm -r /m/u /m/w
mkdir /n; mount -t ext4 /dev/vda /n; echo both > /n/both; cat /m/both
grep -c ' 254:0 / /[mn] ' /proc/self/mountinfo
if mount -t ext4 -o ro /dev/vda /l; then exit 9; fi
umount /n; rm /m/both
cat /m/c/file-with-a-long-name-77
ls /m/c | wc -l
cat /proc/mounts | grep /m
ls /m
rm -r /m/c /m/a
exit 5`
	o := run(t, job{program: "/bin/sh", args: []string{"-c", script}, flags: append([]string{"--disk", image},
		with("mount", "umount", "mkdir", "dd", "cp", "cmp", "rm", "sync", "ln", "mv", "cat", "ls", "wc", "grep")...)}, small)
	const want = "new\nboth\n2\nhello 77\n300\n/dev/vda /m ext4 rw,relatime 0 0\na\nc\ncopy\nlink\nlost+found\nsymbolic\n"
	if o.status != 5 || o.stdout != want {
		t.Fatalf("%v\nwant %s", o, want)
	}
	tool(t, "e2fsck", "-fn", image)
}

// TestGitOnExt4 has git, of the host's root, work on ext4: commits, a merge, gc, fsck and clones (test/apps/run.sh).
func TestGitOnExt4(t *testing.T) {
	t.Parallel()
	image := ext4Image(t, 128<<20)
	script, err := filepath.Abs("../apps/run.sh")
	if err != nil {
		t.Fatal(err)
	}
	o := run(t, job{program: guestPath("mounted.static"), args: []string{"ext4", "/dev/vda", "", "/tmp", "--", "/bin/bash", script, "git_load"}, env: []string{"GIT_FILES=60"},
		flags: []string{"--root", "/", "--disk", image}, limit: 3 * time.Minute}, small)
	if o.status != 0 || !strings.Contains(o.stdout, "A git_load rc=0") {
		t.Errorf("%v", o)
	}
	tool(t, "e2fsck", "-fn", image)
}

// TestLoop makes a file system in a file on a disk in the machine, mounts it through loop devices, and looks at the disks as Debian's
// programs do.
func TestLoop(t *testing.T) {
	t.Parallel()
	image := ext4Image(t, 64<<20)
	const script = `set -e
mkdir /m /n
mount /dev/vda /m
dd if=/dev/zero of=/m/img bs=1M count=16 status=none
mke2fs -q -t ext4 -L label /m/img
losetup -f --show /m/img
losetup -n -O NAME,BACK-FILE
blkid -o value -s LABEL /dev/loop0
mount /dev/loop0 /n
echo hi > /n/x
umount /n
losetup -d /dev/loop0
losetup -a
mount -o loop /m/img /n
cat /n/x
lsblk -n -o NAME,SIZE,TYPE,MOUNTPOINTS | tr -s ' '
umount /n
losetup -a
cat /proc/partitions | tr -s ' '
cat /sys/block/vda/size /sys/class/block/vda/dev
umount /m`
	o := run(t, job{program: "/bin/sh", args: []string{"-c", script}, flags: append([]string{"--disk", image, "-v", "/etc/mke2fs.conf:/etc/mke2fs.conf"},
		with("mount", "umount", "mkdir", "dd", "mke2fs", "losetup", "blkid", "cat", "lsblk", "tr")...)}, small)
	const want = `/dev/loop0
/dev/loop0 /m/img
label
hi
loop0 16M loop /n
vda 64M disk /m
major minor #blocks name

 254 0 65536 vda
131072
254:0
`
	if o.status != 0 || o.stdout != want {
		t.Fatalf("%v\nwant %s", o, want)
	}
	tool(t, "e2fsck", "-fn", image)
}

// TestExt4Root boots from an ext4 file system on a disk. It has the program; what came with the initial RAM disk is covered.
func TestExt4Root(t *testing.T) {
	t.Parallel()
	program, dir := guestPath("fsx.static"), t.TempDir()
	for _, d := range []string{"dev", "proc", "sys", "tmp", filepath.Dir(program)} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(program)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, program), b, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	image := ext4Image(t, 32<<20, "-d", dir)
	flags := []string{"--disk", image, "--qemu-arg=-append", "--qemu-arg=root=/dev/vda rootfstype=ext4 rw"}
	o := run(t, job{program: program, args: []string{"/tmp/x", "500"}, flags: flags}, place{"q35", 2})
	if o.status != 0 || !strings.Contains(o.stdout, "the same") {
		t.Fatalf("%v", o)
	}
	tool(t, "e2fsck", "-fn", image)
	if out, err := exec.Command("/sbin/dumpe2fs", "-h", image).Output(); err != nil || !bytes.Contains(out, []byte("Mount count:              1\n")) {
		t.Errorf("the disk was not mounted: %v\n%s", err, out)
	}
}

// nvme are the flags that give a machine of kind q35 an image as NVM Express disk.
func nvme(image string) []string {
	return []string{"--qemu-arg=-drive", "--qemu-arg=if=none,id=n,format=raw,file=" + image, "--qemu-arg=-device", "--qemu-arg=nvme,drive=n,serial=1"}
}

// TestNVMe mounts an ext4 file system on an NVM Express disk.
func TestNVMe(t *testing.T) {
	t.Parallel()
	image := ext4Image(t, 64<<20)
	const script = `set -e
mkdir /m
mount /dev/nvme0n1 /m
dd if=/dev/urandom of=/m/a bs=64k count=200 status=none
cp /m/a /m/b
umount /m
mount /dev/nvme0n1 /m
cmp /m/a /m/b
umount /m
exit 4`
	o := run(t, job{program: "/bin/sh", args: []string{"-c", script}, flags: append(nvme(image), with("mount", "umount", "mkdir", "dd", "cp", "cmp")...)},
		place{"q35", 2})
	if o.status != 4 {
		t.Fatalf("%v", o)
	}
	tool(t, "e2fsck", "-fn", image)
}

// TestPmem has a file of the host as memory of the machine: ext4 on it is what a disk is, and an EROFS is used where it lies, so that what is written
// to the disk shows at once in a file that was read before. Then the EROFS is the root.
func TestPmem(t *testing.T) {
	t.Parallel()
	program, dir := guestPath("fsx.static"), t.TempDir()
	for _, d := range []string{"dev", "proc", "sys", "tmp", filepath.Dir(program)} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	text := make([]byte, 1<<20)
	noise(len(text))().Read(text)
	copy(text[5*4096:], "before")
	fsx, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"data": text, program: fsx} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	root := filepath.Join(t.TempDir(), "root")
	tool(t, "mkfs.erofs", "--quiet", root, dir)
	image, err := os.ReadFile(root)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(image, text[5*4096:6*4096])
	if at < 0 || at%4096 != 0 {
		t.Fatalf("the file is not in the image: %d", at)
	}
	if err := os.Truncate(root, int64(len(image)+4095)&^4095); err != nil {
		t.Fatal(err)
	}
	disk := ext4Image(t, 32<<20)
	script := `set -e
mkdir /m /n
mount /dev/pmem0 /m
dd if=/dev/urandom of=/m/a bs=64k count=100 status=none
cp /m/a /m/b
sync /m/b
umount /m
mount /dev/pmem0 /m
cmp /m/a /m/b
umount /m
mount -t erofs /dev/pmem1 /n
dd if=/n/data bs=4096 skip=5 count=1 status=none | md5sum
printf 'after!' | dd of=/dev/pmem1 bs=1 seek=` + strconv.Itoa(at) + ` conv=notrunc,fsync status=none
dd if=/n/data bs=4096 skip=5 count=1 status=none | md5sum
/n` + program + ` /tmp/x 50 > /dev/null
cat /proc/partitions | grep -c pmem
exit 4`
	var want strings.Builder
	for _, word := range []string{"before", "after!"} {
		copy(text[5*4096:], word)
		sum := md5.Sum(text[5*4096 : 6*4096])
		want.WriteString(hex.EncodeToString(sum[:]) + "  -\n")
	}
	want.WriteString("2\n")
	o := run(t, job{program: "/bin/sh", args: []string{"-c", script}, flags: append([]string{"--disk", disk + ",bus=pmem", "--disk", root + ",bus=pmem"},
		with("mount", "umount", "mkdir", "dd", "cp", "cmp", "sync", "md5sum", "cat", "grep")...)}, place{"q35", 2})
	if o.status != 4 || o.stdout != want.String() {
		t.Fatalf("%v\nwant %s", o, want.String())
	}
	tool(t, "e2fsck", "-fn", disk)
	o = run(t, job{program: program, args: []string{"/tmp/x", "500"}, flags: []string{"--disk", root + ",bus=pmem",
		"--qemu-arg=-append", "--qemu-arg=root=/dev/pmem0 rootfstype=erofs ro gosv.overlay=tmpfs"}}, place{"q35", 1})
	if o.status != 0 || !strings.Contains(o.stdout, "the same") {
		t.Errorf("%v", o)
	}
}
