package coredump

import (
	"bytes"
	"debug/elf"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// file is a core of two threads and two segments, the first of them with one page of two in the file.
func file(t *testing.T) []byte {
	var files FileTable
	files.Add(0x1000, 0x3000, 5, "/bin/a")
	info := make([]byte, 128)
	info[0], info[4], info[8] = 11, 2, 1
	p := Process{IDs: IDs{10, 1, 9, 8}, Nice: -3, UID: 7, GID: 6, Comm: "prog", Args: []byte("prog\x00-x\x00"), SigInfo: info, Auxv: make([]byte, 32), Files: files.Bytes()}
	threads := []Thread{
		{IDs: IDs{10, 1, 9, 8}, Signal: 11, User: 1_500_000_000, Regs: [27]uint64{16: 0x1234}, Float: bytes.Repeat([]byte{7}, 832)},
		{IDs: IDs{11, 1, 9, 8}, Signal: 11, Float: bytes.Repeat([]byte{8}, 832)},
	}
	segments := []Segment{{0x1000, 0x3000, 0x1000, unix.PROT_READ | unix.PROT_EXEC}, {0x8000, 0x9000, 0x1000, unix.PROT_READ | unix.PROT_WRITE}}
	notes := p.Length() + 2*ThreadLength(832)
	b, data, err := Headers(notes, segments)
	if err != nil {
		t.Fatal(err)
	}
	start := len(b)
	for i := range threads {
		b = append(b, StatusNote(&threads[i], info)...)
		if i == 0 {
			b = append(b, p.Notes()...)
		}
		b = append(b, FloatNotes(&threads[i])...)
	}
	if len(b)-start != notes {
		t.Fatalf("%d bytes of notes, %d were announced", len(b)-start, notes)
	}
	b = append(b, make([]byte, int(data)-len(b))...)
	return append(append(b, bytes.Repeat([]byte{1}, pageSize)...), bytes.Repeat([]byte{2}, pageSize)...)
}

func TestFile(t *testing.T) {
	b := file(t)
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if f.Type != elf.ET_CORE || f.Machine != elf.EM_X86_64 || len(f.Progs) != 3 {
		t.Fatalf("%v %v, %d program headers", f.Type, f.Machine, len(f.Progs))
	}
	for i, want := range []elf.ProgHeader{
		{Type: elf.PT_LOAD, Flags: elf.PF_R | elf.PF_X, Vaddr: 0x1000, Filesz: 0x1000, Memsz: 0x2000, Align: pageSize},
		{Type: elf.PT_LOAD, Flags: elf.PF_R | elf.PF_W, Vaddr: 0x8000, Filesz: 0x1000, Memsz: 0x1000, Align: pageSize},
	} {
		got := f.Progs[i+1].ProgHeader
		if got.Off%pageSize != 0 || b[got.Off] != byte(i+1) {
			t.Errorf("segment %d lies at %#x", i, got.Off)
		}
		want.Off = got.Off
		if got != want {
			t.Errorf("segment %d: %+v, want %+v", i, got, want)
		}
	}
	var kinds []uint32
	notes := b[f.Progs[0].Off:][:f.Progs[0].Filesz]
	for len(notes) > 0 {
		name, desc, kind := int(le.Uint32(notes)), int(le.Uint32(notes[4:])), le.Uint32(notes[8:])
		d := notes[noteSize+align4(name):][:desc]
		kinds = append(kinds, kind)
		switch kind {
		case ntPRStatus:
			if le.Uint32(d) != 11 || le.Uint32(d[4:]) != 1 || le.Uint32(d[8:]) != 2 || le.Uint32(d[36:]) != 1 {
				t.Errorf("status %v", d[:48])
			}
			if le.Uint32(d[32:]) == 10 && (le.Uint64(d[48:]) != 1 || le.Uint64(d[56:]) != 500_000 || le.Uint64(d[112+16*8:]) != 0x1234) {
				t.Errorf("times and registers %v", d[48:])
			}
		case ntPRPSInfo:
			if !bytes.HasPrefix(d[40:], []byte("prog\x00")) || !bytes.HasPrefix(d[56:], []byte("prog -x ")) || int8(d[3]) != -3 || d[16] != 7 || d[20] != 6 {
				t.Errorf("process %q", d)
			}
		case ntFile:
			if le.Uint64(d) != 1 || le.Uint64(d[8:]) != pageSize || le.Uint64(d[32:]) != 5 || string(d[40:]) != "/bin/a\x00" {
				t.Errorf("files %q", d)
			}
		}
		notes = notes[noteSize+align4(name)+align4(desc):]
	}
	want := []uint32{ntPRStatus, ntPRPSInfo, ntSigInfo, ntAuxv, ntFile, ntFPRegSet, ntXState, ntPRStatus, ntFPRegSet, ntXState}
	if len(kinds) != len(want) {
		t.Fatalf("notes %x", kinds)
	}
	for i := range want {
		if kinds[i] != want[i] {
			t.Errorf("note %d is %x, want %x", i, kinds[i], want[i])
		}
	}
}

func TestLimits(t *testing.T) {
	if _, _, err := Headers(0, make([]Segment, MaxSegments)); err != ErrSegments {
		t.Error(err)
	}
	var files FileTable
	for range MaxFiles/4000 + 1 {
		files.Add(0, pageSize, 0, strings.Repeat("n", 4000))
	}
	if files.Bytes() != nil || len(files.names) > MaxFiles+8000 {
		t.Errorf("a table of %d bytes", len(files.names))
	}
}

var values = Values{PID: 2, GlobalPID: 3, TID: 4, GlobalTID: 5, UID: 6, GID: 7, Signal: 11, Time: 1234, Limit: 99, Host: "h/x", Comm: "../a", Exe: "/usr/bin/prog"}

func TestName(t *testing.T) {
	withPID := values
	withPID.UsesPID = true
	dots := values
	dots.Comm, dots.Host = "..", ""
	for _, c := range []struct {
		pattern, want string
		v             *Values
	}{
		{"core", "core", &values},
		{"core", "core.2", &withPID},
		{"%p.core", "2.core", &withPID},
		{"", "", &withPID},
		{"/tmp/%p-%P-%i-%I-%u-%g-%d-%s-%t-%c", "/tmp/2-3-4-5-6-7-1-11-1234-99", &values},
		{"%h_%e_%E_%f", "h!x_..!a_!usr!bin!prog_prog", &values},
		{"%e%h", "!.!", &dots},
		{"100%%x%q%", "100%x", &values},
	} {
		if got := Name(c.pattern, c.v); got != c.want {
			t.Errorf("%q: %q, want %q", c.pattern, got, c.want)
		}
	}
	for pattern, want := range map[string]error{"core": nil, "": nil, "|/bin/x": unix.EINVAL, strings.Repeat("c", 127): nil, strings.Repeat("c", 128): unix.EINVAL} {
		if err := CheckPattern(pattern); err != want {
			t.Errorf("%q: %v", pattern, err)
		}
	}
}

// A name has no more slashes than its pattern, whatever the program calls itself.
func FuzzName(f *testing.F) {
	f.Add("/x/%e.%p", "a/../b", "/exe/name")
	f.Add("%", "..", "")
	f.Fuzz(func(t *testing.T, pattern, comm, exe string) {
		v := values
		v.Comm, v.Host, v.Exe, v.UsesPID = comm, comm, exe, true
		name := Name(pattern, &v)
		if strings.Count(name, "/") > strings.Count(pattern, "/") {
			t.Errorf("%q makes %q", pattern, name)
		}
	})
}
