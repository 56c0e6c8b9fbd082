package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gosv/image/rootfs"
	"gosv/vmm"
	"gosv/vmm/hostfs"
	"gosv/vmm/vhostuser"
	"gosv/vmm/volume"
)

// shareValid is how long the guest takes names and attributes in shared folders for true without asking; rootValid is the same for a
// root that has a private layer over it, and hardly changes.
const (
	shareValid = time.Second
	rootValid  = 10 * time.Second
)

// folder is a directory of the host that the guest sees.
type folder struct {
	tag      string // of the device
	dir      string // on the host
	only     string // the one entry of dir that the guest sees; "" for all
	target   string // in the guest; "" for its root
	readOnly bool
	volume   *volume.Volume // that dir is of, or nil

	anonymous bool // the volume is the machine's own, and goes with it

	server  *hostfs.Server
	process *os.Process   // of another server, virtiofsd
	socket  *os.File      // the monitor's end
	served  chan struct{} // closed when the server has ended
	problem error         // of the server; valid when served is closed
}

// folders are those of one machine, in the order of their tags.
type folders []*folder

// hiddenDir is where the folders of files that are shared are mounted in the guest.
const hiddenDir = "/run/gosv/"

// mounts are what the kernel is to mount.
func (l folders) mounts() (list []rootfs.Mount) {
	for _, f := range l {
		m := rootfs.Mount{Source: f.tag, Target: f.target, Type: "virtiofs"}
		if f.readOnly {
			m.Options = "ro"
		}
		switch {
		case f.target == "":
		case f.only == "":
			list = append(list, m)
		default: // a file: its folder is mounted out of the way, and the file where it should be
			m.Target = hiddenDir + f.tag
			list = append(list, m, rootfs.Mount{Source: path.Join(m.Target, f.only), Target: f.target, Type: "none", Options: "bind"})
		}
	}
	return list
}

// named are the shares without servers, for a machine that is started by hand.
func (l folders) named() (list []vmm.Share) {
	for _, f := range l {
		list = append(list, vmm.Share{Tag: f.tag})
	}
	return list
}

// serve starts a server for each folder: virtiofsd, if that is the path of one, else in this process.
func (l folders) serve(virtiofsd string) (list []vmm.Share, err error) {
	for _, f := range l {
		start := f.serve
		if virtiofsd != "" && f.target != "" { // virtiofsd cannot have / as its folder
			start = func() error { return f.serveBy(virtiofsd) }
		}
		if err := start(); err != nil {
			return nil, fmt.Errorf("sharing %s: %w", f.dir, err)
		}
		list = append(list, vmm.Share{Tag: f.tag, Socket: f.socket})
	}
	return list, nil
}

// queues of a file system device without multiqueue: one for FORGET, one for requests.
const shareQueues = 2

func (f *folder) serve() (err error) {
	valid := shareValid
	if f.target == "" {
		valid = rootValid
	}
	if f.server, err = hostfs.New(hostfs.Config{Dir: f.dir, Only: f.only, ReadOnly: f.readOnly, Valid: valid}); err != nil {
		return err
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socketpair", err)
	}
	f.socket = os.NewFile(uintptr(fds[0]), f.dir)
	ours := os.NewFile(uintptr(fds[1]), f.dir)
	defer ours.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		return err
	}
	f.served = make(chan struct{})
	go func() {
		f.problem = vhostuser.Serve(conn.(*net.UnixConn), shareQueues, func(_ int, readable, writable [][]byte) uint32 {
			return f.server.Handle(readable, writable)
		})
		close(f.served)
	}()
	return nil
}

// release closes this process's hold of the monitor's ends, when the monitor has them.
func (l folders) release() {
	for _, f := range l {
		if f.socket != nil {
			f.socket.Close()
		}
	}
}

// lost tells the tags of folders whose servers end.
func (l folders) lost() <-chan string {
	tags := make(chan string, len(l))
	for _, f := range l {
		go func() {
			<-f.served
			tags <- f.tag
		}()
	}
	return tags
}

// end waits for the servers, whose monitor is gone.
func (l folders) end() (err error) {
	l.release()
	for _, f := range l {
		if f.served != nil {
			if f.process != nil { // it may wait for another machine
				_ = f.process.Signal(syscall.SIGTERM)
				time.AfterFunc(time.Second, func() { _ = f.process.Kill() })
			}
			select {
			case <-f.served:
			case <-time.After(endTime):
				return fmt.Errorf("sharing %s: a request of the guest's takes too long on this machine; it was left alone", f.dir)
			}
			if f.problem != nil {
				err = errors.Join(err, fmt.Errorf("sharing %s: %w", f.dir, f.problem))
			}
		}
		if f.server != nil {
			f.server.Close()
		}
	}
	return err
}

// leave ends the use of the volumes.
func (l folders) leave() {
	for _, f := range l {
		if f.volume == nil {
			continue
		}
		f.volume.Close()
		if f.anonymous {
			if store, err := volume.Open(); err == nil {
				_ = store.Remove(f.volume.Name) // else `gosv volume ls` shows it
			}
		}
	}
}

// endTime is how long a server may take to end when its machine is gone.
const endTime = 3 * time.Second

// shares returns the folders that the flags share; root is the image, or nil.
func (o *runOptions) shares(root *rootSource) (list folders, err error) {
	defer func() {
		if err != nil {
			list.leave()
		}
	}()
	for _, s := range o.volumes {
		v, err := parseVolume(s)
		if err != nil {
			return list, err
		}
		f := &folder{tag: fmt.Sprintf("share%d", len(list)), dir: v.host, target: v.guest, readOnly: v.readOnly}
		switch {
		case v.name != "":
			if f.volume, err = v.use(root); err != nil {
				return list, err
			}
			f.dir = f.volume.Dir
			list = append(list, f)
		case v.shared():
			list = append(list, f)
		case o.root != nil || o.onDisk: // no archive brings files then
			f.dir, f.only = filepath.Split(v.host)
			list = append(list, f)
		}
	}
	if list, err = o.anonymous(root, list); err != nil {
		return list, err
	}
	if o.root != nil {
		list = append(list, o.root.folder())
	}
	return list, nil
}
