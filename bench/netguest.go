package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"gosv/image/elfdeps"
	"gosv/image/rootfs"
	"gosv/image/sysroot"
)

// A server is a program of the Debian root, as guests run it.
type server struct {
	port  string
	args  []string // with the path of the program
	files map[string]string
}

const nginxConf = `daemon off; worker_processes 1; pid /tmp/pid; error_log stderr; events { worker_connections 1024; }
http { access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000; client_body_temp_path /tmp/b; proxy_temp_path /tmp/p;
fastcgi_temp_path /tmp/f; uwsgi_temp_path /tmp/u; scgi_temp_path /tmp/s; server { listen 8080; root /www; } }
`

var servers = map[string]server{
	"redis":  {"6379", []string{"/usr/bin/redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--save", "", "--appendonly", "no"}, nil},
	"nginx":  {"8080", []string{"/usr/sbin/nginx", "-c", "/nginx.conf", "-p", "/tmp"}, map[string]string{"/nginx.conf": nginxConf, "/www/i.txt": "a small page\n"}},
	"iperf3": {"5201", []string{"/usr/bin/iperf3", "-s"}, nil},
}

// guestArchives hold the same server and libraries for the two kernels; Linux's has what it needs beyond: modules, and a shell
// that loads them and sets the address.
type guestArchives struct{ linux, gosv string }

func (s *netSession) archives(name string) (guestArchives, error) {
	a := guestArchives{filepath.Join(s.work, name+"-linux.cpio"), filepath.Join(s.work, name+"-gosv.cpio")}
	v := servers[name]
	run := rootfs.Run{Exe: v.args[0], Args: v.args, Dir: "/tmp", Hostname: "gosv", Env: []string{"PATH=/usr/sbin:/usr/bin", "HOME=/"},
		Network: rootfs.Network{Addresses: []string{guestAddr + "/24"}}}
	runFile, err := run.File()
	if err != nil {
		return a, err
	}
	tree, err := s.tree(v)
	if err != nil {
		return a, err
	}
	if err := pack(tree, a.gosv, runFile); err != nil {
		return a, err
	}
	if err := s.addLinux(tree, v); err != nil {
		return a, err
	}
	return a, pack(tree, a.linux, nil)
}

func (s *netSession) tree(v server) (*rootfs.Tree, error) {
	tree := rootfs.New(rootfs.Options{Source: sysroot.At(s.root)})
	c, err := tree.Program(&elfdeps.Finder{Root: sysroot.At(s.root)}, v.args[0])
	if err != nil {
		return nil, err
	}
	for _, f := range []string{"/etc/passwd", "/etc/group"} {
		if err := tree.Copy(f, f); err != nil {
			return nil, err
		}
	}
	for name, text := range v.files {
		if err := tree.File(name, 0o644, []byte(text)); err != nil {
			return nil, err
		}
	}
	if err := tree.Base("gosv"); err != nil {
		return nil, err
	}
	return tree, tree.LoaderCache([]*elfdeps.Closure{c})
}

const symbolPort = "9"

// modules are what a virtio network card needs in Debian's cloud kernel, in the order in which they are loaded.
var modules = []string{"virtio", "virtio_ring", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci", "failover", "net_failover", "virtio_net"}

func (s *netSession) addLinux(tree *rootfs.Tree, v server) error {
	init := "#!/bin/busybox sh\nset -e\nb=/bin/busybox\n$b mount -t proc proc /proc\n$b mount -t devtmpfs dev /dev\n"
	at := map[string]string{}
	err := filepath.WalkDir(filepath.Join(s.work, "linux/lib/modules"), func(name string, _ fs.DirEntry, err error) error {
		at[strings.TrimSuffix(path.Base(name), ".ko")] = name
		return err
	})
	if err != nil {
		return err
	}
	for _, m := range modules {
		data, err := os.ReadFile(at[m])
		if err != nil {
			return fmt.Errorf("module %s of %s: %w", m, s.linux.version, err)
		}
		if err := tree.File("/modules/"+m+".ko", 0o644, data); err != nil {
			return err
		}
		init += "$b insmod /modules/" + m + ".ko\n"
	}
	init += "$b ip link set lo up\n$b ip addr add " + guestAddr + "/24 dev eth0\n$b ip link set eth0 up\ncd /tmp\n"
	if s.profiler != nil { // for fetchSymbols
		init += "$b nc -l -p " + symbolPort + " -e /bin/busybox cat /proc/kallsyms &\n"
	}
	init += "exec"
	for _, arg := range v.args {
		init += " '" + arg + "'"
	}
	busybox, err := sysroot.At(s.root).ReadFile("/bin/busybox")
	if err != nil {
		return err
	}
	return errors.Join(tree.File("/bin/busybox", 0o755, busybox), tree.File("/init", 0o755, []byte(init+"\n")), tree.Dir("/proc", 0o555), tree.Dir("/dev", 0o755))
}

func pack(tree *rootfs.Tree, file string, runFile []byte) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	return tree.Pack(f, runFile)
}
