package block

import (
	"encoding/binary"
	"hash/crc32"
	"strconv"
	"unicode/utf16"
)

// An Entry is one partition of a partition table.
type Entry struct {
	Number      int   // from 1
	Start, Size int64 // bytes
	Label, UUID string
}

// Bounds of what is believed of a table.
const (
	maxEntries     = 256 // partitions of a disk
	maxEntrySize   = 4096
	maxGPTEntries  = 1024
	maxExtended    = 64 // links of a chain of extended partitions
	firstLogical   = 5
	gptSignature   = "EFI PART"
	gptHeaderLeast = 92
	protectiveMBR  = 0xee
)

// source is what a table is read from.
type source interface {
	Limits() Limits
	ReadAt(p []byte, off int64) error
}

// ReadTable reads the partition table of a disk: GPT (UEFI 2.10 §5.3), its backup when the first is damaged, or MBR with
// logical partitions. No table gives no entries. Entries that overlap the disk's end are left out; the error is that
// of the disk.
func ReadTable(d source) ([]Entry, error) {
	l := d.Limits()
	block := int64(l.BlockSize)
	if l.Size < 2*block {
		return nil, nil
	}
	mbr := make([]byte, block)
	if err := d.ReadAt(mbr, 0); err != nil {
		return nil, err
	}
	if mbr[510] != 0x55 || mbr[511] != 0xaa {
		return nil, nil
	}
	for i := range 4 {
		if mbr[446+16*i+4] == protectiveMBR {
			for _, at := range [...]int64{block, l.Size - block} {
				list, ok, err := readGPT(d, at)
				if err != nil || ok {
					return list, err
				}
			}
			return nil, nil
		}
	}
	if isFileSystem(mbr) {
		return nil, nil
	}
	return readMBR(d, mbr)
}

// isFileSystem recognises the boot sector of a FAT or NTFS file system, which has an MBR's signature too.
func isFileSystem(b []byte) bool {
	for i := range 4 {
		if b[446+16*i]&0x7f != 0 { // a status other than 0 and 0x80
			return true
		}
	}
	return false
}

// readGPT reads the table whose header is at the byte at; ok is false when it is not valid.
func readGPT(d source, at int64) (list []Entry, ok bool, err error) {
	l := d.Limits()
	block := int64(l.BlockSize)
	h := make([]byte, block)
	if err := d.ReadAt(h, at); err != nil {
		return nil, false, err
	}
	le := binary.LittleEndian
	size := le.Uint32(h[12:])
	if string(h[:8]) != gptSignature || size < gptHeaderLeast || int64(size) > block {
		return nil, false, nil
	}
	sum := le.Uint32(h[16:])
	le.PutUint32(h[16:], 0)
	if crc32.ChecksumIEEE(h[:size]) != sum || le.Uint64(h[24:]) != uint64(at/block) {
		return nil, false, nil
	}
	first, n, entry := le.Uint64(h[72:]), le.Uint32(h[80:]), le.Uint32(h[84:])
	if n == 0 || n > maxGPTEntries || entry < 128 || entry > maxEntrySize || entry&(entry-1) != 0 {
		return nil, false, nil
	}
	length := int64(n) * int64(entry)
	blocks := uint64(l.Size / block)
	need := uint64((length + block - 1) / block)
	if first < 2 || first >= blocks || need > blocks-first {
		return nil, false, nil
	}
	table := make([]byte, int64(need)*block)
	if err := d.ReadAt(table, int64(first)*block); err != nil {
		return nil, false, err
	}
	if crc32.ChecksumIEEE(table[:length]) != le.Uint32(h[88:]) {
		return nil, false, nil
	}
	for i := range int(n) {
		e := table[i*int(entry):][:128]
		if [16]byte(e[:16]) == [16]byte{} || len(list) == maxEntries {
			continue
		}
		from, to := le.Uint64(e[32:]), le.Uint64(e[40:])
		if from > to || to >= blocks {
			continue
		}
		list = append(list, Entry{Number: i + 1, Start: int64(from) * block, Size: int64(to-from+1) * block,
			Label: gptName(e[56:128]), UUID: GUID([16]byte(e[16:32]))})
	}
	return list, true, nil
}

func gptName(b []byte) string {
	var u []uint16
	for ; len(b) >= 2; b = b[2:] {
		c := binary.LittleEndian.Uint16(b)
		if c == 0 {
			break
		}
		u = append(u, c)
	}
	return string(utf16.Decode(u))
}

// GUID formats a GUID as UEFI stores it, its first three fields with the low byte first.
func GUID(g [16]byte) string {
	const digits = "0123456789abcdef"
	out := make([]byte, 0, 36)
	for n, i := range [...]int{3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15} {
		if n == 4 || n == 6 || n == 8 || n == 10 {
			out = append(out, '-')
		}
		out = append(out, digits[g[i]>>4], digits[g[i]&15])
	}
	return string(out)
}

// isExtended reports whether an MBR's type byte means a container of logical partitions.
func isExtended(typ byte) bool { return typ == 0x05 || typ == 0x0f || typ == 0x85 }

// readMBR reads the four primary partitions and the logical ones. Offsets are in logical blocks.
func readMBR(d source, mbr []byte) (list []Entry, err error) {
	l := d.Limits()
	block := int64(l.BlockSize)
	le := binary.LittleEndian
	signature := strconv.FormatUint(1<<32|uint64(le.Uint32(mbr[440:])), 16)[1:]
	add := func(number int, start, size int64) {
		if size > 0 && start > 0 && start < l.Size && size <= l.Size-start && len(list) < maxEntries {
			list = append(list, Entry{Number: number, Start: start, Size: size, UUID: signature + "-" + hex2(number)})
		}
	}
	var extended, end int64
	for i := range 4 {
		e := mbr[446+16*i:][:16]
		start, size := int64(le.Uint32(e[8:]))*block, int64(le.Uint32(e[12:]))*block
		switch {
		case e[4] == 0:
		case isExtended(e[4]):
			// Linux shows the container as two sectors, enough for a boot loader.
			add(i+1, start, min(size, max(block, 2*SectorSize)))
			if extended == 0 {
				extended, end = start, min(start+size, l.Size)
			}
		default:
			add(i+1, start, size)
		}
	}
	// Each link of the chain holds one logical partition and the way to the next link.
	next := extended
	sector := make([]byte, block)
	for n, link := firstLogical, 0; next > 0 && next <= end-block && link < maxExtended; link++ {
		if err := d.ReadAt(sector, next); err != nil {
			return list, nil //nolint: the primary partitions are good
		}
		if sector[510] != 0x55 || sector[511] != 0xaa {
			break
		}
		at := next
		next = 0
		for i := range 2 {
			e := sector[446+16*i:][:16]
			start, size := int64(le.Uint32(e[8:]))*block, int64(le.Uint32(e[12:]))*block
			switch {
			case e[4] == 0 || size == 0:
			case isExtended(e[4]):
				next = extended + start
			case at+start < end && size <= end-at-start:
				add(n, at+start, size)
				n++
			}
		}
	}
	return list, nil
}

func hex2(n int) string {
	const digits = "0123456789abcdef"
	return string([]byte{digits[n>>4&15], digits[n&15]})
}
