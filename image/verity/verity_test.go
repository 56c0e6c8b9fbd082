package verity

import (
	"bytes"
	"testing"
)

func TestTree(t *testing.T) {
	data := bytes.Repeat([]byte{1, 2, 3, 4}, 300*BlockSize/4)
	a, root, err := Tree(bytes.NewReader(data), int64(len(data)), Options{Salt: []byte("s"), UUID: [16]byte{7}})
	if err != nil {
		t.Fatal(err)
	}
	if len(a) != (1+1+3)*BlockSize { // superblock, one block over three
		t.Errorf("%d bytes", len(a))
	}
	b, again, err := Tree(bytes.NewReader(data), int64(len(data)), Options{Salt: []byte("s"), UUID: [16]byte{7}})
	if err != nil || !bytes.Equal(a, b) || root != again {
		t.Error("not the same twice", err)
	}
	data[5]++
	if _, other, _ := Tree(bytes.NewReader(data), int64(len(data)), Options{Salt: []byte("s")}); other == root {
		t.Error("a changed byte does not change the root hash")
	}
	for _, size := range []int64{0, 100, BlockSize + 1} {
		if _, _, err := Tree(bytes.NewReader(data), size, Options{}); err == nil {
			t.Errorf("%d bytes: no error", size)
		}
	}
	if _, _, err := Tree(bytes.NewReader(data), BlockSize, Options{Salt: make([]byte, 257)}); err == nil {
		t.Error("long salt: no error")
	}
}
