// Package rtc reads the PC's real-time clock (Motorola MC146818A).
package rtc

import (
	"errors"
)

// Ports is the access to I/O ports.
type Ports interface {
	In(port uint16, size int) uint32
	Out(port uint16, size int, v uint32)
}

const (
	portIndex = 0x70
	portData  = 0x71
)

// Registers.
const (
	regSecond  = 0x00
	regMinute  = 0x02
	regHour    = 0x04
	regDay     = 0x07
	regMonth   = 0x08
	regYear    = 0x09
	regA       = 0x0a
	regB       = 0x0b
	regCentury = 0x32

	updating = 1 << 7 // in regA
	binary   = 1 << 2 // in regB: values are not BCD
	hours24  = 1 << 1 // in regB
	pm       = 1 << 7 // in regHour when not hours24
)

// ErrNone says that there is no clock, or that what it shows is no time.
var ErrNone = errors.New("no real-time clock")

// reading is one look at the registers.
type reading struct{ second, minute, hour, day, month, year, century uint8 }

const (
	updatePolls = 10000 // an update takes two milliseconds
	attempts    = 8
)

// Read returns the time in seconds since 1970. It takes some twenty port accesses, more while the clock is being
// updated. A year without century is taken to be from 2000 on.
func Read(p Ports) (int64, error) {
	if get(p, regA) == 0xff {
		return 0, ErrNone
	}
	for range attempts {
		if !settled(p) {
			return 0, ErrNone
		}
		r := look(p)
		if get(p, regA)&updating == 0 && r == look(p) {
			return r.time(get(p, regB))
		}
	}
	return 0, ErrNone
}

func get(p Ports, reg uint8) uint8 {
	p.Out(portIndex, 1, uint32(reg))
	return uint8(p.In(portData, 1))
}

func settled(p Ports) bool {
	for range updatePolls {
		if get(p, regA)&updating == 0 {
			return true
		}
	}
	return false
}

func look(p Ports) reading {
	return reading{get(p, regSecond), get(p, regMinute), get(p, regHour), get(p, regDay),
		get(p, regMonth), get(p, regYear), get(p, regCentury)}
}

// decode returns the value of a register, 255 when it is no number.
func decode(v, b uint8) int {
	if b&binary != 0 {
		return int(v)
	}
	if v>>4 > 9 || v&15 > 9 {
		return 255
	}
	return int(v>>4)*10 + int(v&15)
}

func (r reading) hour24(b uint8) int {
	if b&hours24 != 0 {
		return decode(r.hour, b)
	}
	h := decode(r.hour&^pm, b)
	if h < 1 || h > 12 {
		return 255
	}
	h %= 12
	if r.hour&pm != 0 {
		h += 12
	}
	return h
}

// time makes sense of the registers; b is regB.
func (r reading) time(b uint8) (int64, error) {
	hour := r.hour24(b)
	second, minute, day := decode(r.second, b), decode(r.minute, b), decode(r.day, b)
	month, year, century := decode(r.month, b), decode(r.year, b), decode(r.century, b)
	if century < 19 || century > 21 {
		century = 20
	}
	if second > 60 || minute > 59 || hour > 23 || day < 1 || day > 31 || month < 1 || month > 12 || year > 99 {
		return 0, ErrNone
	}
	return int64(((days(century*100+year, month, day)*24+hour)*60+minute)*60 + second), nil
}

// days counts the days from 1970-01-01 to a date. Years begin in March here, so that a leap day is the last of
// its year. Package time would bring its time zones along.
func days(year, month, day int) int {
	const epoch = 719468 // from 0000-03-01 to 1970-01-01
	if month -= 3; month < 0 {
		year, month = year-1, month+12
	}
	return year*365 + year/4 - year/100 + year/400 + (month*153+2)/5 + day - 1 - epoch
}
