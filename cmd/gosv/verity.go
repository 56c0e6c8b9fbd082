package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"gosv/image/disk"
	"gosv/image/rootfs"
	"gosv/image/verity"
)

// verityTree is the tree of hashes behind a root file system.
type verityTree struct {
	hash   string // its root, in hexadecimal; "" when there is none
	offset int64  // where it begins, in bytes
}

// add writes the tree behind the file system. The partition's identity is then the
// beginning of the root hash (Discoverable Partitions Specification).
func (v *verityTree) add(w disk.Area, part disk.Part) (disk.Part, error) {
	tree, root, err := verity.Tree(w, part.Size, verity.Options{UUID: part.GUID})
	if err != nil {
		return part, err
	}
	if _, err := w.WriteAt(tree, part.Size); err != nil {
		return part, err
	}
	v.hash, v.offset = hex.EncodeToString(root[:]), part.Size
	return disk.Part{Size: part.Size + int64(len(tree)), GUID: disk.GUID(root[:16])}, nil
}

// veritySetting begins the word of the kernel's command line.
const veritySetting = `gosv.verity="`

func (v *verityTree) commandLine() string {
	if v.hash == "" {
		return ""
	}
	return fmt.Sprintf(` %s%s %d"`, veritySetting, v.hash, v.offset)
}

// verityOf reads the word again.
func verityOf(commandLine string) (*rootfs.Verity, error) {
	_, rest, ok := strings.Cut(commandLine, veritySetting)
	if !ok {
		return nil, nil
	}
	text, _, _ := strings.Cut(rest, `"`)
	hash, number, _ := strings.Cut(text, " ")
	offset, err := strconv.ParseUint(number, 10, 63)
	if _, err2 := hex.DecodeString(hash); err != nil || err2 != nil || hash == "" {
		return nil, errors.New("the image's command line has a strange " + veritySetting)
	}
	return &rootfs.Verity{Hash: hash, Offset: offset}, nil
}
