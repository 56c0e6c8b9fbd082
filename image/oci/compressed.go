package oci

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
)

// decompressed returns what a file holds, decompressed when it begins as gzip (RFC 1952) or zstd (RFC 8878) does, as `docker load` reads
// them; plain says that it does not.
func decompressed(f io.Reader) (in io.ReadCloser, plain bool, err error) {
	r := bufio.NewReaderSize(f, 256<<10)
	magic, _ := r.Peek(4) // what is shorter is neither
	switch {
	case len(magic) == 4 && string(magic[:2]) == "\x1f\x8b":
		in, err = gzip.NewReader(r)
		return in, false, err
	case string(magic) == "\x28\xb5\x2f\xfd":
		d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return nil, false, err
		}
		return d.IOReadCloser(), false, nil
	}
	return io.NopCloser(r), true, nil
}

// decompress returns the name of a file with a plain archive: the archive itself, or a copy.
func (i *Image) decompress(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	in, plain, err := decompressed(f)
	if err != nil {
		return "", truncated(err)
	}
	defer in.Close()
	if plain {
		return name, nil
	}
	temp, err := i.tempDir()
	if err != nil {
		return "", err
	}
	out, err := os.Create(filepath.Join(temp, "archive.tar"))
	if err != nil {
		return "", err
	}
	n, err := io.Copy(out, io.LimitReader(in, DefaultLimit+1))
	if err := errors.Join(err, out.Close()); err != nil {
		return "", truncated(err)
	}
	if n > DefaultLimit {
		return "", fmt.Errorf("%w: more than %d GiB when it is decompressed", ErrHostile, int64(DefaultLimit)>>30)
	}
	return out.Name(), nil
}

// tempDir returns the folder for what is unpacked, which Close removes.
func (i *Image) tempDir() (dir string, err error) {
	if i.temp == "" {
		i.temp, err = os.MkdirTemp("", "gosv-oci-")
	}
	return i.temp, err
}
