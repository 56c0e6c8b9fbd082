// Package disk makes disk images that boot by themselves, and finds its way in
// them.
//
// An image is a GPT disk (UEFI specification 2.10 §5) with three partitions: the
// BIOS loader, the EFI system partition, and the root file system, behind which
// the tree of its hashes may lie. The EFI system partition holds one
// file, EFI/BOOT/BOOTX64.EFI: loader, kernel and command line in one PE image, so
// that one signature covers all three. The BIOS loader reads the kernel out
// of the same file, by its place on the disk. The loaders' sources are in
// machine/boot.
//
// Write is a pure function: equal input gives equal bytes. Open takes foreign
// bytes and checks them.
package disk

import (
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"io"
	"strings"
)

// SectorSize is the unit of addresses on a disk, in bytes.
const SectorSize = 512

const (
	biosStart = 64   // sector of the BIOS loader
	espStart  = 2048 // sector of the EFI system partition: 1 MiB
	alignment = 2048 // sectors, of the partitions behind
)

//go:embed loader
var loaders embed.FS

// ErrNoLoader says that this program was built without the loaders.
var ErrNoLoader = errors.New("built without boot loaders: use `make build`")

func loader(name string) ([]byte, error) {
	b, err := loaders.ReadFile("loader/" + name)
	if err != nil {
		return nil, ErrNoLoader
	}
	return b, nil
}

// GUID is a globally unique identifier in the order of its text.
type GUID [16]byte

func (g GUID) String() string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", g[:4], g[4:6], g[6:8], g[8:10], g[10:])
}

// Types of partitions (UEFI §5.3.3; the Discoverable Partitions Specification).
var (
	TypeBIOS = GUID{0x21, 0x68, 0x61, 0x48, 0x64, 0x49, 0x6e, 0x6f, 0x74, 0x4e, 0x65, 0x65, 0x64, 0x45, 0x46, 0x49}
	TypeESP  = GUID{0xc1, 0x2a, 0x73, 0x28, 0xf8, 0x1f, 0x11, 0xd2, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b}
	TypeRoot = GUID{0x4f, 0x68, 0xbc, 0xe3, 0xe8, 0xcd, 0x4d, 0xb1, 0x96, 0xe7, 0xfb, 0xca, 0xf9, 0x84, 0xb7, 0x09}
)

// File is what an image is written to.
type File interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
}

// Part is the contents of a partition.
type Part struct {
	Size int64 // bytes
	GUID GUID
}

// Area is the part of a File that a partition takes.
type Area interface {
	io.ReaderAt
	io.WriterAt
}

type area struct {
	File
	offset int64
}

func (a area) ReadAt(p []byte, off int64) (int, error)  { return a.File.ReadAt(p, a.offset+off) }
func (a area) WriteAt(p []byte, off int64) (int, error) { return a.File.WriteAt(p, a.offset+off) }

// Config says what goes into an image.
type Config struct {
	Kernel []byte // PVH image
	// Root writes the root file system and returns its size and identity.
	Root func(Area) (Part, error)
	// CommandLine returns the kernel's command line, less than 2 KiB, once the root is written.
	CommandLine func(root GUID) string
}

// Write makes an image of c in out, which is empty.
func Write(out File, c Config) error {
	mbr, err := loader("mbr.bin")
	if err != nil {
		return err
	}
	bios, err := loader("bios.bin")
	if err != nil {
		return err
	}
	app, err := newApplication(c.Kernel)
	if err != nil {
		return err
	}
	volume, err := newVolume(int64(len(app.image)))
	if err != nil {
		return err
	}
	parts := []Partition{
		{Type: TypeBIOS, Name: "gosv-bios", First: biosStart, Sectors: sectors(int64(len(bios)))},
		{Type: TypeESP, Name: "gosv-esp", First: espStart, Sectors: volume.sectors},
	}
	root, err := writeRoot(out, parts[1], c.Root)
	if err != nil {
		return err
	}
	parts = append(parts, root)
	line := c.CommandLine(root.GUID)
	if err := app.setCommandLine(line); err != nil {
		return err
	}
	id := identity("esp", app.image)
	parts[1].GUID = id
	if bios, err = biosLoader(bios, line, espStart+volume.fileSector()+app.kernelOffset/SectorSize, int64(len(c.Kernel))); err != nil {
		return err
	}
	parts[0].GUID = identity("bios", bios)
	for _, w := range []struct {
		b     []byte
		start int64
	}{{bios, biosStart}, {volume.encode(app.image, [4]byte(id[:])), espStart}} {
		if _, err := out.WriteAt(w.b, w.start*SectorSize); err != nil {
			return err
		}
	}
	return writeTables(out, mbr, sectors(int64(len(bios))), parts)
}

