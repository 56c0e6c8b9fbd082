package main

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// vhostVsock is what the host's kernel joins machines to AF_VSOCK with.
const vhostVsock = "/dev/vhost-vsock"

// checkVsock says why the machine cannot be joined by AF_VSOCK. (QEMU's own message is hard to understand.)
func checkVsock(o *runOptions) error {
	if o.vsock == 0 && (o.changed == nil || !o.changed("vsock")) {
		return nil
	}
	if o.vsock <= unix.VMADDR_CID_HOST || o.vsock == unix.VMADDR_CID_ANY {
		return fmt.Errorf("--vsock %d: numbers of machines go from 3 to 4294967294", o.vsock)
	}
	if o.dryRun {
		return nil
	}
	f, err := os.OpenFile(vhostVsock, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("--vsock: this machine has no %s: `modprobe vhost_vsock` as root brings it, where the kernel has it", vhostVsock)
	}
	if err != nil {
		return fmt.Errorf("--vsock: %w", err)
	}
	return f.Close()
}
