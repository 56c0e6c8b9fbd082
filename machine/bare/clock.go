package bare

import (
	"gosv/machine"
	"gosv/machine/floor"
)

// Monotonic implements machine.Clock.
func (*Machine) Monotonic() int64 { return int64(floor.Now()) }

// Ticks implements machine.Clock.
func (*Machine) Ticks() uint64 { return floor.Ticks() }

// TicksToNS implements machine.Clock.
func (*Machine) TicksToNS(d uint64) int64 { return int64(floor.TicksToNS(d)) }

// Wall implements machine.Clock.
func (*Machine) Wall() int64 { return int64(floor.Now() + floor.WallOffset()) }

// SetWall implements machine.Clock.
func (*Machine) SetWall(ns int64) { floor.SetWallOffset(uint64(ns) - floor.Now()) }

// SetAlarm implements machine.Clock.
func (*Machine) SetAlarm(ns int64) { floor.SetAlarm(uint64(max(ns, 0))) }

// OnAlarm implements machine.Clock.
func (m *Machine) OnAlarm(f func()) { m.interrupts.setHandler(0, f) }

// Timebase implements machine.Clock.
func (*Machine) Timebase() machine.Timebase {
	tsc, mult, base := floor.Timebase()
	return machine.Timebase{Usable: base == 0, TSC: tsc, Mult: mult, WallOffset: int64(floor.WallOffset())}
}
