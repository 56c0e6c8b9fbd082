package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
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

// diskMiB is the size of the disk that is read; its file has no blocks, so that the host's own disk does not count.
const diskMiB = 256

// measureDisk has each kernel in turn read a disk.
func (b *bench) measureDisk() error {
	progress("reading a disk")
	file := filepath.Join(b.work, "disk.raw")
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer os.Remove(file)
	if err := f.Truncate(diskMiB << 20); err != nil {
		return err
	}
	f.Close()
	series := map[string]spread{}
	for i := range b.runs {
		for _, k := range b.columns {
			m := machine{kernel: k.file, initrd: b.guests.diskRoot, append: k.append(false), memory: "1024", acpi: true, flags: disk(file)}
			if k.name == "linux" {
				if m.initrd, err = b.linux.withModules(b.guests.disk, b.work); err != nil {
					return err
				}
			}
			if i == 0 {
				b.report.lines = append(b.report.lines, shell(m.command()))
			}
			v, err := diskSpeed(m)
			if err != nil {
				return err
			}
			series[k.name] = append(series[k.name], v)
		}
	}
	for name, s := range series {
		b.report.add(name, "blk", s)
	}
	return nil
}

var diskLine = regexp.MustCompile(`(?m)^blk_read [\d.]+ MB/s best=([\d.]+)`)

func diskSpeed(m machine) (float64, error) {
	r, err := m.run(latEnd, 3*time.Minute)
	if err != nil {
		return 0, err
	}
	found := diskLine.FindSubmatch(r.output)
	if found == nil {
		return 0, fmt.Errorf("%s: no figure in %q", shell(m.command()), tail(r.output))
	}
	return strconv.ParseFloat(string(found[1]), 64)
}

// withModules packs program as /init beside the modules that this kernel reads a disk with.
func (l *linuxKernel) withModules(program, dir string) (string, error) {
	var more []cpio.Header
	var data [][]byte
	for _, m := range []string{"virtio/virtio", "virtio/virtio_ring", "virtio/virtio_mmio", "block/virtio_blk"} {
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
