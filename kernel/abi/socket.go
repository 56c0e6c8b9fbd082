package abi

// Msghdr is struct user_msghdr, with addresses as numbers (recvmsg(2)).
type Msghdr struct {
	Name       uint64
	Namelen    int32
	Iov        uint64
	Iovlen     uint64
	Control    uint64
	Controllen uint64
	Flags      uint32
}

// SizeofMsghdr is the size of Msghdr, SizeofMmsghdr of struct mmsghdr, which has msg_len behind.
const (
	SizeofMsghdr  = 56
	SizeofMmsghdr = 64
)

// GetMsghdr reads a Msghdr.
func GetMsghdr(b []byte) Msghdr {
	b = b[:SizeofMsghdr]
	return Msghdr{get64(b, 0), int32(get32(b, 8)), get64(b, 16), get64(b, 24), get64(b, 32), get64(b, 40), get32(b, 48)}
}
