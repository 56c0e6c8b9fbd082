// Package fuseabi has the numbers of the FUSE protocol 7.38 (linux/fuse.h of Linux 6.1) that both ends of ours use: fs/fuse, the
// kernel's, and vmm/hostfs, the host's.
package fuseabi

// Operations (linux/fuse.h, enum fuse_opcode).
const (
	OpLookup        = 1
	OpForget        = 2
	OpGetattr       = 3
	OpSetattr       = 4
	OpReadlink      = 5
	OpSymlink       = 6
	OpMknod         = 8
	OpMkdir         = 9
	OpUnlink        = 10
	OpRmdir         = 11
	OpRename        = 12
	OpLink          = 13
	OpOpen          = 14
	OpRead          = 15
	OpWrite         = 16
	OpStatfs        = 17
	OpRelease       = 18
	OpFsync         = 20
	OpSetxattr      = 21
	OpGetxattr      = 22
	OpListxattr     = 23
	OpRemovexattr   = 24
	OpFlush         = 25
	OpInit          = 26
	OpOpendir       = 27
	OpReaddir       = 28
	OpReleasedir    = 29
	OpFsyncdir      = 30
	OpAccess        = 34
	OpCreate        = 35
	OpDestroy       = 38
	OpBatchForget   = 42
	OpFallocate     = 43
	OpReaddirplus   = 44
	OpRename2       = 45
	OpLseek         = 46
	OpCopyFileRange = 47
	OpSyncfs        = 50
	OpTmpfile       = 51
)

// The version spoken: the newest whose structures are used here. Servers from LeastMinor on are understood.
const (
	Major      = 7
	Minor      = 38
	LeastMinor = 27
)

// Flags of INIT.
const (
	InitAsyncRead      = 1 << 0
	InitBigWrites      = 1 << 5
	InitDontMask       = 1 << 6
	InitAutoInval      = 1 << 12
	InitReaddirplus    = 1 << 13
	InitReaddirAuto    = 1 << 14
	InitParallelDirops = 1 << 18
	InitHandleKillpriv = 1 << 19
	InitMaxPages       = 1 << 22
	InitCacheSymlinks  = 1 << 23
)

// Bits of SETATTR's valid.
const (
	FattrMode     = 1 << 0
	FattrUID      = 1 << 1
	FattrGID      = 1 << 2
	FattrSize     = 1 << 3
	FattrAtime    = 1 << 4
	FattrMtime    = 1 << 5
	FattrFH       = 1 << 6
	FattrAtimeNow = 1 << 7
	FattrMtimeNow = 1 << 8
)

// Flags of the replies to OPEN, and of GETATTR, FSYNC and WRITE.
const (
	OpenDirectIO  = 1 << 0
	OpenKeepCache = 1 << 1

	GetattrFH     = 1 << 0 // GETATTR through a file handle
	FsyncDatasync = 1 << 0
	WriteCache    = 1 << 0 // WRITE from the page cache, not from a caller
)

// Sizes of structures in bytes.
const (
	InHeaderSize  = 40
	OutHeaderSize = 16
	AttrSize      = 88
	EntrySize     = 40 + AttrSize
	AttrOutSize   = 16 + AttrSize
	OpenOutSize   = 16
	InitInSize    = 64
	InitOutSize   = 64
	WriteInSize   = 40
	StatfsSize    = 80
	DirentSize    = 24 // before the name
)

// RootID is the node of the root directory.
const RootID = 1
