package vhostuser

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// pollable returns f for the runtime's poller, and closes f.
func pollable(f *os.File) (*os.File, error) {
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("a queue's kick: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("a queue's kick: %w", err)
	}
	return os.NewFile(uintptr(fd), "kick"), nil
}
