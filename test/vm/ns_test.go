package vm

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Namespaces: the same on Linux, where root may make them, and in machines.
func TestNamespaces(t *testing.T) {
	program := filepath.Join(guestDir, "ns.static")
	if exec.Command("unshare", "-mpu", "true").Run() == nil {
		if o, err := onLinux(job{program: program}); err != nil || o.status != 0 {
			t.Fatalf("on Linux: %v %v", err, o)
		}
	}
	for _, p := range []place{small, {small.machine, 4}} {
		if o := run(t, job{program: program}, p); o.status != 0 || strings.Contains(o.stdout, "FAIL") || !strings.Contains(o.stdout, "ok needs_rights") {
			t.Error(o)
		}
	}
}
