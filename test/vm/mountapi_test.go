package vm

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The mount interface of descriptors, shared mounts and pivot_root(2): the same in a mount namespace of Linux and in machines.
func TestMountAPI(t *testing.T) {
	program := filepath.Join(guestDir, "mountapi.static")
	if exec.Command("unshare", "-m", "true").Run() == nil {
		if o, err := onLinux(job{program: program}); err != nil || o.status != 0 {
			t.Fatalf("on Linux: %v %v", err, o)
		}
	}
	for _, p := range []place{small, {small.machine, 4}} {
		if o := run(t, job{program: program}, p); o.status != 0 || strings.Contains(o.stdout, "FAIL") || !strings.Contains(o.stdout, "ok pivot_root") {
			t.Error(o)
		}
	}
}
