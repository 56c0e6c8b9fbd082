package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gosv/image/rootfs"
	"gosv/vmm"
	"gosv/vmm/hostfs"
	"gosv/vmm/vhostuser"
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

// endTime is how long a server may take to end when its machine is gone.
const endTime = 3 * time.Second

// volume is what a --volume flag names.
type volume struct {
	host, guest string
	readOnly    bool
}

// parseVolume reads HOST:GUEST[:ro|:rw].
func parseVolume(s string) (v volume, err error) {
	rest := s
	for _, mode := range []string{":ro", ":rw"} {
		if head, ok := strings.CutSuffix(rest, mode); ok && strings.Contains(head, ":") {
			rest, v.readOnly = head, mode == ":ro"
			break
		}
	}
	i := strings.LastIndexByte(rest, ':')
	if i <= 0 || !path.IsAbs(rest[i+1:]) {
		return v, fmt.Errorf("--volume %s: say HOST:GUEST or HOST:GUEST:ro, with GUEST an absolute path", s)
	}
	v.guest = path.Clean(rest[i+1:])
	if v.host, err = filepath.Abs(rest[:i]); err != nil {
		return v, err
	}
	if _, err := os.Stat(v.host); err != nil {
		return v, fmt.Errorf("--volume %s: %w", s, err)
	}
	return v, nil
}

// isDir reports whether the host's end is a directory, which is shared; a file is copied.
func (v volume) isDir() bool {
	st, err := os.Stat(v.host)
	return err == nil && st.IsDir()
}

// shares returns the folders that the flags share.
func (o *runOptions) shares() (list folders, err error) {
	for _, s := range o.volumes {
		v, err := parseVolume(s)
		if err != nil {
			return nil, err
		}
		f := &folder{tag: fmt.Sprintf("share%d", len(list)), dir: v.host, target: v.guest, readOnly: v.readOnly}
		switch {
		case v.isDir():
			list = append(list, f)
		case o.root != nil || o.onDisk: // no archive brings files then
			f.dir, f.only = filepath.Split(v.host)
			list = append(list, f)
		}
	}
	if o.root != nil {
		list = append(list, o.root.folder())
	}
	return list, nil
}
