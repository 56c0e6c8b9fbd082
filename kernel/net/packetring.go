package net

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"gosv/kernel/mem"
	"gosv/machine"
)

// A packetRing is memory that a program shares with the kernel, in which frames are put without a system call
// (PACKET_RX_RING of packet(7), networking/packet_mmap of Linux), in the layouts TPACKET_V1 and V2. What the program
// writes there is looked at in one word of a frame only, its status, which says whose it is.
type packetRing struct {
	cache  *mem.Cache
	pages  [][]byte
	words  []machine.Memory // the same pages
	v1     bool
	frames int // all
	block  int // bytes in a block
	per    int // frames in a block
	size   int // bytes in a frame
	room   int // PACKET_RESERVE
	raw    bool
	head   int // the next frame
}

const (
	ringHeader = 32 // struct tpacket2_hdr, and tpacket_hdr rounded up
	ringAlign  = 16 // TPACKET_ALIGNMENT
	maxRing    = 32 << 20
	maxReserve = 4096
)

func alignRing(n int) int { return (n + ringAlign - 1) &^ (ringAlign - 1) }

// setRing is PACKET_RX_RING: EINVAL, EBUSY, ENOMEM. A ring without blocks takes the old one away.
func (p *packetSock) setRing(value []byte) error {
	if len(value) < 16 {
		return unix.EINVAL
	}
	u := func(i int) int { return int(binary.LittleEndian.Uint32(value[4*i:])) }
	block, blocks, size, frames := u(0), u(1), u(2), u(3)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.ring != nil && (p.ring.cache.Mapped() || blocks != 0):
		return unix.EBUSY
	case blocks == 0:
		if frames != 0 {
			return unix.EINVAL
		}
		if p.ring != nil {
			p.ring.release()
			p.ring = nil
		}
		return nil
	case block <= 0 || block%machine.PageSize != 0 || size%ringAlign != 0 || size < ringHeader+sizeLL+p.reserve || block/size == 0 || uint64(block/size)*uint64(blocks) != uint64(frames):
		return unix.EINVAL
	case uint64(block)*uint64(blocks) > uint64(min(maxRing, max(p.net.cfg.Memory/8, machine.PageSize))) || p.net.cfg.Pool == nil:
		return unix.ENOMEM
	}
	r := &packetRing{v1: p.version == unix.TPACKET_V1, frames: frames, block: block, per: block / size, size: size, room: p.reserve, raw: p.raw}
	if err := r.allocate(p.net.cfg.Pool, block*blocks); err != nil {
		return unix.ENOMEM
	}
	p.ring = r
	return nil
}

func (r *packetRing) allocate(pool *mem.Pool, bytes int) (err error) {
	r.cache = mem.NewShmem(pool)
	if err = r.cache.Truncate(int64(bytes)); err == nil {
		for i := range uint64(bytes / machine.PageSize) {
			var f machine.Frame
			if f, err = r.cache.Page(i, true); err != nil {
				break
			}
			b := pool.Bytes(f)
			r.pages, r.words = append(r.pages, b), append(r.words, machine.MemoryOf(b))
			pool.Unref(f) // the cache has it
		}
	}
	if err != nil {
		r.cache.Release()
	}
	return err
}

func (r *packetRing) release() { r.cache.Release() }

// at is where frame i lies.
func (r *packetRing) at(i int) int { return i/r.per*r.block + i%r.per*r.size }

func (r *packetRing) status(i int) uint32 {
	at := r.at(i)
	return r.words[at/machine.PageSize].Load32(uint64(at % machine.PageSize))
}

// write puts bytes at a place of the ring.
func (r *packetRing) write(at int, b []byte) {
	for len(b) > 0 {
		n := copy(r.pages[at/machine.PageSize][at%machine.PageSize:], b)
		at, b = at+n, b[n:]
	}
}

// ready reports whether the frame that was put last still waits for the program.
func (r *packetRing) ready() bool {
	return r.status((r.head+r.frames-1)%r.frames) != unix.TP_STATUS_KERNEL
}

// put puts a frame into the ring; false when the program has not given the next one back.
func (r *packetRing) put(f *seen) bool {
	if r.status(r.head) != unix.TP_STATUS_KERNEL {
		return false
	}
	at := r.at(r.head)
	net := alignRing(ringHeader+sizeLL) + ringAlign + r.room
	if r.raw {
		net = alignRing(ringHeader+sizeLL+max(f.net, ringAlign)) + r.room
	}
	mac := net - f.net
	data := f.data[:min(len(f.data), max(r.size-mac, 0))]
	r.write(at+mac, data)
	var h [ringHeader]byte
	le := binary.LittleEndian
	fields := h[4:] // status comes last
	if r.v1 {
		fields = h[8:]
	}
	le.PutUint32(fields, uint32(f.size))
	le.PutUint32(fields[4:], uint32(len(data)))
	le.PutUint16(fields[8:], uint16(mac))
	le.PutUint16(fields[10:], uint16(net))
	le.PutUint32(fields[12:], uint32(f.at.Unix()))
	frac := f.at.Nanosecond()
	if r.v1 {
		frac /= 1000
	}
	le.PutUint32(fields[16:], uint32(frac))
	r.write(at+4, h[4:])
	r.write(at+ringHeader, f.addr)
	r.words[at/machine.PageSize].Store32(uint64(at%machine.PageSize), f.status|unix.TP_STATUS_USER)
	r.head = (r.head + 1) % r.frames
	return true
}
