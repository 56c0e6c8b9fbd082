// Package coredump writes what a core file holds (core(5), elf(5)), as Linux's fs/binfmt_elf.c lays it out: an ELF header, program headers,
// the notes that describe the process and its threads, and the memory. It knows bytes and numbers only; kernel/task collects them.
//
// A file is: Headers, then the notes (ProcessNotes and ThreadNotes; those of the thread that died come first), then zeros to
// the next page, then what each segment holds, one after the other.
package coredump

import (
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"
)

var le = binary.LittleEndian

const (
	pageSize   = 4096
	headerSize = 64 // Elf64_Ehdr
	phdrSize   = 56 // Elf64_Phdr
	noteSize   = 12 // Elf64_Nhdr

	typeCore     = 4 // ET_CORE
	machineX8664 = 62
	phdrLoad     = 1
	phdrNote     = 4

	// MaxSegments is how many segments the headers can count (PN_XNUM).
	MaxSegments = 0xfffe
	// MaxFiles is how many bytes the names of mapped files may take; with more, there is no NT_FILE.
	MaxFiles = 1 << 20
)

// Types of notes (elf(5)).
const (
	ntPRStatus = 1
	ntFPRegSet = 2
	ntPRPSInfo = 3
	ntAuxv     = 6
	ntXState   = 0x202
	ntSigInfo  = 0x53494749
	ntFile     = 0x46494c45
)

// Sizes of struct elf_prstatus, struct elf_prpsinfo and struct user_fpregs_struct.
const (
	prStatusSize = 336
	prPSInfoSize = 136
	fpRegsSize   = 512
)

// ErrSegments says that there are more segments than MaxSegments.
var ErrSegments = errors.New("coredump: too many segments")

// A Segment is a range of memory, of which the first Filled bytes are in the file. All are whole pages.
type Segment struct {
	Start, End, Filled uint64
	Prot               int // PROT_*
}

// IDs are numbers of a thread or process, as its own namespace has them.
type IDs struct{ ID, Parent, Group, Session int32 }

// A Thread is a thread as it was when the process died. Times are in nanoseconds.
type Thread struct {
	IDs
	Signal                           int32 // what the process died of, in each thread
	Pending, Blocked                 uint64
	User, System, KidUser, KidSystem int64
	Regs                             [27]uint64 // struct user_regs_struct
	Float                            []byte     // in the format of XSAVE, or FXSAVE alone
}

// A Process is what is told of the process as a whole.
type Process struct {
	IDs
	Nice     int8
	UID, GID uint32
	Comm     string
	Args     []byte // command line, with NUL between the arguments; cut to 80 bytes
	SigInfo  []byte // siginfo_t of what killed it
	Auxv     []byte
	Files    []byte // of a FileTable, nil for none
}

// align4 is the size of a note's name or contents in the file.
func align4(n int) int { return (n + 3) &^ 3 }

// note appends a note.
func note(b []byte, name string, kind uint32, desc []byte) []byte {
	b = le.AppendUint32(b, uint32(len(name)+1))
	b = le.AppendUint32(b, uint32(len(desc)))
	b = le.AppendUint32(b, kind)
	b = append(append(b, name...), make([]byte, align4(len(name)+1)-len(name))...)
	return append(append(b, desc...), make([]byte, align4(len(desc))-len(desc))...)
}

// lengthOf is the length of a note named CORE or LINUX.
func lengthOf(name string, desc int) int { return noteSize + align4(len(name)+1) + align4(desc) }

// ThreadLength is the length of a thread's notes with so many bytes of floating-point state.
func ThreadLength(float int) int {
	n := lengthOf("CORE", prStatusSize) + lengthOf("CORE", fpRegsSize)
	if float > fpRegsSize {
		n += lengthOf("LINUX", float)
	}
	return n
}

// Length is the length of p's own notes.
func (p *Process) Length() int {
	n := lengthOf("CORE", prPSInfoSize) + lengthOf("CORE", len(p.SigInfo)) + lengthOf("CORE", len(p.Auxv))
	if p.Files != nil {
		n += lengthOf("CORE", len(p.Files))
	}
	return n
}

// Headers returns the ELF header and the program headers for so many bytes of notes, and where in the file the first segment begins.
func Headers(notes int, segments []Segment) (b []byte, data uint64, err error) {
	if len(segments) >= MaxSegments {
		return nil, 0, ErrSegments
	}
	size := headerSize + phdrSize*(len(segments)+1)
	b = make([]byte, headerSize, size)
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], typeCore)
	le.PutUint16(b[18:], machineX8664)
	le.PutUint32(b[20:], 1)
	le.PutUint64(b[32:], headerSize)
	le.PutUint16(b[52:], headerSize)
	le.PutUint16(b[54:], phdrSize)
	le.PutUint16(b[56:], uint16(len(segments)+1))
	b = phdr(b, phdrNote, 0, uint64(size), 0, uint64(notes), 0, 4)
	data = (uint64(size+notes) + pageSize - 1) &^ (pageSize - 1)
	at := data
	for _, s := range segments {
		b = phdr(b, phdrLoad, elfFlags(s.Prot), at, s.Start, s.Filled, s.End-s.Start, pageSize)
		at += s.Filled
	}
	return b, data, nil
}

