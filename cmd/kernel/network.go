package main

import (
	"strings"

	"golang.org/x/sys/unix"

	"gosv/driver/net"
	"gosv/driver/virtio"
	"gosv/fs/devfs"
	"gosv/fs/procfs"
	"gosv/kernel/bootargs"
	"gosv/kernel/mem"
	inet "gosv/kernel/net"
	"gosv/kernel/net/tun"
	"gosv/kernel/netdev"
	"gosv/kernel/task"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/machine"
)

// newNetwork describes the network. Its device, the first of the machine, is started when
// the network is first used.
func newNetwork(m machine.Machine, pool *mem.Pool, found devices, args *bootargs.Network, hostname string, l *log) (*inet.Network, error) {
	total, _ := m.Usage()
	cfg := inet.Config{Pool: pool, Memory: int(total * machine.PageSize), Monotonic: m.Monotonic, Log: func(s string) { l.line("gosv: " + s) }}
	if list := found[virtio.TypeNet]; len(list) > 0 {
		cfg.Open = func() (netdev.Device, error) { return net.New(list[0], m, m.CPUs()) }
	}
	if err := cfg.Parse(args.Addresses, args.Gateways); err != nil {
		return nil, err
	}
	if err := cfg.Firewall(args.AllowIn, args.AllowOut); err != nil {
		return nil, err
	}
	cfg.SLAAC, cfg.DHCP = args.SLAAC, args.DHCP
	if args.Named {
		cfg.Hostname = hostname
	}
	return inet.New(cfg), nil
}

// otherNetwork describes the network of a network namespace beside the first.
func otherNetwork(m machine.Machine, pool *mem.Pool, l *log) inet.Config {
	total, _ := m.Usage()
	return inet.Config{Pool: pool, Memory: int(total * machine.PageSize), Monotonic: m.Monotonic, Log: func(s string) { l.line("gosv: " + s) }, Bare: true}
}

// showNetwork adds what tells about the network to /sys.
func showNetwork(n *inet.Network, sys *procfs.FS) {
	add := func(list []inet.ProcFile) {
		for _, f := range list {
			sys.Add(f.Path, 0o444, f.Show, nil)
		}
	}
	add(n.SysFiles())
	n.OnChange(func(c inet.Change) {
		if c.Gone {
			sys.Remove("class/net/" + c.Link.Name)
		}
		if c.Was != "" {
			sys.Remove("class/net/" + c.Was)
		}
		if c.New || c.Was != "" {
			add(n.FilesOf(c.Link.Name))
		}
	})
}

// addTun makes /dev/net/tun.
func addTun(k *task.Kernel, dev *devfs.Devices) error {
	if err := dev.Dir("net", 0o755); err != nil {
		return err
	}
	return dev.Add("net/tun", unix.S_IFCHR, tun.Major, tun.Minor, 0o666, openTun(k))
}

// A resolver writes /etc/resolv.conf of what the host said, and what was learned for what it did not say, unless the
// program's files bring one.
type resolver struct {
	ctx     *vfs.Context
	args    *bootargs.Args
	log     *log
	written bool // by us, who may do it again
}

const resolvConf = "/etc/resolv.conf"

// foreign reports whether the program's files bring one.
func (r *resolver) foreign() bool {
	at, err := vfs.Lookup(r.ctx, r.ctx.Root, resolvConf, 0)
	if err != nil || r.args.Root != nil || r.written {
		return false
	}
	var st unix.Stat_t
	at.Inode().Stat(&st)
	return st.Size > 0
}

func (r *resolver) write(learned inet.Learned) {
	n := &r.args.Network
	servers, search := n.DNS, n.Search
	if len(servers) == 0 {
		servers = learned.DNS
	}
	if len(search) == 0 {
		search = learned.Search
	}
	if len(servers) == 0 && !r.written || r.foreign() {
		return
	}
	var b strings.Builder
	for _, s := range servers {
		b.WriteString("nameserver " + s + "\n")
	}
	if len(search) > 0 {
		b.WriteString("search " + strings.Join(search, " ") + "\n")
	}
	f, err := vfs.Open(r.ctx, r.ctx.Root, resolvConf, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC, 0o644)
	if err == nil {
		text := uio.Buffer(b.String())
		_, err = f.Write(&text)
		f.DecRef()
		r.written = true
	}
	if err != nil && err != unix.ENOENT && err != unix.EROFS {
		r.log.line("gosv: " + resolvConf + ": " + err.Error())
	}
}

// configure lets the network ask others for what it is to be, where the host said so.
func configure(n *inet.Network, r *resolver, setHostname func(string)) {
	n.Configure(func(learned inet.Learned) {
		r.write(learned)
		if learned.Hostname == "" || r.args.Network.Named {
			return
		}
		setHostname(learned.Hostname)
	})
}
