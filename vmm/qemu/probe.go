package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"gosv/vmm"
)

// ProbeTime is how long a probe machine may take to answer.
const ProbeTime = 3 * time.Second

// Probe runs a machine that consists of image alone, a PVH image that writes
// answer to the debug-exit port. It returns nil when the machine did so within
// ProbeTime. To open /dev/kvm is no proof: there are hosts where that works and
// the guest then never runs an instruction.
func (m *Monitor) Probe(ctx context.Context, accel string, image *os.File, answer byte) error {
	vm, err := m.Start(vmm.Config{Kernel: image, Memory: 16 << 20, CPUs: 1, Machine: vmm.MachineMicroVM, Accel: accel})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, ProbeTime)
	defer cancel()
	select {
	case <-vm.Done():
	case <-ctx.Done():
		vm.Kill()
		<-vm.Done()
		return fmt.Errorf("a test machine did not answer within %v", ProbeTime)
	}
	vm.Serial().Close()
	exit := vm.Exit()
	if exit.Status == int(answer)<<1|1 {
		return nil
	}
	if line, _, _ := strings.Cut(exit.Messages, "\n"); line != "" {
		return errors.New(line)
	}
	return fmt.Errorf("a test machine %v", exit)
}
