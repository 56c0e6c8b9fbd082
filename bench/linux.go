package main

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// linuxPackage is the meta-package whose kernel is measured.
const linuxPackage = "linux-image-cloud-amd64"

// linuxKernel is Debian's kernel in the forms that a VMM takes.
type linuxKernel struct {
	version string // as "6.1.0-56-cloud-amd64"
	bzImage string
	vmlinux string // unpacked ELF with a PVH entry, as our own kernel
}

// fetchLinux downloads and unpacks Debian's cloud kernel below dir, without
// installing it. A kernel that is there already is used again.
func fetchLinux(dir string) (linuxKernel, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return linuxKernel{}, err
	}
	found, _ := filepath.Glob(filepath.Join(dir, "boot", "vmlinuz-*"))
	if len(found) == 0 {
		if err := downloadLinux(dir); err != nil {
			return linuxKernel{}, fmt.Errorf("fetching %s: %w (is the network there, and deb-src or deb in sources.list?)", linuxPackage, err)
		}
		found, _ = filepath.Glob(filepath.Join(dir, "boot", "vmlinuz-*"))
	}
	if len(found) == 0 {
		return linuxKernel{}, fmt.Errorf("%s: the package holds no boot/vmlinuz-*", dir)
	}
	slices.Sort(found)
	k := linuxKernel{bzImage: found[len(found)-1], vmlinux: filepath.Join(dir, "vmlinux")}
	k.version = strings.TrimPrefix(filepath.Base(k.bzImage), "vmlinuz-")
	image, err := os.ReadFile(k.bzImage)
	if err != nil {
		return k, err
	}
	elf, err := unpackBzImage(image)
	if err != nil {
		return k, fmt.Errorf("%s: %w", k.bzImage, err)
	}
	return k, os.WriteFile(k.vmlinux, elf, 0o644)
}

func downloadLinux(dir string) error {
	out, err := exec.Command("apt-cache", "depends", linuxPackage).Output()
	if err != nil {
		return fmt.Errorf("apt-cache depends: %w", err)
	}
	var name string
	for _, w := range strings.Fields(string(out)) {
		if strings.HasPrefix(w, "linux-image-") && w != linuxPackage {
			name = w
			break
		}
	}
	if name == "" {
		return errors.New("apt knows no such package: run apt-get update")
	}
	if err := runIn(dir, "apt-get", "-q", "download", name); err != nil {
		return err
	}
	debs, _ := filepath.Glob(filepath.Join(dir, name+"_*.deb"))
	if len(debs) == 0 {
		return fmt.Errorf("apt-get download left no %s_*.deb", name)
	}
	return runIn(dir, "dpkg-deb", "-x", filepath.Base(debs[0]), ".")
}

func runIn(dir, name string, args ...string) error {
	c := exec.Command(name, args...)
	c.Dir = dir
	out, err := c.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

// unpackBzImage returns the vmlinux inside a bzImage: the setup header's
// payload_offset and payload_length say where it lies
// (Documentation/arch/x86/boot.rst, protocol 2.08).
func unpackBzImage(image []byte) ([]byte, error) {
	if len(image) < 0x250 || string(image[0x202:0x206]) != "HdrS" {
		return nil, errors.New("not a bzImage")
	}
	setup := (uint64(image[0x1f1]) + 1) * 512
	off := setup + uint64(binary.LittleEndian.Uint32(image[0x248:]))
	n := uint64(binary.LittleEndian.Uint32(image[0x24c:]))
	if off+n > uint64(len(image)) || n < 8 {
		return nil, errors.New("the payload lies outside of the file")
	}
	p := image[off : off+n]
	switch {
	case binary.LittleEndian.Uint32(p) == lz4Legacy:
		return unlz4(p)
	case bytes.HasPrefix(p, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(bytes.NewReader(p))
		if err != nil {
			return nil, err
		}
		z.Multistream(false)
		return io.ReadAll(z)
	case bytes.HasPrefix(p, []byte("\xfd7zXZ\x00")):
		return filter(p[:len(p)-4], "xz", "-dc", "--single-stream")
	case bytes.HasPrefix(p, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return filter(p[:len(p)-4], "zstd", "-dc")
	}
	return nil, fmt.Errorf("payload of unknown compression % x", p[:8])
}

func filter(in []byte, name string, args ...string) ([]byte, error) {
	c := exec.Command(name, args...)
	c.Stdin = bytes.NewReader(in)
	var errs bytes.Buffer
	c.Stderr = &errs
	out, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", name, err, errs.Bytes())
	}
	return out, nil
}
