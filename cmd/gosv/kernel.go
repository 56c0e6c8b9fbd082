package main

import (
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"gosv/image/pvh"
)

// embedded holds kernel/kernel.elf when `make build` made this command.
//
//go:embed kernel
var embedded embed.FS

const embeddedName = "kernel/kernel.elf"

var errNoKernel = errors.New("this gosv was built without a kernel: build it with `make build`, or name one with --kernel FILE")

// embeddedKernel returns the kernel that is part of this command.
func embeddedKernel() ([]byte, error) {
	b, err := embedded.ReadFile(embeddedName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNoKernel
	}
	return b, err
}

// openKernel opens the kernel in the named file, or the embedded one when name
// is empty, and checks that it can be booted.
func openKernel(name string) (*os.File, pvh.Info, error) {
	f, image, err := readKernel(name)
	if err != nil {
		return nil, pvh.Info{}, err
	}
	info, err := pvh.Inspect(image)
	if err != nil {
		f.Close()
		if name == "" {
			name = "the kernel in this command"
		}
		return nil, pvh.Info{}, fmt.Errorf("%s is no bootable kernel: %w", name, err)
	}
	return f, info, nil
}

func readKernel(name string) (*os.File, []byte, error) {
	if name != "" {
		f, err := os.Open(name)
		if err != nil {
			return nil, nil, fmt.Errorf("--kernel: %w", err)
		}
		image, err := io.ReadAll(f)
		if err != nil {
			f.Close()
			return nil, nil, fmt.Errorf("--kernel: %w", err)
		}
		return f, image, nil
	}
	// The 8 MB are copied once, into the file that the monitor gets, and looked at there.
	in, err := embedded.Open(embeddedName)
	if err != nil {
		return nil, nil, errNoKernel
	}
	defer in.Close()
	f, err := memoryFile("kernel.elf")
	if err != nil {
		return nil, nil, err
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{f}, in, make([]byte, 256<<10))
	if err == nil {
		var image []byte
		if image, err = unix.Mmap(int(f.Fd()), 0, int(n), unix.PROT_READ, unix.MAP_SHARED); err == nil {
			return f, image, nil
		}
	}
	f.Close()
	return nil, nil, err
}

// kernelID describes the embedded kernel for gosv version.
func kernelID() string {
	image, err := embeddedKernel()
	if err != nil {
		return "none (built without `make build`)"
	}
	return fmt.Sprintf("%d bytes, sha256 %.12x", len(image), sha256.Sum256(image))
}
