package main

import (
	"gosv/driver/acpi"
	"gosv/driver/balloon"
	"gosv/driver/console"
	"gosv/driver/nvme"
	"gosv/driver/pci"
	"gosv/driver/probe"
	"gosv/driver/rtc"
	"gosv/driver/virtio"
	"gosv/machine"
	"gosv/machine/bare"
)

// devices are the machine's virtio devices by type, each list in the order in which they were found.
type devices map[uint32][]virtio.Transport

// findDevices looks for the virtio devices of the machine, and for its NVM Express controllers.
func findDevices(m machine.Machine, l *log) (found devices, nvmes []*pci.Function) {
	found = devices{}
	for _, t := range probe.Devices(m, l.problem, func(f *pci.Function) {
		if nvme.IsNVMe(f) {
			nvmes = append(nvmes, f)
		}
	}) {
		found[t.Type()] = append(found[t.Type()], t)
	}
	return found, nvmes
}

// startAll starts the devices of a type; those that do not start are left out.
func startAll[D any](found devices, typ uint32, l *log, start func(virtio.Transport) (D, error)) []D {
	var list []D
	for _, t := range found[typ] {
		if d, err := start(t); err != nil {
			l.problem(err)
		} else {
			list = append(list, d)
		}
	}
	return list
}

// consoles starts the virtio consoles.
func (found devices) consoles(m machine.Machine, l *log) []*console.Console {
	return startAll(found, virtio.TypeConsole, l, func(t virtio.Transport) (*console.Console, error) { return console.New(t, m) })
}

// balloons starts the memory balloons, which can wait until the program runs.
func (found devices) balloons(m *bare.Machine, l *log) {
	startAll(found, virtio.TypeBalloon, l, func(t virtio.Transport) (*balloon.Device, error) { return balloon.New(t, m) })
}

// setPower arranges for powering off through ACPI where there is one.
func setPower(m machine.Machine) {
	if m.RSDP() == 0 {
		return
	}
	m.OnOff(func() {
		tables, err := acpi.Load(m.Physical, m.RSDP())
		if err != nil {
			return
		}
		if p, err := tables.Power(); err == nil {
			p.PowerOff(m)
		}
	})
}

// setWallClock takes the time of day from the real-time clock.
func setWallClock(m machine.Machine, l *log) {
	t, err := rtc.Read(m)
	if err != nil {
		l.line("gosv: " + err.Error() + ": the time of day is wrong")
		return
	}
	m.SetWall(t * 1e9)
}
