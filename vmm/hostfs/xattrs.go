package hostfs

import (
	"strings"

	"golang.org/x/sys/unix"
)

// Extended attributes are the user's. Those that only the guest's root may see ("trusted.") are kept as the user's of another
// name, since the host's kernel would obey them. The capabilities of programs can be read; they and what else concerns
// the host's security are not the guest's to set.

const (
	trusted = "trusted."
	hidden  = "user.gosv.trusted."
)

// hostName is the host's name of an attribute; ok is false for what the guest has no business with.
func hostName(name string, write bool) (_ string, ok bool) {
	switch {
	case strings.HasPrefix(name, hidden):
		return "", false
	case strings.HasPrefix(name, trusted):
		return hidden + name[len(trusted):], true
	case strings.HasPrefix(name, "user."), name == "security.capability" && !write:
		return name, true
	}
	return "", false
}

// guestName is the guest's name of an attribute of the host.
func guestName(name string) (_ string, ok bool) {
	if rest, ok := strings.CutPrefix(name, hidden); ok {
		return trusted + rest, true
	}
	return name, strings.HasPrefix(name, "user.") || name == "security.capability"
}

const mostValue = 64 << 10

// attrNode returns the node of a request about the attribute whose name is at off, to be dropped, its name on the host, and the length
// of that in the guest: EOPNOTSUPP.
func (s *Server) attrNode(r *request, off int, write bool) (n *node, name string, length int, err error) {
	names, err := r.names(off, 1)
	if err != nil {
		return nil, "", 0, err
	}
	name, ok := hostName(names[0], write)
	if !ok {
		return nil, "", 0, unix.EOPNOTSUPP
	}
	n, err = s.nodes.get(r.node)
	if err == nil && n.sealed {
		n.drop()
		return nil, "", 0, unix.EOPNOTSUPP
	}
	return n, name, len(names[0]), err
}

func (s *Server) getxattr(r *request) (*body, error) {
	n, name, _, err := s.attrNode(r, 8, false)
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
	if n.sealed {
		return sized(r, nil)
	}
	b := make([]byte, mostValue)
	got, err := unix.Listxattr(n.path(), b)
	if err != nil {
		return nil, err
	}
	var list []byte
	for name := range strings.SplitSeq(string(b[:got]), "\x00") {
		if name, ok := guestName(name); ok {
			list = append(append(list, name...), 0)
		}
	}
	return sized(r, list)
}

func (s *Server) setxattr(r *request) (*body, error) {
	n, name, length, err := s.attrNode(r, 8, true)
	if err != nil {
		return nil, err
	}
	defer n.drop()
	size, at := int(r.u32(0)), 8+length+1
	if size > mostValue || len(r.args)-at < size {
		return nil, unix.EINVAL
	}
	return nil, unix.Setxattr(n.path(), name, r.args[at:at+size], int(r.u32(4)))
}

func (s *Server) removexattr(r *request) (*body, error) {
	n, name, _, err := s.attrNode(r, 0, true)
	if err != nil {
		return nil, err
	}
	defer n.drop()
	return nil, unix.Removexattr(n.path(), name)
}
