package disk

import (
	"errors"
	"fmt"
)

// volume is a FAT16 file system ("Microsoft FAT Specification", 2005) that holds
// EFI/BOOT/BOOTX64.EFI and nothing else, in clusters that follow each other.
type volume struct {
	size     int64 // of the file, bytes
	cluster  int64 // sectors in a cluster
	clusters int64
	fat      int64 // sectors of one table
	sectors  int64
}

const (
	fatReserved = 8 // sectors, so that clusters begin at multiples of 4 KiB where they can
	fatRoot     = 32
	fatLeast    = 4085 // clusters that make a volume FAT16
	fatMost     = 65524
	fileCluster = 4 // the first two are the directories
)

func newVolume(size int64) (*volume, error) {
	v := &volume{size: size, cluster: 1}
	for {
		v.clusters = max((size+v.cluster*SectorSize-1)/(v.cluster*SectorSize)+2, fatLeast+16)
		if v.clusters <= fatMost-16 {
			break
		}
		if v.cluster *= 2; v.cluster > 64 {
			return nil, fmt.Errorf("%d bytes do not fit an EFI system partition", size)
		}
	}
	v.fat = ((v.clusters+2)*2 + SectorSize - 1) / SectorSize
	v.fat = (v.fat + 7) &^ 7
	v.sectors = v.data() + v.clusters*v.cluster
	if v.sectors > 0xffffffff {
		return nil, errors.New("the EFI system partition is too large")
	}
	return v, nil
}

// data is the sector of the first cluster.
func (v *volume) data() int64 { return fatReserved + 2*v.fat + fatRoot*32/SectorSize }

// fileSector is the first sector of the file in the volume.
func (v *volume) fileSector() int64 { return v.data() + (fileCluster-2)*v.cluster }

// encode returns the volume with its one file.
func (v *volume) encode(file []byte, serial [4]byte) []byte {
	b := make([]byte, v.sectors*SectorSize)
	v.bootSector(b, serial)
	for i := range int64(2) {
		v.table(b[(fatReserved+i*v.fat)*SectorSize:])
	}
	root := b[(fatReserved+2*v.fat)*SectorSize:]
	dirEntry(root, "EFI        ", 0x10, 2, 0)
	efi := b[v.data()*SectorSize:]
	dirEntry(efi, ".          ", 0x10, 2, 0)
	dirEntry(efi[32:], "..         ", 0x10, 0, 0)
	dirEntry(efi[64:], "BOOT       ", 0x10, 3, 0)
	boot := b[(v.data()+v.cluster)*SectorSize:]
	dirEntry(boot, ".          ", 0x10, 3, 0)
	dirEntry(boot[32:], "..         ", 0x10, 2, 0)
	dirEntry(boot[64:], "BOOTX64 EFI", 0x20, fileCluster, uint32(len(file)))
	copy(b[v.fileSector()*SectorSize:], file)
	return b
}

func (v *volume) bootSector(b []byte, serial [4]byte) {
	copy(b, []byte{0xeb, 0x3c, 0x90})
	copy(b[3:], "GOSV    ")
	le.PutUint16(b[11:], SectorSize)
	b[13] = byte(v.cluster)
	le.PutUint16(b[14:], fatReserved)
	b[16] = 2
	le.PutUint16(b[17:], fatRoot)
	if v.sectors < 1<<16 {
		le.PutUint16(b[19:], uint16(v.sectors))
	} else {
		le.PutUint32(b[32:], uint32(v.sectors))
	}
	b[21] = 0xf8
	le.PutUint16(b[22:], uint16(v.fat))
	le.PutUint16(b[24:], 63)
	le.PutUint16(b[26:], 255)
	le.PutUint32(b[28:], espStart)
	b[36], b[38] = 0x80, 0x29
	copy(b[39:], serial[:])
	copy(b[43:], "NO NAME    FAT16   ")
	b[510], b[511] = 0x55, 0xaa
}

func (v *volume) table(b []byte) {
	put := func(cluster int64, next uint16) { le.PutUint16(b[2*cluster:], next) }
	put(0, 0xfff8)
	put(1, 0xffff)
	put(2, 0xffff)
	put(3, 0xffff)
	last := fileCluster + (v.size+v.cluster*SectorSize-1)/(v.cluster*SectorSize) - 1
	for c := int64(fileCluster); c < last; c++ {
		put(c, uint16(c+1))
	}
	put(last, 0xffff)
}

// dirEntry writes a directory entry of the first day that FAT knows.
func dirEntry(b []byte, name string, attr byte, cluster uint16, size uint32) {
	const day = 1<<5 | 1 // 1980-01-01
	copy(b, name)
	b[11] = attr
	le.PutUint16(b[16:], day)
	le.PutUint16(b[18:], day)
	le.PutUint16(b[24:], day)
	le.PutUint16(b[26:], cluster)
	le.PutUint32(b[28:], size)
}
