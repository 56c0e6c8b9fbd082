package fuse

// Operations (linux/fuse.h, enum fuse_opcode).
const (
	opLookup        = 1
	opForget        = 2
	opGetattr       = 3
	opSetattr       = 4
	opReadlink      = 5
	opSymlink       = 6
	opMknod         = 8
	opMkdir         = 9
	opUnlink        = 10
	opRmdir         = 11
	opRename        = 12
	opLink          = 13
	opOpen          = 14
	opRead          = 15
	opWrite         = 16
	opStatfs        = 17
	opRelease       = 18
	opFsync         = 20
	opSetxattr      = 21
	opGetxattr      = 22
	opListxattr     = 23
	opRemovexattr   = 24
	opInit          = 26
	opOpendir       = 27
	opReaddir       = 28
	opReleasedir    = 29
	opFsyncdir      = 30
	opCreate        = 35
	opDestroy       = 38
	opBatchForget   = 42
	opFallocate     = 43
	opReaddirplus   = 44
	opRename2       = 45
	opLseek         = 46
	opCopyFileRange = 47
	opSyncfs        = 50
	opTmpfile       = 51
)

// The version spoken: the newest whose structures are used here. Servers from leastMinor on are understood.
const (
	major      = 7
	minor      = 38
	leastMinor = 27
)

// Flags of INIT.
const (
	initAsyncRead      = 1 << 0
	initBigWrites      = 1 << 5
	initDontMask       = 1 << 6
	initAutoInval      = 1 << 12
	initReaddirplus    = 1 << 13
	initReaddirAuto    = 1 << 14
	initParallelDirops = 1 << 18
	initHandleKillpriv = 1 << 19
	initMaxPages       = 1 << 22
	initCacheSymlinks  = 1 << 23

	wanted = initAsyncRead | initBigWrites | initDontMask | initAutoInval | initReaddirplus | initReaddirAuto |
		initParallelDirops | initHandleKillpriv | initMaxPages | initCacheSymlinks
)

// Bits of SETATTR's valid.
const (
	fattrMode     = 1 << 0
	fattrUID      = 1 << 1
	fattrGID      = 1 << 2
	fattrSize     = 1 << 3
	fattrAtime    = 1 << 4
	fattrMtime    = 1 << 5
	fattrFH       = 1 << 6
	fattrAtimeNow = 1 << 7
	fattrMtimeNow = 1 << 8
)

// Flags in the reply to OPEN.
const (
	openDirectIO  = 1 << 0
	openKeepCache = 1 << 1
)

const (
	getattrFH = 1 << 0 // GETATTR through a file handle

	writeCache = 1 << 0 // WRITE from the page cache, not from a caller
)

// Sizes of structures in bytes.
const (
	inHeaderSize  = 40
	outHeaderSize = 16
	attrSize      = 88
	entrySize     = 40 + attrSize
	attrOutSize   = 16 + attrSize
	openOutSize   = 16
	initInSize    = 64
	initOutSize   = 64
	statfsSize    = 80
	direntSize    = 24 // before the name
)

// rootID is the node of the root directory.
const rootID = 1
