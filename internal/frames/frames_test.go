package frames

import (
	"bytes"
	"reflect"
	"testing"
)

func sample() ([]Frame, []byte) {
	list := []Frame{
		{1, Start, []byte("arg=ls\x00")},
		{1, Input, bytes.Repeat([]byte("x"), MaxPayload)},
		{0xffffffff, InputEnd, []byte{}},
		{7, Resize, AppendSize(nil, 24, 80)},
	}
	var b []byte
	for _, f := range list {
		b = Append(b, f)
	}
	return list, AppendCredit(b, 9, Output, 4096)
}

func TestDecoderAtAnyCut(t *testing.T) {
	want, b := sample()
	for _, step := range []int{1, 7, 8, 9, 1000, len(b)} {
		var d Decoder
		var got []Frame
		for i := 0; i < len(b); i += step {
			err := d.Feed(b[i:min(i+step, len(b))], func(f Frame) {
				f.Payload = append([]byte{}, f.Payload...)
				got = append(got, f)
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if len(got) != len(want)+1 || !reflect.DeepEqual(got[:len(want)], want) {
			t.Fatalf("in steps of %d: %d frames", step, len(got))
		}
		kind, n, ok := ParseCredit(got[len(want)].Payload)
		if kind != Output || n != 4096 || !ok {
			t.Errorf("credit: %d, %d, %t", kind, n, ok)
		}
		rows, cols, ok := ParseSize(got[3].Payload)
		if rows != 24 || cols != 80 || !ok {
			t.Errorf("size: %d, %d, %t", rows, cols, ok)
		}
	}
}

func TestDecoderRefuses(t *testing.T) {
	for _, b := range [][]byte{
		{0, 0, 0, 0, 2, 0, 0x01, 0x80}, // one byte too long
		{0, 0, 0, 0, 2, 1, 0, 0},       // the byte that must be zero
	} {
		var d Decoder
		if err := d.Feed(b, func(Frame) { t.Error("a frame") }); err != ErrBad {
			t.Errorf("% x: %v", b, err)
		}
	}
	if _, _, ok := ParseCredit([]byte{16, 1, 0, 1, 0}); ok {
		t.Error("a grant beyond the window was taken")
	}
}

func FuzzDecoder(f *testing.F) {
	_, b := sample()
	f.Add(b, 3)
	f.Add([]byte{0, 0, 0, 0, 2, 0, 0xff, 0xff}, 1)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		cut = max(0, min(cut, len(b)))
		var whole, parts []byte
		var d, e Decoder
		err := d.Feed(b, func(f Frame) { whole = Append(whole, f) })
		err2 := e.Feed(b[:cut], func(f Frame) { parts = Append(parts, f) })
		if err2 == nil {
			err2 = e.Feed(b[cut:], func(f Frame) { parts = Append(parts, f) })
		}
		if err != err2 || !bytes.Equal(whole, parts) {
			t.Errorf("cut at %d: %v and %v", cut, err, err2)
		}
		if err == nil && !bytes.Equal(append(whole, d.rest...), b) {
			t.Error("bytes were lost")
		}
	})
}
