package hostfs

import (
	"strings"

	"golang.org/x/sys/unix"
)

// Extended attributes are the user's. The capabilities of programs can be read too; they and what else the
// host's kernel obeys are not the guest's to set.

func readable(name string) bool {
	return strings.HasPrefix(name, "user.") || name == "security.capability"
}

const mostValue = 64 << 10

// attrNode returns the node of a request about the attribute whose name is at off, to be dropped: EOPNOTSUPP.
func (s *Server) attrNode(r *request, off int, may func(string) bool) (*node, string, error) {
	names, err := r.names(off, 1)
	if err != nil {
		return nil, "", err
	}
	if !may(names[0]) {
		return nil, "", unix.EOPNOTSUPP
	}
	n, err := s.nodes.get(r.node)
	return n, names[0], err
}

func settable(name string) bool { return strings.HasPrefix(name, "user.") }

func (s *Server) getxattr(r *request) (*body, error) {
	n, name, err := s.attrNode(r, 8, readable)
	if err != nil {
		return nil, err
	}
	defer n.drop()
	b := make([]byte, mostValue)
	got, err := unix.Getxattr(n.path(), name, b)
	if err != nil {
		return nil, err
	}
	return sized(r, b[:got])
}

// sized answers a request that says how much it takes, 0 to be told the size: ERANGE.
func sized(r *request, b []byte) (*body, error) {
	switch size := int(r.u32(0)); {
	case size == 0:
		return &body{bytes: le.AppendUint64(nil, uint64(len(b)))}, nil
	case size < len(b):
		return nil, unix.ERANGE
	}
	return &body{bytes: b}, nil
}

func (s *Server) listxattr(r *request) (*body, error) {
	n, err := s.nodes.get(r.node)
	if err != nil {
		return nil, err
	}
	defer n.drop()
	b := make([]byte, mostValue)
	got, err := unix.Listxattr(n.path(), b)
	if err != nil {
		return nil, err
	}
	var list []byte
	for name := range strings.SplitSeq(string(b[:got]), "\x00") {
		if readable(name) {
			list = append(append(list, name...), 0)
		}
	}
	return sized(r, list)
}

func (s *Server) setxattr(r *request) (*body, error) {
	n, name, err := s.attrNode(r, 8, settable)
	if err != nil {
		return nil, err
	}
	defer n.drop()
	size, at := int(r.u32(0)), 8+len(name)+1
	if size > mostValue || len(r.args)-at < size {
		return nil, unix.EINVAL
	}
	return nil, unix.Setxattr(n.path(), name, r.args[at:at+size], int(r.u32(4)))
}

func (s *Server) removexattr(r *request) (*body, error) {
	n, name, err := s.attrNode(r, 0, settable)
	if err != nil {
		return nil, err
	}
	defer n.drop()
	return nil, unix.Removexattr(n.path(), name)
}
