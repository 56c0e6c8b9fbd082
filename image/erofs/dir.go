package erofs

import (
	"encoding/binary"
	"maps"
	"slices"
)

// directoryPages sorts the names of a directory, "." and ".." among them, into
// blocks, and returns its size.
func directoryPages(entries map[string]*Inode) (pages [][]string, size int64) {
	names := append(slices.Collect(maps.Keys(entries)), ".", "..")
	slices.Sort(names)
	used := BlockSize
	for _, name := range names {
		if used+direntSize+len(name) > BlockSize {
			pages, used = append(pages, nil), 0
		}
		last := len(pages) - 1
		pages[last] = append(pages[last], name)
		used += direntSize + len(name)
	}
	return pages, int64((len(pages)-1)*BlockSize + used)
}

// directories fills the directories, now that all inodes have their numbers.
func (w *writer) directories() error {
	for _, n := range w.inodes {
		if n.kind() != ModeDir {
			continue
		}
		for i, page := range n.pages {
			b := w.page(n, page)
			if i == len(n.pages)-1 && n.tail != nil {
				copy(n.tail, b)
				continue
			}
			w.id.Write(b)
			if _, err := w.out.WriteAt(b, (int64(n.union)+int64(i))*BlockSize); err != nil {
				return err
			}
		}
	}
	return nil
}

// page encodes one block of a directory.
func (w *writer) page(n *inode, names []string) []byte {
	b := make([]byte, BlockSize)
	offset := len(names) * direntSize
	for i, name := range names {
		target := n
		switch name {
		case ".":
		case "..":
			target = n.parent
		default:
			target = w.index[n.Entries[name]]
		}
		e := b[i*direntSize:]
		binary.LittleEndian.PutUint64(e, uint64(target.nid))
		binary.LittleEndian.PutUint16(e[8:], uint16(offset))
		e[10] = direntType(target.Mode)
		offset += copy(b[offset:], name)
	}
	return b
}
