package iouring

import "encoding/binary"

// Flags of io_uring_setup(2).
const (
	SetupIOPoll       = 1 << 0
	SetupSQPoll       = 1 << 1
	SetupSQAff        = 1 << 2
	SetupCQSize       = 1 << 3
	SetupClamp        = 1 << 4
	SetupAttachWQ     = 1 << 5
	SetupRDisabled    = 1 << 6
	SetupSubmitAll    = 1 << 7
	SetupCoopTaskrun  = 1 << 8
	SetupTaskrunFlag  = 1 << 9
	SetupSQE128       = 1 << 10
	SetupCQE32        = 1 << 11
	SetupSingleIssuer = 1 << 12
	SetupDeferTaskrun = 1 << 13
)

// Features that io_uring_setup(2) tells: SINGLE_MMAP, NODROP, SUBMIT_STABLE, RW_CUR_POS, CUR_PERSONALITY, FAST_POLL, POLL_32BITS,
// SQPOLL_NONFIXED, EXT_ARG, NATIVE_WORKERS, CQE_SKIP, LINKED_FILE.
const Features = 1<<0 | 1<<1 | 1<<2 | 1<<3 | 1<<4 | 1<<5 | 1<<6 | 1<<7 | 1<<8 | 1<<9 | 1<<11 | 1<<12

// Offsets at which the parts are mapped.
const (
	OffSQRing = 0
	OffCQRing = 0x8000000
	OffSQEs   = 0x10000000
)

// Flags of a submission.
const (
	FixedFile    = 1 << 0
	Drain        = 1 << 1
	Link         = 1 << 2
	HardLink     = 1 << 3
	Async        = 1 << 4
	BufferSelect = 1 << 5
	SkipSuccess  = 1 << 6
	allFlags     = 1<<7 - 1
)

// Flags of a completion.
const (
	CQEBuffer      = 1 << 0
	CQEMore        = 1 << 1
	CQENotif       = 1 << 3
	CQEBufferShift = 16
)

// Operations that the ring itself must know.
const (
	OpTimeout     = 11
	OpLinkTimeout = 15
)

// SQE is a struct io_uring_sqe.
type SQE struct {
	Opcode, Flags uint8
	Ioprio        uint16
	FD            int32
	Off, Addr     uint64
	Len, OpFlags  uint32
	UserData      uint64
	Buf           uint16
	Personality   uint16
	FileIndex     uint32
	Addr3, Pad    uint64
}

// sizeofSQE is the size of a struct io_uring_sqe.
const sizeofSQE = 64

func getSQE(b *[sizeofSQE]byte) SQE {
	le := binary.LittleEndian
	return SQE{Opcode: b[0], Flags: b[1], Ioprio: le.Uint16(b[2:]), FD: int32(le.Uint32(b[4:])), Off: le.Uint64(b[8:]), Addr: le.Uint64(b[16:]),
		Len: le.Uint32(b[24:]), OpFlags: le.Uint32(b[28:]), UserData: le.Uint64(b[32:]), Buf: le.Uint16(b[40:]), Personality: le.Uint16(b[42:]),
		FileIndex: le.Uint32(b[44:]), Addr3: le.Uint64(b[48:]), Pad: le.Uint64(b[56:])}
}

// sizeofCQE is the size of a struct io_uring_cqe.
const sizeofCQE = 16

// cqe is a struct io_uring_cqe.
type cqe struct {
	userData uint64
	res      int32
	flags    uint32
}

// Params is a struct io_uring_params, without what the kernel fills in.
type Params struct {
	SQEntries, CQEntries, Flags, SQCPU uint32
}

// SizeofParams is the size of a struct io_uring_params.
const SizeofParams = 120

// GetParams reads one: ok is false when a reserved field is not 0.
func GetParams(b []byte) (p Params, wq int32, ok bool) {
	le := binary.LittleEndian
	p = Params{SQEntries: le.Uint32(b), CQEntries: le.Uint32(b[4:]), Flags: le.Uint32(b[8:]), SQCPU: le.Uint32(b[12:])}
	return p, int32(le.Uint32(b[24:])), le.Uint32(b[28:]) == 0 && le.Uint64(b[32:]) == 0
}

// PutParams stores what io_uring_setup(2) tells of a ring.
func (r *Ring) PutParams(b []byte) {
	le := binary.LittleEndian
	le.PutUint32(b, r.sqEntries)
	le.PutUint32(b[4:], r.cqEntries)
	le.PutUint32(b[20:], Features)
	for i, v := range []uint32{offSQHead, offSQTail, offSQMask, offSQEntries, offSQFlags, offSQDropped, r.offArray} {
		le.PutUint32(b[40+4*i:], v)
	}
	for i, v := range []uint32{offCQHead, offCQTail, offCQMask, offCQEntries, offCQOverflow, offCQEs, offCQFlags} {
		le.PutUint32(b[80+4*i:], v)
	}
}
