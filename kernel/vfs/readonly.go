package vfs

import (
	"gosv/kernel/cred"

	"golang.org/x/sys/unix"
)

// ReadOnlyInode is what inodes of a file system that never changes have in common: whatever would change
// them is EROFS.
type ReadOnlyInode struct{ InodeDefaults }

// Create implements InodeOps.
func (ReadOnlyInode) Create(*Inode, string, *NewNode) (*Inode, error) { return nil, unix.EROFS }

// Link implements NameOps.
func (ReadOnlyInode) Link(*Inode, *Inode, string) error { return unix.EROFS }

// Unlink implements NameOps.
func (ReadOnlyInode) Unlink(*Inode, string, *Inode) error { return unix.EROFS }

// Rename implements NameOps.
func (ReadOnlyInode) Rename(*Inode, string, *Inode, string, uint) error { return unix.EROFS }

// MayChange implements InodeOps.
func (ReadOnlyInode) MayChange(*Inode) error { return unix.EROFS }

// MaySetAttr implements InodeOps.
func (ReadOnlyInode) MaySetAttr(*Inode) error { return unix.EROFS }

// Refresh implements AttrOps.
func (ReadOnlyInode) Refresh(*Inode) error { return nil }

// SetAttr implements AttrOps.
func (ReadOnlyInode) SetAttr(*cred.Cred, *Inode, *Attr) error { return unix.EROFS }

// Setxattr implements XattrOps.
func (ReadOnlyInode) Setxattr(*Inode, string, []byte, int) error { return unix.EROFS }

// Removexattr implements XattrOps.
func (ReadOnlyInode) Removexattr(*Inode, string) error { return unix.EROFS }

// An Opener finds the image that a request names, and returns what is called when it is not used any more.
type Opener[Image any] func(*MountRequest) (Image, func(), error)

// ImageType returns the type of file systems that lie on an image: find finds it, and mount mounts it, and calls closed when it was
// unmounted, not after an error.
func ImageType[Image any](name string, find Opener[Image], mount func(_ Image, _ *MountRequest, closed func()) (*FS, error)) Type {
	return Type{Name: name, OnDevice: true, New: func(r *MountRequest) (*FS, error) {
		image, closed, err := find(r)
		if err != nil {
			return nil, err
		}
		fs, err := mount(image, r, closed)
		if err != nil {
			closed()
		}
		return fs, err
	}}
}
