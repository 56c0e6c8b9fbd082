// Package virtiofs mounts the file systems that virtio devices bring, by their tags (mount -t virtiofs TAG /mnt): FUSE over whatever
// carries its messages.
//
// Tags.mu is held while a file system is made, which waits for its server.
package virtiofs

import (
	"sync"

	"golang.org/x/sys/unix"

	"gosv/fs/fuse"
	"gosv/kernel/mem"
	"gosv/kernel/vfs"
)

// Name is the type's name.
const Name = "virtiofs"

// Tags are the machine's devices. Fields are set before use.
type Tags struct {
	Pool            *mem.Pool
	Wall, Monotonic func() int64

	mu      sync.Mutex
	servers map[string]fuse.Transport // guarded by mu
	mounted map[string]*vfs.FS        // guarded by mu
}

// Add makes a device known; it reports false when its tag is taken.
func (t *Tags) Add(tag string, server fuse.Transport) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.servers == nil {
		t.servers, t.mounted = map[string]fuse.Transport{}, map[string]*vfs.FS{}
	}
	if t.servers[tag] != nil {
		return false
	}
	t.servers[tag] = server
	return true
}

// Gone says that the server behind a tag is gone: what programs ask of it fails from now on.
func (t *Tags) Gone(tag string) {
	t.mu.Lock()
	server := t.servers[tag]
	t.mu.Unlock()
	if server != nil {
		server.Close()
	}
}

// Type returns the type of file system for mount(2). The only option is dax, whose value must not ask for it.
func (t *Tags) Type() vfs.Type { return vfs.Type{Name: Name, New: t.mount} }

// mount returns the file system of a tag: a device has one, however often it is mounted.
func (t *Tags) mount(r *vfs.MountRequest) (*vfs.FS, error) {
	if err := r.EachOption(func(key, value string) bool { return key == "dax" && (value == "never" || value == "inode") }); err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	server := t.servers[r.Source]
	if server == nil {
		return nil, r.Fail(unix.EINVAL, "no device has the tag "+r.Source)
	}
	if fs := t.mounted[r.Source]; fs != nil {
		return fs, nil
	}
	fs, err := fuse.New(fuse.Config{Transport: server, Pool: t.Pool, Wall: t.Wall, Monotonic: t.Monotonic, Type: Name, Unmounted: func() {
		t.mu.Lock()
		delete(t.mounted, r.Source)
		t.mu.Unlock()
	}})
	if err != nil {
		return nil, r.Fail(err, "the server of "+r.Source+" does not answer as it should")
	}
	t.mounted[r.Source] = fs
	return fs, nil
}
