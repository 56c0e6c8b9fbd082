// Package archtest is the project's building inspection: tests that fail when a
// boundary of the design is crossed.
//
//   - unsafe, assembly and go:linkname stay below machine/.
//   - Imports point downward: rooms says which package may use which.
//   - What runs in the guest does without the large packages of the standard
//     library.
//   - Every package says what it is.
//   - The floor, on which the Go runtime itself stands, calls nothing that
//     allocates or stores through a write barrier (see CheckFloor).
package archtest

import "strings"

// room is a part of the tree and what it may import of the module. A pattern
// ends in "/..." to take in what lies below; "." stands for the importing
// package's own folder and below.
type room struct {
	pattern string
	uses    []string
	guest   bool // runs in the virtual machine
}

// rooms is the table of the house. The first pattern that matches a package
// applies.
var rooms = []room{
	// Tools and fakes that lie beside what they are for, and run on the host.
	{"gosv/machine/fake", []string{"gosv/machine"}, false},
	{"gosv/driver/virtio/virtiotest", []string{"gosv/machine", "gosv/machine/fake", "gosv/driver/virtio"}, false},
	{"gosv/kernel/vdso/gen", nil, false},
	{"gosv/kernel/vfs/vfstest", []string{"gosv/machine", "gosv/machine/fake", "gosv/kernel/..."}, false},

	// What host and guest say to each other by the exec port.
	{"gosv/internal/frames", nil, true},
	// And by a shared folder.
	{"gosv/internal/fuseabi", nil, true},

	{"gosv/machine", nil, true},
	{"gosv/machine/...", []string{"gosv/machine/..."}, true},
	{"gosv/kernel/agent", []string{"gosv/kernel/...", "gosv/internal/frames"}, true},
	{"gosv/kernel/...", []string{"gosv/machine", "gosv/kernel/..."}, true},
	{"gosv/fs/virtiofs", []string{"gosv/kernel/...", "gosv/fs/fuse"}, true}, // FUSE by another way
	{"gosv/fs/fuse", []string{"gosv/machine", "gosv/kernel/...", "gosv/internal/fuseabi"}, true},
	{"gosv/fs/...", []string{"gosv/machine", "gosv/kernel/...", "."}, true},
	// Drivers know some mechanisms of the kernel: how bytes and packets move, how one
	// waits, and what a disk is; chardev alone makes files of them.
	{"gosv/driver/chardev", []string{"gosv/kernel/cred", "gosv/kernel/uio", "gosv/kernel/wait", "gosv/kernel/vfs"}, true},
	{"gosv/driver/...", []string{"gosv/machine", "gosv/driver/...", "gosv/kernel/block", "gosv/kernel/netdev", "gosv/kernel/uio", "gosv/kernel/wait"}, true},
	{"gosv/cmd/kernel/...", guestRooms, true},
	{"gosv/cmd/machinetest", guestRooms, false}, // a kernel for tests: its size does not matter

	{"gosv/cmd/mkkernel", []string{"gosv/image/..."}, false},
	{"gosv/cmd/gosv/...", []string{"gosv/image/...", "gosv/vmm/..."}, false},
	{"gosv/image/...", []string{"gosv/image/..."}, false},
	{"gosv/vmm/...", []string{"gosv/vmm/...", "gosv/internal/frames", "gosv/internal/fuseabi"}, false},
	{"gosv/internal/...", []string{"gosv/internal/..."}, false},
	{"gosv/examples/...", nil, false},
	{"gosv/bench/...", []string{"gosv/bench/...", "gosv/image/...", "gosv/vmm/..."}, false},
	{"gosv/test/...", []string{"gosv/test/..."}, false},
}

var guestRooms = []string{"gosv/machine/...", "gosv/kernel/...", "gosv/fs/...", "gosv/driver/..."}

// unsafeTests are packages outside machine/ whose tests, not the code, use
// unsafe: to compare the layout of structures with the host's.
var unsafeTests = []string{"gosv/kernel/abi"}

// testUses is what test files may import beyond their package's room: fakes, and
// what a test of one room needs of another to check them together.
var testUses = []string{
	"gosv/machine/fake", "gosv/driver/virtio/virtiotest", "gosv/kernel/vfs/vfstest", "gosv/fs/ramfs",
	"gosv/internal/...", "gosv/image/...", "gosv/vmm/...",
}

// guestBans are packages too large, or too fond of reflection, for the guest.
var guestBans = []string{
	"fmt", "log", "log/...", "encoding/json", "encoding/xml", "encoding/gob", "debug/...", "net", "net/...", "crypto", "crypto/...",
	"regexp", "regexp/...", "text/...", "html/...", "go/...", "os/exec", "os/signal", "testing", "flag", "math/big", "database/...", "image/...",
}

// guestOthers are the modules of others that run in the guest, and the room that may use
// each: what is not checked here (unsafe, go:linkname, large packages) is theirs by
// this exception alone. scripts/netstack says what gVisor's are cut down to.
var guestOthers = []struct{ pattern, room string }{
	{"golang.org/x/sys/unix", "gosv/..."},
	{"gvisor.dev/gvisor/pkg/tcpip/...", "gosv/kernel/net/..."},
	{"gvisor.dev/gvisor/pkg/buffer", "gosv/kernel/net/..."},
	{"gvisor.dev/gvisor/pkg/waiter", "gosv/kernel/net/..."},
}

// guestMayUse says whether a package of the guest may import one of the standard library or
// of others.
func guestMayUse(path, imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	if !strings.Contains(first, ".") {
		return true // of the standard library: guestBans has those that are too large
	}
	for _, o := range guestOthers {
		if matches(imported, o.pattern) && matches(path, o.room) {
			return true
		}
	}
	return false
}

// matches says whether a package path fits a pattern.
func matches(path, pattern string) bool {
	if dir, ok := strings.CutSuffix(pattern, "/..."); ok {
		return path == dir || strings.HasPrefix(path, dir+"/")
	}
	return path == pattern
}

func matchesAny(path string, patterns []string) bool {
	for _, p := range patterns {
		if matches(path, p) {
			return true
		}
	}
	return false
}

// roomOf returns the room of a package, nil when the house has none for it.
func roomOf(path string) *room {
	for i := range rooms {
		if matches(path, rooms[i].pattern) {
			return &rooms[i]
		}
	}
	return nil
}

// mayImport says whether the package at path, in r, may import a package of
// the module.
func (r *room) mayImport(path, imported string, test bool) bool {
	for _, p := range r.uses {
		if p == "." {
			p = path + "/..."
		}
		if matches(imported, p) {
			return true
		}
	}
	return imported == path || test && matchesAny(imported, testUses)
}
