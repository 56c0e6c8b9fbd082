package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"gosv/image/cpio"
)

// disk are the flags of a virtio-blk disk with the contents of file.
func disk(file string) []string {
	return []string{"-global", "virtio-mmio.force-legacy=false", "-drive", "if=none,id=d,format=raw,readonly=on,file=" + file,
		"-device", "virtio-blk-device,drive=d"}
}

// erofsRoot packs program as /init into an EROFS image.
func erofsRoot(dir, program string) (string, error) {
	root, image := filepath.Join(dir, "hello.root"), filepath.Join(dir, "hello.erofs")
	if err := os.RemoveAll(root); err != nil {
		return "", err
	}
	for _, d := range []string{"dev", "proc", "sys", "run", "tmp"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return "", err
		}
	}
	data, err := os.ReadFile(program)
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(root, "init"), data, 0o755); err != nil {
		return "", err
	}
	return image, runIn(dir, "mkfs.erofs", "--quiet", image, root)
}

// bootFromDisk is the virtual time from the kernel's entry to the program's main when the root is an EROFS image on a disk. Virtual
// time jumps while a machine waits for its disk, so that some runs show any number: the least of several counts.
func (b *bench) bootFromDisk(k kernel, firmware uint64) error {
	progress("%s: boot from EROFS", k.name)
	image, err := erofsRoot(b.work, b.guests.hello)
	if err != nil {
		return fmt.Errorf("%w (apt-get install erofs-utils)", err)
	}
	k.append = func(bool) string { return "/init root=/dev/vda rootfstype=erofs" }
	times, _, line, err := boot(k, "", firmware, 3*b.runs, disk(image)...)
	if err != nil {
		return err
	}
	b.report.lines = append(b.report.lines, line)
	least := slices.Min(times)
	b.report.add(k.name, "erofs", spread{least})
	b.report.add(k.name, "erofs-more", spread{least - slices.Min(b.report.values["boot"][k.name])})
	return nil
}

// A diskLoad is one use of bench/guest/disk.
type diskLoad struct {
	argument string // of the program, and the prefix of its rows' keys
	// prepare makes what is measured below dir, and returns QEMU's flags and what ends it.
	prepare func(dir string) (flags []string, end func(), err error)
}

var diskLoads = []diskLoad{{"", rawDisk}, {"ext4", ext4Disk}, {"virtiofs", sharedFolder}}

// Sizes of disks in MiB. Their files have no blocks, and nothing is flushed, so that the host's own disk does not count.
const (
	rawMiB  = 512
	ext4MiB = 512
)

func emptyFile(file string, mib int64) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Truncate(mib << 20)
}

func rawDisk(dir string) ([]string, func(), error) {
	file := filepath.Join(dir, "disk.raw")
	return disk(file), func() { _ = os.Remove(file) }, emptyFile(file, rawMiB)
}

func ext4Disk(dir string) ([]string, func(), error) {
	file := filepath.Join(dir, "disk.ext4")
	if err := emptyFile(file, ext4MiB); err != nil {
		return nil, nil, err
	}
	flags := []string{"-global", "virtio-mmio.force-legacy=false", "-drive", "if=none,id=d,format=raw,cache=unsafe,file=" + file,
		"-device", "virtio-blk-device,drive=d"}
	return flags, func() { _ = os.Remove(file) }, runIn(dir, "/sbin/mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0", file)
}

// virtiofsd is the server of Debian's qemu-system-common.
const virtiofsd = "/usr/lib/qemu/virtiofsd"

