package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"gosv/vmm"
)

// A segment joins machines of one user in a network of their own. Each has a socket of datagrams in a
// directory that only that user may enter; frames are copied from one to the other by
// the gosv processes, so that no hub has to live longest, and nothing else can reach
// the segment.

// maxFrame is the largest frame, in bytes; there are no large packets on a segment.
const maxFrame = 64 << 10

// segmentDir returns the directory of a segment, which it makes.
func segmentDir(name string) (string, error) {
	if strings.ContainsAny(name, "/\x00") || strings.HasPrefix(name, ".") {
		return "", fmt.Errorf("--net segment:%s: the name of a segment has no slash and does not begin with a dot", name)
	}
	base := os.Getenv("XDG_RUNTIME_DIR")
	if base == "" {
		base = filepath.Join(os.TempDir(), fmt.Sprintf("gosv-%d", os.Getuid()))
	} else {
		base = filepath.Join(base, "gosv")
	}
	dir := filepath.Join(base, "segment", name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	// In a directory that all may write to, somebody else may have been first.
	var st unix.Stat_t
	if err := unix.Lstat(base, &st); err != nil {
		return "", &os.PathError{Op: "lstat", Path: base, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Getuid() || st.Mode&0o077 != 0 {
		return "", fmt.Errorf("%s is not this user's alone", base)
	}
	return dir, nil
}

// segment joins the machine to a segment.
func (n *network) segment(name string) error {
	dir, err := segmentDir(name)
	if err != nil {
		return err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socketpair", err)
	}
	ours := os.NewFile(uintptr(pair[0]), "segment")
	guest, err := net.FilePacketConn(ours)
	ours.Close()
	file := os.NewFile(uintptr(pair[1]), "segment")
	if err != nil {
		file.Close()
		return err
	}
	n.use(vmm.NetLink, file)
	path := filepath.Join(dir, net.HardwareAddr(n.device.MAC[:]).String())
	member, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		guest.Close()
		return err
	}
	before := n.close
	n.close = func() {
		before()
		member.Close()
		guest.Close()
		_ = os.Remove(path) // gone already, when all is well
	}
	s := &segment{dir: dir, self: filepath.Base(path), guest: guest, member: member, seen: map[string]*net.UnixAddr{}}
	go s.in()
	go s.out()
	return nil
}

type segment struct {
	dir    string
	self   string
	guest  net.PacketConn // to QEMU
	member *net.UnixConn  // to the others

	mu sync.Mutex
	// seen says where frames for an address go.
	seen map[string]*net.UnixAddr // +checklocks:mu
}

// in hands frames of others to the machine. It ends with the sockets.
func (s *segment) in() {
	b := make([]byte, maxFrame)
	for {
		n, from, err := s.member.ReadFromUnix(b)
		if err != nil {
			return
		}
		if n < 14 {
			continue
		}
		if from != nil && b[6]&1 == 0 {
			s.mu.Lock()
			if len(s.seen) < 4096 {
				s.seen[string(b[6:12])] = from
			}
			s.mu.Unlock()
		}
		if c, ok := s.guest.(net.Conn); ok {
			_, _ = c.Write(b[:n]) // a network may lose frames
		}
	}
}

// out hands the machine's frames to whom they are for: to all when that is not known.
func (s *segment) out() {
	b := make([]byte, maxFrame)
	for {
		n, _, err := s.guest.ReadFrom(b)
		if err != nil {
			return
		}
		if n < 14 {
			continue
		}
		s.mu.Lock()
		to := s.seen[string(b[:6])]
		s.mu.Unlock()
		if to != nil {
			if _, err := s.member.WriteToUnix(b[:n], to); err == nil {
				continue
			}
			s.mu.Lock()
			delete(s.seen, string(b[:6]))
			s.mu.Unlock()
		}
		s.flood(b[:n])
	}
}

func (s *segment) flood(frame []byte) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if e.Name() == s.self {
			continue
		}
		to := &net.UnixAddr{Name: filepath.Join(s.dir, e.Name()), Net: "unixgram"}
		if _, err := s.member.WriteToUnix(frame, to); err != nil && strings.Contains(err.Error(), unix.ECONNREFUSED.Error()) {
			_ = os.Remove(to.Name) // of a gosv that was killed
		}
	}
}
