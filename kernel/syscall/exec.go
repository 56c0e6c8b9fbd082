package syscall

import (
	"math/rand/v2"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"gosv/kernel/abi"
	"gosv/kernel/cred"
	"gosv/kernel/loader"
	"gosv/kernel/mm"
	"gosv/kernel/task"
	"gosv/kernel/vfs"
)

func execRows(r *table) {
	aStrings := &formatter{name: "strings", in: showStrings}
	aList := aUlong.as(aStrings)
	r.set(unix.SYS_EXECVE, call3("execve", aPath, aList, aList, func(t *task.Task, path string, argv, envp uint64) (uint64, error) {
		return sysExecveat(t, unix.AT_FDCWD, path, argv, envp, 0)
	}))
	r.set(unix.SYS_EXECVEAT, call5("execveat", aDirFD, aPath, aList, aList, flags("flags", unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW, atNames), sysExecveat))
}

func showStrings(b []byte, t *task.Task, a *args, i int) []byte {
	if a[i] == 0 {
		return append(b, "NULL"...)
	}
	b = append(b, '[')
	for n := range uint64(maxShown) {
		p, err := t.Mem().Load64(a[i] + 8*n)
		if err != nil || p == 0 {
			return append(b, ']')
		}
		if n > 0 {
			b = append(b, ", "...)
		}
		s, err := readString(t, p, abi.PathMax)
		if err != nil {
			b = appendHex(b, p)
		} else {
			b = strconv.AppendQuote(b, s)
		}
	}
	return append(b, ", ...]"...)
}

// stringList reads an array of strings that a NULL ends: EFAULT, E2BIG as soon as it is clear that they are too many.
func stringList(t *task.Task, addr uint64, budget *int) (list []string, err error) {
	if addr == 0 {
		return nil, nil
	}
	for ; ; addr += 8 {
		p, err := t.Mem().Load64(addr)
		if err != nil {
			return nil, efault(err)
		}
		if p == 0 {
			return list, nil
		}
		s, err := readString(t, p, abi.MaxArgStrlen)
		if err == errTooLong {
			err = unix.E2BIG
		}
		if err != nil {
			return nil, err
		}
		if *budget -= len(s) + 9; *budget < 0 {
			return nil, unix.E2BIG
		}
		list = append(list, s)
	}
}

// maxArgBytes is above all that loader.CheckArgs lets pass.
const maxArgBytes = 6<<20 + abi.MaxArgStrlen

func sysExecveat(t *task.Task, dirfd int32, path string, argv, envp uint64, flags uint32) (uint64, error) {
	budget := maxArgBytes
	a := &task.ExecArgs{Path: path}
	var err error
	if a.Argv, err = stringList(t, argv, &budget); err != nil {
		return 0, err
	}
	if a.Envp, err = stringList(t, envp, &budget); err != nil {
		return 0, err
	}
	p, err := at(t, dirfd, path)
	if err != nil {
		return 0, err
	}
	f, err := openExec(view(t), p.Path, path, int(flags))
	p.done()
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	if dirfd != unix.AT_FDCWD && (path == "" || path[0] != '/') {
		a.Path = "/dev/fd/" + strconv.Itoa(int(dirfd))
		if path != "" {
			a.Path += "/" + path
		}
	}
	a.File = f
	return done(t.Exec(a))
}