// sharedFolder serves an empty folder.
func sharedFolder(dir string) ([]string, func(), error) {
	folder, socket := filepath.Join(dir, "folder"), filepath.Join(dir, "folder.sock")
	if err := os.RemoveAll(folder); err != nil {
		return nil, nil, err
	}
	if err := os.Mkdir(folder, 0o755); err != nil {
		return nil, nil, err
	}
	_ = os.Remove(socket) // of an earlier run
	server := exec.Command(virtiofsd, "--socket-path="+socket, "-o", "source="+folder, "-f")
	if err := server.Start(); err != nil {
		return nil, nil, err
	}
	end := func() {
		_ = server.Process.Kill() // it has ended with the machine
		_ = server.Wait()
		_ = os.RemoveAll(folder)
	}
	for range 500 {
		if _, err := os.Stat(socket); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return []string{"-machine", "memory-backend=mem", "-object", "memory-backend-memfd,id=mem,size=1024M,share=on",
		"-global", "virtio-mmio.force-legacy=false", "-chardev", "socket,id=share,path=" + socket,
		"-device", "vhost-user-fs-device,chardev=share,tag=bench,queue-size=512"}, end, nil
}

// measureDisk has each kernel in turn use disks and file systems.
func (b *bench) measureDisk() error {
	for _, l := range diskLoads {
		if _, err := os.Stat(virtiofsd); l.argument == "virtiofs" && (err != nil || os.Getuid() != 0) {
			progress("virtiofs is not measured: it needs virtiofsd, and root")
			continue
		}
		progress("disk %s", l.argument)
		series := map[string]map[string]spread{}
		for i := range b.runs {
			for _, k := range b.columns {
				if series[k.name] == nil {
					series[k.name] = map[string]spread{}
				}
				if err := b.diskRun(l, k, i == 0, series[k.name]); err != nil {
					return err
				}
			}
		}
		for name, figures := range series {
			for key, s := range figures {
				b.report.add(name, key, s)
			}
		}
	}
	return nil
}

// diskLine is a figure: its name, and the best value.
var diskLine = regexp.MustCompile(`(?m)^(?:blk|fs)_(\w+) [\d.]+ \S+ best=([\d.]+)`)

// diskRun adds the figures of one run to series.
func (b *bench) diskRun(l diskLoad, k kernel, show bool, series map[string]spread) error {
	flags, end, err := l.prepare(b.work)
	if err != nil {
		return err
	}
	defer end()
	m := machine{kernel: k.file, initrd: b.guests.diskRoot, append: strings.TrimSpace(k.append(false) + " " + l.argument), memory: "1024", acpi: true, flags: flags}
	if k.name == "linux" {
		if m.initrd, err = b.linux.withModules(b.guests.disk, b.work); err != nil {
			return err
		}
	}
	if show {
		b.report.lines = append(b.report.lines, shell(m.command()))
	}
	r, err := m.run(latEnd, 3*time.Minute)
	if err != nil {
		return err
	}
	found := diskLine.FindAllSubmatch(r.output, -1)
	if found == nil {
		return fmt.Errorf("%s: no figure in %q", shell(m.command()), tail(r.output))
	}
	for _, f := range found {
		v, err := strconv.ParseFloat(string(f[2]), 64)
		if err != nil {
			return err
		}
		key := or(l.argument, "blk") + ":" + string(f[1])
		series[key] = append(series[key], v)
	}
	return nil
}

// withModules packs program as /init beside the modules that this kernel reads a disk with.
func (l *linuxKernel) withModules(program, dir string) (string, error) {
	var more []cpio.Header
	var data [][]byte
	for _, m := range []string{"virtio/virtio", "virtio/virtio_ring", "virtio/virtio_mmio", "block/virtio_blk", "../fs/fuse/fuse", "../fs/fuse/virtiofs"} {
		name := filepath.Join(filepath.Dir(l.vmlinux), "lib/modules", l.version, "kernel/drivers", m+".ko")
		b, err := os.ReadFile(name)
		if err != nil {
			return "", err
		}
		more = append(more, cpio.Header{Name: filepath.Base(name), Mode: 0o100644, Size: int64(len(b))})
		data = append(data, b)
	}
	archive := filepath.Join(dir, "disk.linux.cpio")
	return archive, writeRoot(archive, program, more, data)
}
