// Package frames is the protocol of the exec port, by which the host has
// further programs run in a machine: many sessions, one program each, on one
// byte stream in each direction. Both ends use it, and neither trusts the other.
//
// A frame is an 8-byte header (little endian: session uint32, kind uint8, a zero byte,
// length uint16) and up to MaxPayload bytes. The host chooses session numbers;
// one is in use from Start to Exit or Failed.
//
// Flow control: of Input, Output and Errors each side may send Window bytes,
// and as many more as Credit frames have granted since. So one session whose reader
// is slow holds up no other, and what an end must keep is bounded.
package frames

import (
	"encoding/binary"
	"errors"
)

// Kind says what a frame means.
type Kind uint8

// The kinds, and their payloads.
const (
	// Host to guest.
	Start    Kind = 1 // what to run: NUL-terminated records key=value
	Input    Kind = 2 // bytes of standard input
	InputEnd Kind = 3 // its end
	Signal   Kind = 4 // one byte: the signal's number
	Resize   Kind = 5 // rows and columns of the terminal, uint16 each
	Hangup   Kind = 6 // nobody is there any more: streams end, a terminal hangs up

	// Guest to host.
	Output Kind = 16 // bytes of standard output, or of the terminal
	Errors Kind = 17 // bytes of standard error
	Exit   Kind = 18 // one byte: the status; 128 + n after signal n
	Failed Kind = 19 // one byte: the status (125, 126, 127), then a text: the program could not be started

	// Both ways.
	Credit Kind = 32 // one byte: the kind that may go on; uint32: how many bytes more
)

const (
	// MaxPayload is the most that one frame carries, in bytes.
	MaxPayload = 32 << 10
	// Window is how many bytes of a stream may be under way at the start.
	Window = 64 << 10

	headerSize = 8
)

// ErrBad is what a Decoder says of bytes that are no frame.
var ErrBad = errors.New("malformed frame")

// Frame is one message.
type Frame struct {
	Session uint32
	Kind    Kind
	Payload []byte
}

// Append encodes f behind b. Its payload must not be longer than MaxPayload.
func Append(b []byte, f Frame) []byte {
	b = binary.LittleEndian.AppendUint32(b, f.Session)
	b = append(b, byte(f.Kind), 0)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(f.Payload)))
	return append(b, f.Payload...)
}

// AppendCredit encodes a grant of n bytes of kind.
func AppendCredit(b []byte, session uint32, kind Kind, n int) []byte {
	var p [5]byte
	p[0] = byte(kind)
	binary.LittleEndian.PutUint32(p[1:], uint32(n))
	return Append(b, Frame{session, Credit, p[:]})
}

// ParseCredit reads the payload of a Credit frame.
func ParseCredit(p []byte) (kind Kind, n int, ok bool) {
	if len(p) != 5 {
		return 0, 0, false
	}
	grant := binary.LittleEndian.Uint32(p[1:])
	return Kind(p[0]), int(grant), grant <= Window
}

// ParseSize reads the payload of a Resize frame.
func ParseSize(p []byte) (rows, cols uint16, ok bool) {
	if len(p) != 4 {
		return 0, 0, false
	}
	return binary.LittleEndian.Uint16(p), binary.LittleEndian.Uint16(p[2:]), true
}

// AppendSize encodes the payload of a Resize frame.
func AppendSize(b []byte, rows, cols uint16) []byte {
	return binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint16(b, rows), cols)
}

// Decoder takes a byte stream apart. It keeps less than one frame. The zero value is ready.
type Decoder struct{ rest []byte }

// Feed calls each for every frame that b completes. The payload is valid during the
// call. It returns ErrBad, and is of no more use, when the stream is no sequence of frames.
func (d *Decoder) Feed(b []byte, each func(Frame)) error {
	if len(d.rest) > 0 {
		b = append(d.rest, b...)
	}
	for len(b) >= headerSize {
		n := int(binary.LittleEndian.Uint16(b[6:]))
		if n > MaxPayload || b[5] != 0 {
			return ErrBad
		}
		if len(b) < headerSize+n {
			break
		}
		each(Frame{binary.LittleEndian.Uint32(b), Kind(b[4]), b[headerSize : headerSize+n]})
		b = b[headerSize+n:]
	}
	d.rest = append([]byte(nil), b...)
	return nil
}
