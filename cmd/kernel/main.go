// Command kernel is the guest's kernel: it wires the rooms together, starts the
// program that the host asked for, and powers off when that ends.
package main

import (
	"slices"
	"strings"

	"gosv/fs/devfs"
	"gosv/fs/ramfs"
	"gosv/kernel/agent"
	"gosv/kernel/bootargs"
	"gosv/kernel/clock"
	"gosv/kernel/mem"
	"gosv/kernel/namespace"
	"gosv/kernel/net"
	"gosv/kernel/passwd"
	"gosv/kernel/syscall"
	"gosv/kernel/task"
	"gosv/kernel/vdso"
	"gosv/kernel/vfs"
	"gosv/machine/bare"
)

func main() {
	m := bare.New()
	e := &ending{m: m, log: newLog(m)}
	defer e.onPanic()
	b := &booting{ending: e, m: m, clock: clock.New(m), pool: mem.NewPool(m)}
	if err := b.start(); err != nil {
		e.failed(err)
	}
	select {}
}

// booting is the start of the kernel and of its first program: what each step finds, the next ones use.
type booting struct {
	*ending
	m     *bare.Machine
	clock *clock.Clock
	pool  *mem.Pool

	ns    *vfs.Namespace
	args  *bootargs.Args
	image *ramDisk // the root, if the initial RAM disk is an image

	found devices
	disks *disks

	ctx   *vfs.Context
	dev   *devfs.Devices
	names *resolver
	socks *sockets
}

func (b *booting) start() error {
	setWallClock(b.m, b.log)
	setPower(b.m)
	for _, step := range []func() error{b.readInitrd, b.findDevices, b.mountRoot, b.makeNetwork} {
		if err := step(); err != nil {
			return err
		}
	}
	k, err := b.makeKernel()
	if err != nil {
		return err
	}
	if err := b.mountRest(k); err != nil {
		return err
	}
	configure(b.network, b.names, k.First().UTS().SetHost)
	if err := startProgram(k, b.ctx, b.args, b.streams); err != nil {
		return err
	}
	b.found.balloons(b.m, b.log)
	return nil
}

// readInitrd makes the first file tree, and reads what is to be run.
func (b *booting) readInitrd() error {
	b.ns = newTree(b.pool, b.clock, b.log)
	run, image, err := unpack(b.m, b.pool, b.ns.Root())
	if err != nil {
		return err
	}
	ramfs.LimitInodes(b.ns.Root().Mount.FS)
	shareMemory(b.pool)
	args, err := bootargs.Parse(b.m.CommandLine(), run, image != nil)
	if err != nil {
		return err
	}
	image.asRoot(args)
	b.args, b.image = args, image
	return nil
}

// findDevices finds the devices and begins to use them: first the console, which hears of the others.
func (b *booting) findDevices() error {
	found, nvmes := findDevices(b.m, b.log)
	out, err := openStreams(b.m, found.consoles(b.m, b.log))
	if err != nil {
		return err
	}
	b.found, b.streams = found, out
	b.log.open(out, b.args.Verbose || b.args.Strace)
	b.log.bootLine(b.m)
	addEntropy(b.m, found, b.log)
	b.disks = findDisks(b.m, b.pool, found, nvmes, b.log)
	b.ns.SyncDevices, b.ns.BlockSize, b.sync = b.disks.files.SyncAll, b.disks.files.BlockSize, b.ns.Shutdown
	return nil
}

// mountRoot mounts the root and /dev.
func (b *booting) mountRoot() error {
	addImageTypes(b.ns, b.disks, b.pool, b.clock.Wall, findImage(b.image, b.disks, b.args, b.log.line))
	b.disks.addTypes(b.ns, b.pool, b.clock.Wall, b.args, b.log)
	shares := b.found.shares(b.m, b.pool, b.clock, b.log)
	b.ns.AddType(shares.Type())
	b.streams.lost = shares.Gone
	root, err := mountRoot(b.ns, b.pool, b.args)
	if err != nil {
		return err
	}
	b.ctx = rootContext(root)
	b.dev, err = mountDev(b.ns, b.ctx, b.pool, b.clock, b.log)
	return err
}

