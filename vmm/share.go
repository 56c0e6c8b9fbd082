package vmm

import "os"

// A Share is a folder of the host that the guest sees as a virtio file system device.
type Share struct {
	// Tag is the device's name, at most 36 bytes.
	Tag string
	// Socket leads to the device's server, which speaks vhost-user (package vmm/vhostuser). The monitor inherits it.
	Socket *os.File
}
