// Command kernel is the guest's kernel: it wires the rooms together, starts the
// program that the host asked for, and powers off when that ends.
package main

import (
	"slices"
	"strings"

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
	if err := start(m, e); err != nil {
		e.failed(err)
	}
	select {}
}

// start boots the kernel and its first program.
func start(m *bare.Machine, e *ending) error {
	c := clock.New(m)
	setWallClock(m, e.log)
	setPower(m)
	pool := mem.NewPool(m)
	ns := newTree(pool, c, e.log)
	run, image, err := unpack(m, pool, ns.Root())
	if err != nil {
		return err
	}
	ramfs.LimitInodes(ns.Root().Mount.FS)
	shareMemory(pool)
	args, err := bootargs.Parse(m.CommandLine(), run, image != nil)
	if err != nil {
		return err
	}
	image.asRoot(args)
	found, nvmes := findDevices(m, e.log)
	out, err := openStreams(m, found.consoles(m, e.log))
	if err != nil {
		return err
	}
	e.streams = out
	e.log.open(out, args.Verbose || args.Strace)
	e.log.bootLine(m)
	addEntropy(m, found, e.log)
	disks := findDisks(m, pool, found, nvmes, e.log)
	ns.SyncDevices, e.sync = disks.files.SyncAll, ns.Shutdown
	addImageTypes(ns, pool, c.Wall, findImage(image, disks, args, e.log.line))
	disks.addTypes(ns, pool, c.Wall, args, e.log)
	shares := found.shares(m, pool, c, e.log)
	ns.AddType(shares.Type())
	out.lost = shares.Gone
	root, err := mountRoot(ns, pool, args)
	if err != nil {
		return err
	}
	ctx := rootContext(root)
	dev, err := mountDev(ns, ctx, pool, c, e.log)
	if err != nil {
		return err
	}
	names := &resolver{ctx: ctx, args: args, log: e.log}
	names.write(net.Learned{})
	network, err := newNetwork(m, pool, found, &args.Network, args.Hostname, e.log)
	if err != nil {
		return err
	}
	object, err := vdso.New(pool)
	if err != nil {
		return err
	}
	object.Set(c.Timebase())
	c.OnSet(func() { object.Set(c.Timebase()) })
	socks := newSockets(pool, c, network, newVsock(m, found, e.log))
	options := syscall.Options{Strace: args.Strace, VDSO: object}
	if args.Missing {
		options.Missing = new(missing).tell(out)
	}
	calls := syscall.New(options)
	makers, firsts := calls.Makers(), calls.Firsts()
	makers[namespace.Net], firsts[namespace.Net] = socks.another(otherNetwork(m, pool, e.log)), socks
	k := task.New(task.Config{
		Hostname: args.Hostname, Machine: m, Pool: pool, Clock: c, Namespace: ns,
		Calls: calls.Table(), Clocks: object.Ask, Failed: calls.Failed, Dispatch: calls.Dispatch, Load: calls.Load,
		Log: e.log.line, Ended: calls.Ended, OnExit: e.exited,
		Makers: makers, Firsts: firsts,
	})
	if err := mountInfo(m, ctx, k, disks, socks); err != nil {
		return err
	}
	disks.addTo(dev, e.log)
	if err := mountTerminals(k, ctx, dev, out, args.Window); err != nil {
		return err
	}
	if err := mountAll(ns, ctx, args.Mounts); err != nil {
		return err
	}
	e.network = network
	configure(network, names, k.First().UTS().SetHost)
	if err := startProgram(k, ctx, args, out); err != nil {
		return err
	}
	found.balloons(m, e.log)
	return nil
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
