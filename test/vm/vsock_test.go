package vm

import (
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// AF_VSOCK within the machine; on Linux first where that has a loopback (vsock_loopback is a module of its own).
func TestVsock(t *testing.T) {
	j := job{program: filepath.Join(guestDir, "vsock.static")}
	if linuxVsock() {
		if o, err := onLinux(j); err != nil || o.status != 0 {
			t.Fatalf("on Linux: %v %v", err, o)
		}
	}
	for _, p := range []place{small, {small.machine, 4}} {
		if o := run(t, j, p); o.status != 0 || strings.Contains(o.stdout, "FAIL") || !strings.Contains(o.stdout, "ok options") {
			t.Error(o)
		}
	}
}

func linuxVsock() bool {
	s, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(s)
	return unix.Bind(s, &unix.SockaddrVM{CID: unix.VMADDR_CID_LOCAL, Port: unix.VMADDR_PORT_ANY}) == nil
}
