package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"unicode/utf16"
)

var le = binary.LittleEndian

const (
	gptEntries   = 128
	gptEntrySize = 128
	tableSectors = gptEntries * gptEntrySize / SectorSize
	gptHeader    = 92
	gptSignature = "EFI PART"
	biosMost     = 64 // sectors; they fit between 0x8000 and 0x10000
)

// Partition is an entry of a partition table.
type Partition struct {
	Type    GUID
	GUID    GUID
	Name    string
	Number  int   // from 1, as in /dev/vda1
	First   int64 // sector
	Sectors int64
}

// Offset returns the partition's first byte on the disk.
func (p Partition) Offset() int64 { return p.First * SectorSize }

// Size returns how many bytes the partition has.
func (p Partition) Size() int64 { return p.Sectors * SectorSize }

// writeTables writes the master boot record and both partition tables, and gives
// the disk its size.
func writeTables(out File, mbr []byte, loaderSectors int64, parts []Partition) error {
	last := parts[len(parts)-1]
	end := (last.First+last.Sectors+tableSectors+1+alignment-1)/alignment*alignment - 1 // the last sector
	if err := out.Truncate((end + 1) * SectorSize); err != nil {
		return err
	}
	boot, err := bootRecord(mbr, loaderSectors, end)
	if err != nil {
		return err
	}
	table := make([]byte, gptEntries*gptEntrySize)
	for i, p := range parts {
		encodeEntry(table[i*gptEntrySize:], p)
	}
	id := identity("disk", table)
	for _, w := range []struct {
		b  []byte
		at int64
	}{
		{boot, 0}, {encodeHeader(table, id, 1, end, 2, end), 1}, {table, 2},
		{table, end - tableSectors}, {encodeHeader(table, id, end, 1, end-tableSectors, end), end},
	} {
		if _, err := out.WriteAt(w.b, w.at*SectorSize); err != nil {
			return err
		}
	}
	return nil
}

// bootRecord is the first sector: boot code, and one entry for the whole disk
// (UEFI §5.2.3). Some BIOSes boot only from an active partition, so it is one.
func bootRecord(code []byte, loaderSectors, end int64) ([]byte, error) {
	const codeSize = 440
	at := bytes.Index(code, []byte("PACKET"))
	if at < 0 || len(code) > codeSize || loaderSectors > biosMost {
		return nil, errors.New("the boot record does not fit its place")
	}
	b := make([]byte, SectorSize)
	copy(b, code)
	packet := b[(at+6+3)&^3:]
	le.PutUint16(packet[2:], uint16(loaderSectors))
	le.PutUint64(packet[8:], biosStart)
	entry := b[446:]
	entry[0] = 0x80
	copy(entry[1:], []byte{0, 2, 0, 0xee, 0xff, 0xff, 0xff})
	le.PutUint32(entry[8:], 1)
	le.PutUint32(entry[12:], uint32(min(end, 0xffffffff)))
	b[510], b[511] = 0x55, 0xaa
	return b, nil
}

// mixed is a GUID as it lies on a disk: the first three parts little-endian.
func mixed(g GUID) []byte {
	return []byte{g[3], g[2], g[1], g[0], g[5], g[4], g[7], g[6], g[8], g[9], g[10], g[11], g[12], g[13], g[14], g[15]}
}

func encodeEntry(b []byte, p Partition) {
	copy(b, mixed(p.Type))
	copy(b[16:], mixed(p.GUID))
	le.PutUint64(b[32:], uint64(p.First))
	le.PutUint64(b[40:], uint64(p.First+p.Sectors-1))
	for i, u := range utf16.Encode([]rune(p.Name)) {
		le.PutUint16(b[56+2*i:], u)
	}
}

func encodeHeader(table []byte, id GUID, self, other, entries, end int64) []byte {
	b := make([]byte, SectorSize)
	copy(b, gptSignature)
	le.PutUint32(b[8:], 0x00010000)
	le.PutUint32(b[12:], gptHeader)
	le.PutUint64(b[24:], uint64(self))
	le.PutUint64(b[32:], uint64(other))
	le.PutUint64(b[40:], 2+tableSectors)
	le.PutUint64(b[48:], uint64(end-tableSectors-1))
	copy(b[56:], mixed(id))
	le.PutUint64(b[72:], uint64(entries))
	le.PutUint32(b[80:], gptEntries)
	le.PutUint32(b[84:], gptEntrySize)
	le.PutUint32(b[88:], crc32.ChecksumIEEE(table))
	le.PutUint32(b[16:], crc32.ChecksumIEEE(b[:gptHeader]))
	return b
}

// ErrNoTable says that a disk has no GPT.
var ErrNoTable = errors.New("no GUID partition table")

// Partitions reads the first partition table of a disk of size bytes.
func Partitions(in io.ReaderAt, size int64) ([]Partition, error) {
	b := make([]byte, SectorSize)
	if size < 3*SectorSize {
		return nil, ErrNoTable
	}
	if _, err := in.ReadAt(b, SectorSize); err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(b, []byte(gptSignature)) {
		return nil, ErrNoTable
	}
	sum := le.Uint32(b[16:])
	le.PutUint32(b[16:], 0)
	count, each := int64(le.Uint32(b[80:])), int64(le.Uint32(b[84:]))
	if le.Uint32(b[12:]) != gptHeader || crc32.ChecksumIEEE(b[:gptHeader]) != sum || count > 1024 || each != gptEntrySize {
		return nil, errors.New("the partition table's header is damaged")
	}
	at := le.Uint64(b[72:])
	if at > uint64(size/SectorSize) {
		return nil, errors.New("the partition table lies outside the disk")
	}
	table := make([]byte, count*each)
	if _, err := in.ReadAt(table, int64(at)*SectorSize); err != nil {
		return nil, fmt.Errorf("the partition table: %w", err)
	}
	if crc32.ChecksumIEEE(table) != le.Uint32(b[88:]) {
		return nil, errors.New("the partition table is damaged")
	}
	var parts []Partition
	for n := range count {
		p := decodeEntry(table[n*each:])
		p.Number = int(n) + 1
		if p.Type == (GUID{}) {
			continue
		}
		if p.First < 1 || p.Sectors < 1 || p.First > size/SectorSize || p.Sectors > size/SectorSize-p.First {
			return nil, fmt.Errorf("partition %q lies outside the disk: is the image truncated?", p.Name)
		}
		parts = append(parts, p)
	}
	return parts, nil
}

func decodeEntry(e []byte) Partition {
	p := Partition{Type: GUID(mixed(GUID(e[:16]))), GUID: GUID(mixed(GUID(e[16:32])))}
	first, last := le.Uint64(e[32:]), le.Uint64(e[40:])
	if first < 1<<54 && last < 1<<54 {
		p.First, p.Sectors = int64(first), int64(last)-int64(first)+1
	}
	name := make([]uint16, 36)
	for i := range name {
		name[i] = le.Uint16(e[56+2*i:])
	}
	p.Name, _, _ = strings.Cut(string(utf16.Decode(name)), "\x00")
	return p
}

// Find returns the first partition of a type.
func Find(parts []Partition, kind GUID) (Partition, bool) {
	for _, p := range parts {
		if p.Type == kind {
			return p, true
		}
	}
	return Partition{}, false
}
