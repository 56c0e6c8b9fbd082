package qemu

import (
	"fmt"

	"gosv/vmm"
)

// memoryID names the guest's memory when servers of devices share it.
const memoryID = "mem"

// shareID names the character device that leads to the server of share i.
func shareID(i int) string { return fmt.Sprintf("share%d", i) }

// mostMMIO is how many virtio devices microvm has places for.
const mostMMIO = 8

// places is how many the machine's devices need.
func places(c vmm.Config) int {
	n := 1 + len(c.Disks) + len(c.Shares)
	for _, has := range []bool{c.Net.Kind != vmm.NetNone, c.Vsock != 0, c.Balloon == vmm.BalloonMust} {
		if has {
			n++
		}
	}
	return n
}

// balloonArguments returns the arguments for the balloon.
func balloonArguments(c vmm.Config, bus string) []string {
	if c.Balloon == vmm.BalloonNone || bus == busMMIO && c.Balloon == vmm.BalloonFits && places(c) >= mostMMIO {
		return nil
	}
	return []string{"-device", virtioDevice("virtio-balloon", bus) + ",free-page-reporting=on"}
}

// checkPlaces refuses more devices than the machine has places for.
func checkPlaces(c vmm.Config, bus string) error {
	n := places(c)
	if bus == busMMIO && n > mostMMIO {
		return fmt.Errorf("%s has places for %d devices, with %d disks and shared folders it would need %d: use --machine %s",
			vmm.MachineMicroVM, mostMMIO, len(c.Disks)+len(c.Shares), n, vmm.MachineQ35)
	}
	return nil
}

// sharedMemory returns what is added to the value of -M, and arguments, for memory that servers of devices can map.
func sharedMemory(c vmm.Config) (machine string, args []string) {
	if len(c.Shares) == 0 {
		return "", nil
	}
	return ",memory-backend=" + memoryID, []string{"-object",
		fmt.Sprintf("memory-backend-memfd,id=%s,size=%s,share=on", memoryID, memoryOption(c.Memory))}
}

// shareArguments returns the arguments for share i, whose server is behind chardev.
func shareArguments(i int, s vmm.Share, bus, chardev string) ([]string, error) {
	if len(s.Tag) == 0 || len(s.Tag) > 36 {
		return nil, fmt.Errorf("%q is no tag of a file system device", s.Tag)
	}
	device := "vhost-user-fs-device"
	if bus == busPCI {
		device = "vhost-user-fs-pci"
	}
	// A request of 1 MiB takes up to 258 descriptors, and no chain may be longer than the queue.
	return []string{"-chardev", chardev, "-device", fmt.Sprintf("%s,chardev=%s,tag=%s,queue-size=512", device, shareID(i), escape(s.Tag))}, nil
}
