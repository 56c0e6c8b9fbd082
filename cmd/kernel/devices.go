package main

import (
	"gosv/driver/acpi"
	"gosv/driver/console"
	"gosv/driver/probe"
	"gosv/driver/rtc"
	"gosv/machine"
)

// virtioConsole is the device's type (virtio 1.2 §5).
const virtioConsole = 3

// findConsoles starts the virtio consoles of the machine.
func findConsoles(m machine.Machine, l *log) []*console.Console {
	var found []*console.Console
	problem := func(err error) { l.line("gosv: " + err.Error()) }
	for _, t := range probe.Virtio(m, problem) {
		if t.Type() != virtioConsole {
			continue
		}
		c, err := console.New(t, m)
		if err != nil {
			problem(err)
			continue
		}
		found = append(found, c)
	}
	return found
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
