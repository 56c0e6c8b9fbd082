// Package loader makes a program ready to run in a new address space: what
// execve(2) and elf(5) say of it, as far as it does not concern the caller.
//
// It takes ELF64 programs for x86-64, static, position-independent or with a
// dynamic linker (PT_INTERP), and scripts (#!). Every number in a file is
// foreign: it is checked before use, and what Linux refuses is refused with
// the same errno. Nothing is mapped above machine.UserTop.
//
// The layout of the initial stack is that of the System V ABI, AMD64 supplement, §3.4.
package loader

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
	"gosv/kernel/mm"
	"gosv/kernel/uio"
	"gosv/kernel/vdso"
	"gosv/kernel/vfs"
	"gosv/machine"
)

// A Program says what to load.
type Program struct {
	// Open opens a file for execution: the program, a script's interpreter, a
	// dynamic linker. EACCES when it may not be executed.
	Open func(path string) (*vfs.File, error)
	// File is the program itself when it is open already, as for execveat(2);
	// it is not closed here. If nil, Filename is opened.
	File *vfs.File
	// Filename is the program's name as a script's interpreter and AT_EXECFN get it.
	Filename   string
	Argv, Envp []string
	// Cred returns the credentials that the program will have, set-user-ID and
	// the like considered, and whether it gained rights by that (AT_SECURE).
	Cred func(f *vfs.File) (c *cred.Cred, secure bool)
	// Random yields random bits; nil for a fixed layout (personality(2), ADDR_NO_RANDOMIZE).
	Random func() uint64
	// Entropy fills the 16 bytes that AT_RANDOM points to.
	Entropy func(b []byte)
	// StackLimit is RLIMIT_STACK in bytes.
	StackLimit uint64
	VDSO       *vdso.Object // nil: none
	// HWCap, HWCap2 and MinSigStack are AT_HWCAP, AT_HWCAP2 and AT_MINSIGSTKSZ.
	HWCap, HWCap2, MinSigStack uint64
}

// An Image is a program that is ready to run.
type Image struct {
	Entry, SP uint64
	// File is the file that was mapped, /proc/PID/exe: the interpreter of a
	// script. It belongs to the caller.
	File *vfs.File
	Cred *cred.Cred
	// Secure is AT_SECURE.
	Secure bool
	// Addresses for /proc/PID/stat and cmdline.
	StartCode, EndCode, StartStack     uint64
	ArgStart, ArgEnd, EnvStart, EnvEnd uint64
	// Auxv is the auxiliary vector, for /proc/PID/auxv.
	Auxv []byte
}

// maxScripts is how often one script's interpreter may be a script.
const maxScripts = 5

// Load loads the program into as, which is new and empty. On failure as holds whatever
// was mapped before. Errors are those of execve(2): ENOEXEC, ENOENT, EACCES, E2BIG,
// EINVAL, ELIBBAD, ELOOP, ENOMEM, EFAULT, EIO, ETXTBSY.
func Load(as *mm.AddressSpace, p *Program) (*Image, error) {
	f, first, argv, err := p.resolve()
	if err != nil {
		return nil, err
	}
	img, err := p.load(as, f, first, argv)
	if err != nil {
		f.DecRef()
		return nil, err
	}
	return img, nil
}

// resolve opens the program and follows scripts to their interpreters. It
// returns the file with a reference, its first bytes, and the arguments.
func (p *Program) resolve() (f *vfs.File, first []byte, argv []string, err error) {
	argv = p.Argv
	if len(argv) == 0 {
		argv = []string{""}
	}
	if err := CheckArgs(argv, p.Envp, p.Filename, p.StackLimit); err != nil {
		return nil, nil, nil, err
	}
	if f = p.File; f != nil {
		f.IncRef()
	} else if f, err = p.Open(p.Filename); err != nil {
		return nil, nil, nil, err
	}
	name := p.Filename
	for depth := 0; ; depth++ {
		if first, err = readUpTo(f, 0, firstBytes); err != nil {
			break
		}
		if len(first) < 2 || first[0] != '#' || first[1] != '!' {
			return f, first, argv, nil
		}
		if depth == maxScripts {
			err = unix.ELOOP
			break
		}
		interp, arg, perr := parseScript(first)
		if perr != nil {
			err = perr
			break
		}
		args := []string{interp}
		if arg != "" {
			args = append(args, arg)
		}
		argv = append(append(args, name), argv[1:]...)
		name = interp
		f.DecRef()
		if f, err = p.Open(interp); err != nil {
			return nil, nil, nil, err
		}
		if err = CheckArgs(argv, p.Envp, p.Filename, p.StackLimit); err != nil {
			break
		}
	}
	f.DecRef()
	return nil, nil, nil, err
}