// makeNetwork makes the network and the families of sockets.
func (b *booting) makeNetwork() error {
	b.names = &resolver{ctx: b.ctx, args: b.args, log: b.log}
	b.names.write(net.Learned{})
	network, err := newNetwork(b.m, b.pool, b.found, &b.args.Network, b.args.Hostname, b.log)
	if err != nil {
		return err
	}
	b.network = network
	b.socks = newSockets(b.pool, b.clock, network, newVsock(b.m, b.found, b.log))
	return nil
}

// makeKernel makes the system calls, and what runs processes.
func (b *booting) makeKernel() (*task.Kernel, error) {
	object, err := vdso.New(b.pool)
	if err != nil {
		return nil, err
	}
	object.Set(b.clock.Timebase())
	b.clock.OnSet(func() { object.Set(b.clock.Timebase()) })
	options := syscall.Options{Strace: b.args.Strace, VDSO: object, Log: b.log.kept}
	if b.args.Missing {
		options.Missing = new(missing).tell(b.streams)
	}
	calls := syscall.New(options)
	makers, firsts := calls.Makers(), calls.Firsts()
	makers[namespace.Net], firsts[namespace.Net] = b.socks.another(otherNetwork(b.m, b.pool, b.log)), b.socks
	return task.New(task.Config{
		Hostname: b.args.Hostname, Machine: b.m, Pool: b.pool, Clock: b.clock, Namespace: b.ns,
		Calls: calls.Table(), Clocks: object.Ask, Failed: calls.Failed, Dispatch: calls.Dispatch, Load: calls.Load,
		Log: b.log.line, Ended: calls.Ended, OnExit: b.exited,
		Makers: makers, Firsts: firsts,
	}), nil
}

// mountRest mounts what shows the kernel, and what the host asked for.
func (b *booting) mountRest(k *task.Kernel) error {
	if err := mountInfo(b.m, b.ctx, k, b.disks, b.socks); err != nil {
		return err
	}
	b.disks.addTo(b.dev, b.log)
	b.socks.k.Store(k)
	if err := addTun(k, b.dev); err != nil {
		return err
	}
	if err := mountTerminals(k, b.ctx, b.dev, b.streams, b.args.Window); err != nil {
		return err
	}
	return mountAll(b.ns, b.ctx, b.args.Mounts)
}

// startProgram starts the machine's program, and listens to what the host asks of it.
func startProgram(k *task.Kernel, ctx *vfs.Context, args *bootargs.Args, out *streams) error {
	files, err := out.files(ctx, k.Clock.Wall())
	if err != nil {
		return err
	}
	dir, err := vfs.Lookup(ctx, ctx.Root, args.Dir, 0)
	if err != nil {
		return &refusal{"working directory " + args.Dir, err}
	}
	user, err := passwd.Find(ctx, args.User)
	if err != nil {
		return &refusal{"user " + args.User, err}
	}
	if args.User != "" && !slices.ContainsFunc(args.Envp, func(e string) bool { return strings.HasPrefix(e, "HOME=") }) {
		args.Envp = append(args.Envp, "HOME="+user.Home)
	}
	out.listen(k)
	if out.exec != nil {
		agent.Serve(agent.Config{Kernel: k, Port: out.exec, Root: ctx.Root, Env: args.Envp, Dir: args.Dir})
	}
	out.say("ready")
	fs := task.NewFS(ctx.Root, dir, 0o022)
	if _, err = syscall.StartInit(k, args.Path, args.Argv, args.Envp, files, fs, user.Cred); err != nil {
		return &refusal{args.Path, err}
	}
	return nil
}

// A refusal says that the program, or what it was to be started with, is at fault.
type refusal struct {
	what string
	err  error
}

func (r *refusal) Error() string { return r.what + ": " + r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }
