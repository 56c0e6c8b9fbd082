package bootargs

import (
	"errors"
	"strconv"
	"strings"
)

// A Mount is a file system that is mounted before the program starts.
type Mount struct {
	Source  string // a block device (/dev/vda1, PARTUUID=…), the tag of a shared folder, "initrd", or a mere name
	Target  string // an absolute path, made when it is missing
	Type    string // empty: found out from the source, for a block device
	Options string // separated by commas, those of mount(8) among them: ro, nosuid, nodev, noexec, …
}

// Verity names the Merkle tree of a block device.
type Verity struct {
	Root []byte // the root hash
	// Tree is the block device that holds the superblock and the tree; empty: the device itself.
	Tree string
	// Offset is where the superblock begins on it, in bytes.
	Offset uint64
}

func (m *Mount) addOptions(o string) {
	if m.Options != "" {
		m.Options += ","
	}
	m.Options += o
}

// fields splits at spaces; \040 and the like in a field are octal, as in fstab(5).
func fields(s string) []string {
	list := strings.Fields(s)
	for i, f := range list {
		list[i] = unescape(f)
	}
	return list
}

func unescape(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b = append(b, byte(c))
				i += 3
				continue
			}
		}
		b = append(b, s[i])
	}
	return string(b)
}

// parseRoot reads SOURCE [TYPE [OPTIONS]].
func (a *Args) parseRoot(s string) error {
	f := fields(s)
	if len(f) == 0 || len(f) > 3 {
		return errors.New("root=" + s + ": SOURCE [TYPE [OPTIONS]] is wanted")
	}
	f = append(f, "", "")
	a.Root = &Mount{Source: f[0], Target: "/", Type: f[1], Options: f[2]}
	if a.Root.Type == "auto" {
		a.Root.Type = ""
	}
	return nil
}

// parseMount reads SOURCE TARGET TYPE [OPTIONS].
func (a *Args) parseMount(s string) error {
	f := fields(s)
	if len(f) < 3 || len(f) > 4 || f[1][0] != '/' {
		return errors.New("mount=" + s + ": SOURCE TARGET TYPE [OPTIONS] is wanted, with an absolute TARGET")
	}
	f = append(f, "")
	m := Mount{Source: f[0], Target: f[1], Type: f[2], Options: f[3]}
	if m.Type == "auto" {
		m.Type = ""
	}
	a.Mounts = append(a.Mounts, m)
	return nil
}

// parseVerity reads ROOTHASH [OFFSET [TREEDEVICE]].
func (a *Args) parseVerity(s string) error {
	f := fields(s)
	bad := len(f) == 0 || len(f) > 3
	v := &Verity{}
	if !bad {
		v.Root, bad = parseHex(f[0])
	}
	if !bad && len(f) > 1 {
		var err error
		v.Offset, err = strconv.ParseUint(f[1], 10, 63)
		bad = err != nil
	}
	if len(f) > 2 {
		v.Tree = f[2]
	}
	if bad {
		return errors.New("verity=" + s + ": ROOTHASH [OFFSET [DEVICE]] is wanted")
	}
	a.Verity = v
	return nil
}

// parseHex reads bytes of two hexadecimal digits each.
func parseHex(s string) (b []byte, bad bool) {
	for ; len(s) >= 2; s = s[2:] {
		n, err := strconv.ParseUint(s[:2], 16, 8)
		if err != nil {
			return nil, true
		}
		b = append(b, byte(n))
	}
	return b, s != ""
}
