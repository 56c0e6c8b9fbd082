package iouring

import (
	"sync"

	"gosv/kernel/share"
	"gosv/kernel/vfs"
)

// resources are what io_uring_register(2) and IORING_OP_PROVIDE_BUFFERS give a ring: files (files.go), buffers (buffers.go) and groups
// of buffers to choose from (groups.go).
type resources struct {
	mu sync.Mutex
	// +checklocks:mu
	files []*vfs.File // nil: none registered
	// +checklocks:mu
	from uint32 // the range that a direct descriptor is taken from
	// +checklocks:mu
	to uint32
	// +checklocks:mu
	buffers []Range
	// +checklocks:mu
	groups map[uint16]*group
	// +checklocks:mu
	gone bool // after release: there are no more groups
}

func (s *resources) release() {
	s.mu.Lock()
	files := s.files
	for _, g := range s.groups {
		share.Rings.Give(g.cost())
	}
	s.files, s.buffers, s.groups, s.gone = nil, nil, nil, true
	s.mu.Unlock()
	for _, f := range files {
		if f != nil {
			f.DecRef()
		}
	}
}
