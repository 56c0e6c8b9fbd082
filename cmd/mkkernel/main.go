// Command mkkernel is the last step of building the kernel: it turns the
// executable that the Go linker made into a PVH image (see image/pvh).
//
//	mkkernel [-max BYTES] EXECUTABLE IMAGE
//
// It exits with status 1 and leaves IMAGE alone when EXECUTABLE is not a
// kernel or the image would be larger than -max.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"gosv/image/pvh"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "mkkernel:", err)
		os.Exit(1)
	}
}

func run(args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("mkkernel", flag.ContinueOnError)
	limit := flags.Int("max", 0, "largest image allowed, in `bytes`; 0 for no limit")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 2 {
		return fmt.Errorf("usage: mkkernel [-max BYTES] EXECUTABLE IMAGE")
	}
	in, out := flags.Arg(0), flags.Arg(1)
	executable, err := os.ReadFile(in)
	if err != nil {
		return err
	}
	image, err := pvh.Link(executable)
	if err != nil {
		return fmt.Errorf("%s: %w", in, err)
	}
	if *limit > 0 && len(image) > *limit {
		return fmt.Errorf("%s: the image has %d bytes, %d are allowed: `go tool nm -size -sort size %s` shows what grew", in, len(image), *limit, in)
	}
	if err := replace(out, image); err != nil {
		return err
	}
	info, err := pvh.Inspect(image)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%s: %d bytes, occupies physical memory up to %#x\n", out, len(image), info.Memory)
	return nil
}

// replace writes path so that a reader sees the old file or the new one.
func replace(path string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".mkkernel-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	if _, err := tmp.Write(data); err != nil {
		tmp.Close()
		return err
	}
	if err := tmp.Chmod(0o644); err != nil {
		tmp.Close()
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