// openExec opens a file for execution: EACCES when it may not be executed or is no regular file,
// ETXTBSY when it is open for writing. It need not be readable.
func openExec(ctx *vfs.Context, at vfs.Path, path string, flags int) (*vfs.File, error) {
	p, err := vfs.Lookup(ctx, at, path, flags)
	if err != nil {
		return nil, err
	}
	switch i := p.Inode(); {
	case i.Type() == unix.S_IFLNK:
		return nil, unix.ELOOP
	case i.Type() != unix.S_IFREG || p.Mount.Flags()&unix.MS_NOEXEC != 0:
		return nil, unix.EACCES
	default:
		if err := i.Access(ctx.Cred, vfs.MayExec); err != nil {
			return nil, err
		}
	}
	f, err := vfs.Reopen(p, ctx.Cred, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	if err := f.DenyWrite(); err != nil {
		f.DecRef()
		return nil, err
	}
	return f, nil
}

// addrNoRandomize is ADDR_NO_RANDOMIZE of personality(2).
const addrNoRandomize = 0x0040000

// Load makes a program ready in a new address space. It is what task.Config.Load is set to.
func (s *Calls) Load(t *task.Task, a *task.ExecArgs) (*task.Image, error) {
	k := t.Kernel()
	as, err := mm.New(k.Machine, k.Pool)
	if err != nil {
		return nil, err
	}
	ctx := t.VFS()
	old := t.Cred()
	as.SetLimits(t.Process().MemoryLimits(old.Capable(unix.CAP_IPC_LOCK)))
	hwcap, hwcap2 := k.Machine.HWCap()
	p := &loader.Program{
		Open:     func(path string) (*vfs.File, error) { return openExec(&ctx, vfs.Path{}, path, 0) },
		File:     a.File,
		Filename: a.Path, Argv: a.Argv, Envp: a.Envp,
		Cred: func(f *vfs.File) (*cred.Cred, bool) {
			i := f.Inode()
			return old.Exec(i.Mode(), i.UID(), i.GID(), f.Path().Mount.Flags()&unix.MS_NOSUID != 0 || !old.User.Within(i.FS().Owner))
		},
		Random:     rand.Uint64,
		Entropy:    fillRandom,
		StackLimit: t.Process().Limit(unix.RLIMIT_STACK).Cur,
		VDSO:       s.o.VDSO,
		HWCap:      hwcap, HWCap2: hwcap2, MinSigStack: k.MinSigStack(),
	}
	if t.Personality()&addrNoRandomize != 0 {
		p.Random = nil
	}
	img, err := loader.Load(as, p)
	if err != nil {
		as.Release()
		return nil, err
	}
	return &task.Image{
		Mem: as, Entry: img.Entry, Stack: img.SP, Exe: img.File, Cred: img.Cred, Secure: img.Secure,
		Layout: task.Layout{
			StartCode: img.StartCode, EndCode: img.EndCode, StartStack: img.StartStack,
			ArgStart: img.ArgStart, ArgEnd: img.ArgEnd, EnvStart: img.EnvStart, EnvEnd: img.EnvEnd, Auxv: img.Auxv,
		},
	}, nil
}

// defaultPath is where programs are looked for when the environment has no PATH.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// StartInit starts the first process: path, looked for in PATH when it
// holds no slash, with the given descriptors, root, current directory and credentials. The errors are
// those of execve(2); ENOENT: there is no such program.
func StartInit(k *task.Kernel, path string, argv, envp []string, files *vfs.FDTable, fs *task.FS, c *cred.Cred) (*task.Task, error) {
	ctx := &vfs.Context{Root: fs.Root(), Cwd: fs.Cwd(), Cred: c, PID: 1, TID: 1}
	f, name, err := findProgram(ctx, path, envp)
	if err != nil {
		return nil, err
	}
	defer f.DecRef()
	return k.Start(&task.ExecArgs{File: f, Path: name, Argv: argv, Envp: envp}, files, fs, c)
}

// Spawn starts a program beside the first, found by the PATH of its environment (execvp(3)). a.Exec is filled
// in, a.Files becomes the program's own.
func Spawn(k *task.Kernel, argv, envp []string, a *task.SpawnArgs) (*task.Process, error) {
	ctx := &vfs.Context{Root: a.FS.Root(), Cwd: a.FS.Cwd(), Cred: a.Cred, PID: 1, TID: 1}
	f, name, err := findProgram(ctx, argv[0], envp)
	if err != nil {
		a.Files.DecRef()
		return nil, err
	}
	defer f.DecRef()
	a.Exec = &task.ExecArgs{File: f, Path: name, Argv: argv, Envp: envp}
	return k.Spawn(a)
}

// findProgram opens a program as a shell would find it (execvp(3)): the first that can be opened, else
// EACCES if one was found that may not be executed.
func findProgram(ctx *vfs.Context, name string, envp []string) (f *vfs.File, path string, err error) {
	if strings.Contains(name, "/") {
		f, err = openExec(ctx, vfs.Path{}, name, 0)
		return f, name, err
	}
	search := defaultPath
	for _, e := range envp {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			search = v
		}
	}
	failure := error(unix.ENOENT)
	for dir := range strings.SplitSeq(search, ":") {
		if dir == "" {
			dir = "."
		}
		path = dir + "/" + name
		if f, err = openExec(ctx, vfs.Path{}, path, 0); err == nil {
			return f, path, nil
		}
		if err == unix.EACCES {
			failure = err
		}
	}
	return nil, "", failure
}
