package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// bridgeTap makes a tap interface, attaches it to a bridge and brings it up; it vanishes with its
// file. EPERM without CAP_NET_ADMIN.
func bridgeTap(bridge string, cpus int) ([]*os.File, error) {
	link, err := net.InterfaceByName(bridge)
	if err != nil {
		return nil, errors.New("there is no such bridge (`ip link add NAME type bridge` as root makes one)")
	}
	files, err := openTap("gosv%d", cpus)
	if err != nil {
		return nil, err
	}
	if err := attach(files[0], link.Name); err != nil {
		for _, f := range files {
			f.Close()
		}
		return nil, err
	}
	return files, nil
}

// attach puts the tap interface of f on a bridge.
func attach(f *os.File, bridge string) error {
	name, err := tapName(f)
	if err != nil {
		return err
	}
	tap, err := net.InterfaceByName(name)
	if err != nil {
		return err
	}
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	to, err := unix.NewIfreq(bridge)
	if err != nil {
		return err
	}
	to.SetUint32(uint32(tap.Index))
	if err := unix.IoctlIfreq(s, unix.SIOCBRADDIF, to); err != nil {
		return fmt.Errorf("attaching %s to it: %w", tap.Name, err)
	}
	up, err := unix.NewIfreq(tap.Name)
	if err != nil {
		return err
	}
	up.SetUint16(unix.IFF_UP | unix.IFF_BROADCAST | unix.IFF_MULTICAST)
	return unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, up)
}

// helperPath is QEMU's helper, which is installed with the right to do this for bridges that
// /etc/qemu/bridge.conf names.
const helperPath = "/usr/lib/qemu/qemu-bridge-helper"

// bridgeHelper asks QEMU's helper for a tap interface on a bridge.
func bridgeHelper(bridge string) (*os.File, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "bridge"), os.NewFile(uintptr(pair[1]), "bridge")
	defer ours.Close()
	cmd := exec.Command(helperPath, "--use-vnet", "--br="+bridge, "--fd=3")
	cmd.ExtraFiles = []*os.File{theirs}
	text, err := cmd.CombinedOutput()
	theirs.Close()
	if err != nil {
		return nil, fmt.Errorf("it needs privilege, and QEMU's helper says: %w: %s", err, text)
	}
	b, oob := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(int(ours.Fd()), b, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, err
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(msgs) != 1 {
		return nil, errors.New("QEMU's helper gave no file")
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		return nil, errors.New("QEMU's helper gave no file")
	}
	return os.NewFile(uintptr(fds[0]), "tap"), nil
}
