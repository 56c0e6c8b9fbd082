package main

import (
	"strings"

	"golang.org/x/sys/unix"

	"gosv/driver/net"
	"gosv/driver/virtio"
	"gosv/fs/procfs"
	"gosv/kernel/bootargs"
	inet "gosv/kernel/net"
	"gosv/kernel/netdev"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/machine"
)

// newNetwork describes the network. Its device, the first of the machine, is started when
// the network is first used.
func newNetwork(m machine.Machine, found devices, args *bootargs.Network, l *log) (*inet.Network, error) {
	total, _ := m.Usage()
	cfg := inet.Config{Memory: int(total * machine.PageSize), Log: func(s string) { l.line("gosv: " + s) }}
	if list := found[virtio.TypeNet]; len(list) > 0 {
		cfg.Open = func() (netdev.Device, error) { return net.New(list[0], m) }
	}
	if err := cfg.Parse(args.Addresses, args.Gateways); err != nil {
		return nil, err
	}
	if err := cfg.Firewall(args.AllowIn, args.AllowOut); err != nil {
		return nil, err
	}
	cfg.SLAAC = args.SLAAC
	return inet.New(cfg), nil
}

// showNetwork adds what tells about the network to /proc and /sys.
func showNetwork(n *inet.Network, proc, sys *procfs.FS) {
	for _, f := range n.ProcFiles() {
		proc.Add(f.Path, 0o444, f.Show, nil)
	}
	for _, f := range n.SysFiles() {
		sys.Add(f.Path, 0o444, f.Show, nil)
	}
}

// writeResolver makes /etc/resolv.conf of what the host said, unless the program's files bring one.
func writeResolver(ctx *vfs.Context, args *bootargs.Args, l *log) {
	n := &args.Network
	if len(n.DNS) == 0 {
		return
	}
	const name = "/etc/resolv.conf"
	if at, err := vfs.Lookup(ctx, ctx.Root, name, 0); err == nil && args.Root == nil {
		var st unix.Stat_t
		if at.Inode().Stat(&st); st.Size > 0 {
			return
		}
	}
	var b strings.Builder
	for _, s := range n.DNS {
		b.WriteString("nameserver " + s + "\n")
	}
	if len(n.Search) > 0 {
		b.WriteString("search " + strings.Join(n.Search, " ") + "\n")
	}
	f, err := vfs.Open(ctx, ctx.Root, name, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC, 0o644)
	if err == nil {
		text := uio.Buffer(b.String())
		_, err = f.Write(&text)
		f.DecRef()
	}
	if err != nil && err != unix.ENOENT && err != unix.EROFS {
		l.line("gosv: " + name + ": " + err.Error())
	}
}
