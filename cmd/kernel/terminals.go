package main

import (
	"golang.org/x/sys/unix"

	"gosv/driver/chardev"
	"gosv/fs/devfs"
	"gosv/fs/devpts"
	"gosv/kernel/bootargs"
	"gosv/kernel/task"
	"gosv/kernel/tty"
	"gosv/kernel/vfs"
)

// mountTerminals adds the terminals to /dev: /dev/tty, pseudo-terminals, and
// /dev/console, which is the host's terminal in a terminal session.
func mountTerminals(k *task.Kernel, ctx *vfs.Context, dev *devfs.Devices, s *streams, w bootargs.Window) error {
	console := chardev.Open(s.stdout)
	if s.tty != nil {
		s.terminal = tty.NewHost(k, s.tty, tty.AuxMajor, tty.ConsoleMinor)
		s.terminal.SetSize(unix.Winsize{Row: w.Rows, Col: w.Columns})
		k.Terminal = s.terminal
		console = s.terminal.OpenDevice
	}
	for _, d := range []struct {
		name        string
		minor, mode uint32
		open        vfs.OpenDevice
	}{
		{"console", tty.ConsoleMinor, 0o600, console},
		{"tty", tty.TTYMinor, 0o666, tty.OpenControlling(k)},
		{"ptmx", tty.MasterMinor, 0o666, devpts.OpenMaster},
	} {
		if err := dev.Add(d.name, unix.S_IFCHR, tty.AuxMajor, d.minor, d.mode, d.open); err != nil {
			return err
		}
	}
	k.Namespace.AddType(devpts.Type(k, k.Clock.Wall))
	fs, err := devpts.New(k, k.Clock.Wall, "mode=620,ptmxmode=666,gid=5")
	if err != nil {
		return err
	}
	return mount(k.Namespace, ctx, "/dev/pts", fs)
}