// writeRoot writes the root file system behind the partition before it.
func writeRoot(out File, before Partition, write func(Area) (Part, error)) (Partition, error) {
	p := Partition{Type: TypeRoot, Name: "gosv-root"}
	p.First = (before.First + before.Sectors + alignment - 1) / alignment * alignment
	part, err := write(area{out, p.Offset()})
	if err != nil {
		return p, err
	}
	p.Sectors, p.GUID = sectors(part.Size), part.GUID
	// What was written beyond the end does not belong to it.
	return p, out.Truncate(p.Offset() + part.Size)
}

// CommandLine returns the kernel's command line in an image, as it stands in the
// loader's parameters.
func CommandLine(in io.ReaderAt, parts []Partition) (string, error) {
	p, ok := Find(parts, TypeBIOS)
	if !ok || p.Sectors > biosMost {
		return "", errors.New("the image has no boot loader of ours")
	}
	b := make([]byte, p.Size())
	if _, err := in.ReadAt(b, p.Offset()); err != nil {
		return "", err
	}
	at, err := findParams(b)
	if err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(string(b[at+commandOffset:][:MaxCommandLine]), "\x00")
	return line, nil
}

func sectors(bytes int64) int64 { return (bytes + SectorSize - 1) / SectorSize }

// identity is a GUID made from contents (RFC 9562, version 8).
func identity(kind string, b []byte) GUID {
	h := sha256.New()
	fmt.Fprintf(h, "gosv %s\n", kind)
	h.Write(b)
	return IdentityOf(h.Sum(nil))
}

// IdentityOf makes a GUID of a checksum of at least 16 bytes.
func IdentityOf(sum []byte) GUID {
	g := GUID(sum[:16])
	g[6] = g[6]&0x0f | 0x80
	g[8] = g[8]&0x3f | 0x80
	return g
}

// Params in both loaders: magic[16], kernel, size, command line[2048].
const (
	paramsMagic   = "gosv boot params"
	commandOffset = 32
	// MaxCommandLine is the longest command line, in bytes.
	MaxCommandLine = 2047
)

// patchParams fills in a loader's struct params.
func patchParams(image []byte, kernel, size int64) error {
	at, err := findParams(image)
	if err != nil {
		return err
	}
	le.PutUint64(image[at+16:], uint64(kernel))
	le.PutUint64(image[at+24:], uint64(size))
	return nil
}

func patchCommandLine(image []byte, line string) error {
	at, err := findParams(image)
	if err != nil {
		return err
	}
	if len(line) > MaxCommandLine || strings.ContainsAny(line, "\x00\n") {
		return fmt.Errorf("the kernel's command line has %d bytes; %d fit, in one line", len(line), MaxCommandLine)
	}
	field := image[at+commandOffset:][:MaxCommandLine+1]
	clear(field)
	copy(field, line)
	return nil
}

func findParams(image []byte) (int, error) {
	at := strings.Index(string(image), paramsMagic)
	if at < 0 || len(image)-at < commandOffset+MaxCommandLine+1 {
		return 0, errors.New("the boot loader has no parameters")
	}
	return at, nil
}

// biosLoader returns the loader for a kernel at a sector of the disk.
func biosLoader(code []byte, line string, kernel, size int64) ([]byte, error) {
	b := append([]byte{}, code...)
	if err := patchParams(b, kernel, size); err != nil {
		return nil, err
	}
	return b, patchCommandLine(b, line)
}
