package stack

import "math/bits"

// room bounds what datagrams that wait to be read, and packets that wait to be sent, take in all stacks together; nil functions: there is no bound.
var room struct {
	take func(bytes int64) bool
	give func(bytes int64)
}

// SetRoom sets where their memory comes from. It is called before packets come in.
func (*Stack) SetRoom(take func(bytes int64) bool, give func(bytes int64)) {
	room.take, room.give = take, give
}

// truesize is what a packet in a queue takes, about as Linux counts it: its bytes lie in a piece whose size is a power of two, with headers,
// and it is told apart by structures of 576 bytes.
func truesize(pkt *PacketBuffer) int {
	const headers, structures = 96, 576
	return structures + 1<<bits.Len(uint(pkt.Data().Size()+headers))
}

// TakeRoom takes the memory for pkt, which is put into a socket's queue; false: there is no more.
func TakeRoom(pkt *PacketBuffer) (size int, ok bool) {
	size = truesize(pkt)
	return size, room.take == nil || room.take(int64(size))
}

// GiveRoom gives it back, before anything of pkt is read.
func GiveRoom(pkt *PacketBuffer) (size int) {
	size = truesize(pkt)
	if room.give != nil {
		room.give(int64(size))
	}
	return size
}

// hold returns a copy of a packet that waits to be sent, which takes room until it is released; nil when there is none.
func hold(pkt *PacketBuffer) *PacketBuffer {
	size, ok := TakeRoom(pkt)
	if !ok {
		return nil
	}
	c := pkt.Clone()
	c.onRelease = func() {
		if room.give != nil {
			room.give(int64(size))
		}
	}
	return c
}