// load maps the program f, whose first bytes are known, and builds its stack.
func (p *Program) load(as *mm.AddressSpace, f *vfs.File, first []byte, argv []string) (*Image, error) {
	o, err := readObject(f, first)
	if err != nil {
		return nil, err
	}
	interp, interpFile, err := p.openInterp(f, o)
	if err != nil {
		return nil, err
	}
	if interpFile != nil {
		defer interpFile.DecRef()
	}
	img := &Image{File: f}
	img.Cred, img.Secure = p.Cred(f)

	layout := mm.NewLayout(p.Random, p.StackLimit)
	as.SetLayout(layout)
	var hint uint64
	if o.dyn && interp != nil {
		hint = layout.PIEBase
	}
	bias, err := mapObject(as, f, o, hint)
	if err != nil {
		return nil, err
	}
	start := o.entry + bias
	var base uint64
	if interp != nil {
		if base, err = mapObject(as, interpFile, interp, 0); err != nil {
			return nil, err
		}
		start = interp.entry + base
	}
	if start >= machine.UserTop {
		return nil, unix.EINVAL
	}
	img.Entry = start
	as.SetBrk(p.brk(o, bias, interp != nil, layout))
	img.StartCode, img.EndCode = o.code(bias)

	args := stackArgs{argv: argv, envp: p.Envp, execfn: p.Filename, aux: p.aux(o, bias, base, img)}
	if p.VDSO != nil {
		vdsoBase, err := p.VDSO.Map(as)
		if err != nil {
			return nil, err
		}
		args.aux = append(args.aux, aux{atSYSINFO_EHDR, vdsoBase})
	}
	p.Entropy(args.random[:])
	return img, p.buildStack(as, img, &args, o.execStack, layout.StackTop)
}

// initialStack is how much of the stack is mapped besides the arguments (Linux maps as much).
const initialStack = 128 << 10

func (p *Program) buildStack(as *mm.AddressSpace, img *Image, args *stackArgs, exec bool, top uint64) error {
	s := args.build(top)
	size := uint64(len(s.bytes)) + initialStack
	if err := as.MapStack(min(size, max(p.StackLimit, uint64(len(s.bytes)))), exec); err != nil {
		return err
	}
	if _, err := as.CopyOut(s.sp, s.bytes); err != nil {
		return err
	}
	img.SP, img.StartStack, img.Auxv = s.sp, s.sp, s.auxv
	img.ArgStart, img.ArgEnd, img.EnvStart, img.EnvEnd = s.argStart, s.argEnd, s.envStart, s.envEnd
	return nil
}

// aux is the auxiliary vector but for what lies on the stack and the vDSO.
func (p *Program) aux(o *object, bias, base uint64, img *Image) []aux {
	secure := uint64(0)
	if img.Secure {
		secure = 1
	}
	phdr := uint64(0)
	if o.phdrs != 0 {
		phdr = o.phdrs + bias
	}
	c := img.Cred
	return []aux{
		{atMINSIGSTKSZ, p.MinSigStack},
		{atHWCAP, p.HWCap},
		{atPAGESZ, machine.PageSize},
		{atCLKTCK, ClockTick},
		{atPHDR, phdr},
		{atPHENT, phdrSize},
		{atPHNUM, o.phnum},
		{atBASE, base},
		{atFLAGS, 0},
		{atENTRY, o.entry + bias},
		{atUID, uint64(c.User.ShowUID(c.UID))},
		{atEUID, uint64(c.User.ShowUID(c.EUID))},
		{atGID, uint64(c.User.ShowGID(c.GID))},
		{atEGID, uint64(c.User.ShowGID(c.EGID))},
		{atSECURE, secure},
		{atHWCAP2, p.HWCap2},
	}
}

// brk says where the heap starts: behind the program; a program that lies in
// the mmap area, as static PIE does, has it where other programs lie.
func (p *Program) brk(o *object, bias uint64, interp bool, layout mm.Layout) uint64 {
	_, end := o.span()
	end += bias
	if o.dyn && !interp {
		end = layout.PIEBase
	}
	return mm.RandomBrk(end, p.Random)
}

// openInterp opens the dynamic linker that o asks for, and reads its headers;
// nil when it asks for none. ELIBBAD when it is not one.
func (p *Program) openInterp(f *vfs.File, o *object) (*object, *vfs.File, error) {
	if o.interpLen == 0 {
		return nil, nil, nil
	}
	name, err := readUpTo(f, o.interpOff, int(o.interpLen))
	if err != nil {
		return nil, nil, err
	}
	if len(name) != int(o.interpLen) {
		return nil, nil, unix.EIO
	}
	n := len(name) - 1
	if name[n] != 0 {
		return nil, nil, unix.ENOEXEC
	}
	for i, c := range name {
		if c == 0 {
			n = i
			break
		}
	}
	file, err := p.Open(string(name[:n]))
	if err != nil {
		return nil, nil, err
	}
	first, err := readUpTo(file, 0, firstBytes)
	if err == nil {
		var interp *object
		if interp, err = readObject(file, first); err == nil {
			return interp, file, nil
		}
	}
	file.DecRef()
	if err == unix.ENOEXEC {
		err = unix.ELIBBAD
	}
	return nil, nil, err
}

// readObject reads the headers of f, whose first bytes are known.
func readObject(f *vfs.File, first []byte) (*object, error) {
	h, err := parseHeader(first)
	if err != nil {
		return nil, err
	}
	n := h.phnum * phdrSize
	phdrs, err := readUpTo(f, h.phoff, n)
	if err != nil {
		return nil, err
	}
	if len(phdrs) < n {
		return nil, unix.EIO
	}
	return parseProgram(h, phdrs)
}

// readUpTo reads n bytes of f at off, fewer at its end.
func readUpTo(f *vfs.File, off uint64, n int) ([]byte, error) {
	if off > 1<<62 {
		return nil, unix.EINVAL
	}
	b := make([]byte, n)
	rest := uio.Buffer(b)
	for len(rest) > 0 {
		got, err := f.Pread(&rest, int64(off)+int64(n-len(rest)))
		if err != nil {
			return nil, err
		}
		if got == 0 {
			break
		}
	}
	return b[:n-len(rest)], nil
}
