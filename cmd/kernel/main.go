// Command kernel is the guest's kernel: it wires the rooms together, starts the
// program that the host asked for, and powers off when that ends.
package main

import (
	"math/rand/v2"

	"gosv/kernel/bootargs"
	"gosv/kernel/clock"
	"gosv/kernel/cred"
	"gosv/kernel/mem"
	"gosv/kernel/syscall"
	"gosv/kernel/task"
	"gosv/kernel/vfs"
	"gosv/machine"
	"gosv/machine/bare"
)

func main() {
	m := bare.New()
	e := &ending{m: m, log: newLog(m)}
	defer e.onPanic()
	if err := start(m, e); err != nil {
		e.failed(err)
	}
	select {}
}

// start boots the kernel and its first program.
func start(m *bare.Machine, e *ending) error {
	c := clock.New(m)
	setWallClock(m, e.log)
	pool := mem.NewPool(m)
	ns, root, err := newRoot(pool, c)
	if err != nil {
		return err
	}
	run, err := unpack(m, root)
	if err != nil {
		return err
	}
	args, err := bootargs.Parse(m.CommandLine(), run)
	if err != nil {
		return err
	}
	devices := findDevices(m, args, e.log)
	out, err := openStreams(m, devices, e.log)
	if err != nil {
		return err
	}
	e.streams = out
	e.log.open(out, args.Verbose || args.Strace)
	e.log.bootLine(m)

	k := task.New(task.Config{
		Machine: m, Pool: pool, Clock: c, Namespace: ns,
		Log: e.log.line, OnExit: e.exited,
	})
	if err := fillTree(k, ns, root, pool, c, out, e.log); err != nil {
		return err
	}
	if err := syscall.New(k, syscall.Options{Strace: args.Strace, Random: fillRandom, Hostname: args.Hostname}); err != nil {
		return err
	}
	files, err := out.files(c.Wall())
	if err != nil {
		return err
	}
	ctx := &vfs.Context{Root: root, Cwd: root, Cred: cred.Root(), Umask: 0o022}
	if err := changeDir(ctx, args.Dir); err != nil {
		return err
	}
	out.listen(k)
	out.say("ready")
	return syscall.StartInit(k, ctx, files, args.Path, args.Argv, args.Envp)
}

// fillRandom fills b from the runtime's ChaCha8 generator, which the floor
// seeds from RDRAND.
func fillRandom(b []byte) {
	for len(b) > 0 {
		v := rand.Uint64()
		for i := 0; i < 8 && len(b) > 0; i++ {
			b[0] = byte(v)
			b, v = b[1:], v>>8
		}
	}
}

var _ machine.Machine = (*bare.Machine)(nil)