// elfFlags turns PROT_* into PF_*, which has them the other way round.
func elfFlags(prot int) (f uint32) {
	if prot&unix.PROT_READ != 0 {
		f |= 4
	}
	if prot&unix.PROT_WRITE != 0 {
		f |= 2
	}
	if prot&unix.PROT_EXEC != 0 {
		f |= 1
	}
	return f
}

func phdr(b []byte, kind, flags uint32, offset, addr, filled, length, align uint64) []byte {
	b = le.AppendUint32(b, kind)
	b = le.AppendUint32(b, flags)
	for _, v := range [...]uint64{offset, addr, 0, filled, length, align} {
		b = le.AppendUint64(b, v)
	}
	return b
}

// StatusNote returns the first of a thread's notes; between it and FloatNotes those of the process stand, in the thread that died.
func StatusNote(t *Thread, info []byte) []byte {
	d := make([]byte, prStatusSize)
	if len(info) >= 12 { // si_signo, si_errno, si_code, where the file has the last two the other way round
		copy(d[0:], info[0:4])
		copy(d[4:], info[8:12])
		copy(d[8:], info[4:8])
	}
	le.PutUint16(d[12:], uint16(t.Signal))
	le.PutUint64(d[16:], t.Pending)
	le.PutUint64(d[24:], t.Blocked)
	putIDs(d[32:], &t.IDs)
	for i, ns := range [...]int64{t.User, t.System, t.KidUser, t.KidSystem} {
		le.PutUint64(d[48+16*i:], uint64(ns/1e9))
		le.PutUint64(d[56+16*i:], uint64(ns%1e9/1e3))
	}
	for i, r := range t.Regs {
		le.PutUint64(d[112+8*i:], r)
	}
	le.PutUint32(d[328:], 1) // there are floating-point registers
	return note(nil, "CORE", ntPRStatus, d)
}

// FloatNotes returns the others.
func FloatNotes(t *Thread) []byte {
	fx := make([]byte, fpRegsSize)
	copy(fx, t.Float)
	b := note(nil, "CORE", ntFPRegSet, fx)
	if len(t.Float) > fpRegsSize {
		b = note(b, "LINUX", ntXState, t.Float)
	}
	return b
}

func putIDs(b []byte, ids *IDs) {
	for i, v := range [...]int32{ids.ID, ids.Parent, ids.Group, ids.Session} {
		le.PutUint32(b[4*i:], uint32(v))
	}
}

// Notes returns the notes of the process.
func (p *Process) Notes() []byte {
	d := make([]byte, prPSInfoSize)
	d[1] = 'R'
	d[3] = byte(p.Nice)
	le.PutUint32(d[16:], p.UID)
	le.PutUint32(d[20:], p.GID)
	putIDs(d[24:], &p.IDs)
	copy(d[40:55], p.Comm)
	args := d[56 : 56+min(len(p.Args), 79)]
	copy(args, p.Args)
	for i, c := range args {
		if c == 0 {
			args[i] = ' '
		}
	}
	b := note(nil, "CORE", ntPRPSInfo, d)
	b = note(b, "CORE", ntSigInfo, p.SigInfo)
	b = note(b, "CORE", ntAuxv, p.Auxv)
	if p.Files != nil {
		b = note(b, "CORE", ntFile, p.Files)
	}
	return b
}

// A FileTable collects the contents of NT_FILE: which files are mapped where.
type FileTable struct {
	ranges, names []byte
	n             uint64
}

// Add adds a mapping of a file from its page on. It does nothing once the table has become too long.
func (f *FileTable) Add(start, end, page uint64, name string) {
	if f.tooLong() {
		return
	}
	for _, v := range [...]uint64{start, end, page} {
		f.ranges = le.AppendUint64(f.ranges, v)
	}
	f.names = append(append(f.names, name...), 0)
	f.n++
}

func (f *FileTable) tooLong() bool { return len(f.ranges)+len(f.names) > MaxFiles }

// Bytes returns the table, nil when it is too long.
func (f *FileTable) Bytes() []byte {
	if f.tooLong() {
		return nil
	}
	b := le.AppendUint64(nil, f.n)
	b = le.AppendUint64(b, pageSize)
	return append(append(b, f.ranges...), f.names...)
}
