package apps

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"gosv/image/cpio"
	"gosv/image/rootfs"
	"gosv/vmm"
	"gosv/vmm/qemu"
)

// A machine is one run of a command in a virtual machine.
type machine struct {
	kernel string // file
	initrd *os.File
	memory int64 // MiB
	cpus   int
	log    io.Writer // of the kernel; nil: dropped
}

// run boots and returns the command's status and output.
func (m *machine) run(limit time.Duration) (status int, output string, err error) {
	kernel, err := os.Open(m.kernel)
	if err != nil {
		return 0, "", err
	}
	defer kernel.Close()
	monitor, err := qemu.Find()
	if err != nil {
		return 0, "", err
	}
	vm, err := monitor.Start(vmm.Config{Kernel: kernel, Initrd: m.initrd, Memory: m.memory << 20, CPUs: m.cpus,
		Machine: vmm.MachineMicroVM, Accel: vmm.AccelTCG, Ports: vmm.Ports()})
	if err != nil {
		return 0, "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var out bytes.Buffer
	s := vmm.Session{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &out, Log: m.log, BootTime: time.Minute}
	r := s.Run(ctx, vm)
	return r.Status, out.String(), r.Err
}

// command returns the archive that comes before the root file system and says what to run,
// as long as a number of pages.
func command(args []string, strace bool) ([]byte, error) {
	run := rootfs.Run{Exe: args[0], Args: args, Dir: "/", Hostname: "gosv", Strace: strace,
		Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8"}}
	file, err := run.File()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := rootfs.New(rootfs.Options{}).Pack(&b, file); err != nil {
		return nil, err
	}
	if rest := b.Len() % cpio.PageSize; rest > 0 {
		b.Write(make([]byte, cpio.PageSize-rest))
	}
	return b.Bytes(), nil
}

// pack writes the machine's root file system into a file: what the packages need, and
// extra files by their name in the machine.
func (d *debian) pack(to string, packages []string, extra map[string]string) error {
	files, err := d.files(packages)
	if err != nil {
		return err
	}
	f, err := os.Create(to + ".new")
	if err != nil {
		return err
	}
	defer f.Close()
	out := bufio.NewWriterSize(f, 1<<20)
	w := cpio.NewWriter(out)
	for _, dir := range []string{".", "tmp", "proc", "sys", "dev", "run", "usr", "usr/bin", "usr/lib", "usr/sbin", "var", "var/log", "var/cache", "var/lib"} {
		mode := uint32(syscall.S_IFDIR | 0o755)
		if dir == "tmp" {
			mode |= syscall.S_ISVTX | 0o022
		}
		if err := w.Write(cpio.Header{Name: dir, Mode: mode}, nil); err != nil {
			return err
		}
	}
	made := map[string]bool{"/": true}
	for _, name := range files {
		if err := d.packFile(w, name, filepath.Join(d.dir, name), made); err != nil {
			return err
		}
	}
	for name, host := range extra {
		if err := d.packFile(w, name, host, made); err != nil {
			return err
		}
	}
	if err := errors.Join(w.Close(), out.Flush()); err != nil {
		return err
	}
	return os.Rename(to+".new", to)
}

// packFile writes one file, and before it the directories that it is in.
func (d *debian) packFile(w *cpio.Writer, name, host string, made map[string]bool) error {
	if dir := filepath.Dir(name); !made[dir] {
		if err := d.packFile(w, dir, filepath.Join(d.dir, dir), made); err != nil {
			return err
		}
	}
	if made[name] {
		return nil
	}
	made[name] = true
	info, err := os.Lstat(host)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // removed after it was installed
	}
	if err != nil {
		return err
	}
	st := info.Sys().(*syscall.Stat_t)
	h := cpio.Header{Name: name[1:], Mode: st.Mode, UID: st.Uid, GID: st.Gid, MTime: st.Mtim.Sec}
	switch {
	case info.IsDir():
		return w.Write(h, nil)
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(host)
		if err != nil {
			return err
		}
		h.Size = int64(len(target))
		return w.Write(h, strings.NewReader(target))
	case info.Mode().IsRegular():
		f, err := os.Open(host)
		if err != nil {
			return err
		}
		defer f.Close()
		h.Size = st.Size
		return w.Write(h, f)
	}
	return nil
}

// onLinux runs a shell command in the Debian system on this machine: in namespaces of its own, so that it
// meets nobody's ports and processes, and leaves none.
func (d *debian) onLinux(line string, limit time.Duration, env ...string) (status int, output string, err error) {
	return d.chroot(line, limit, []string{"--net"}, env)
}

// onHost is onLinux with this machine's network.
func (d *debian) onHost(line string, limit time.Duration, env ...string) (status int, output string, err error) {
	return d.chroot(line, limit, nil, env)
}

func (d *debian) chroot(line string, limit time.Duration, namespaces, env []string) (status int, output string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	const prepare = `set -e; cd "$1"
mount -t proc proc proc; mount -t tmpfs tmpfs tmp; mount -t tmpfs tmpfs run; mount -t tmpfs tmpfs root; mount --rbind /dev dev; mount --rbind /sys sys
mount -t tmpfs tmpfs dev/shm
ip link set lo up
exec chroot . /bin/bash -c "$2"`
	args := append([]string{"--mount", "--pid", "--fork", "--kill-child"}, namespaces...)
	c := exec.CommandContext(ctx, "unshare", append(args, "sh", "-c", prepare, "sh", d.dir, line)...)
	c.Env = append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"}, env...)
	c.WaitDelay = 5 * time.Second
	b, err := c.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), string(b), ctx.Err()
	}
	return 0, string(b), err
}
