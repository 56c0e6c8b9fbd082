// Package probe finds a machine's virtio devices.
//
// In this order, and only as far as needed, since every look costs a device access: the words virtio_mmio.device=
// that QEMU and Firecracker put on the kernel's command line; the PCI bus; what ACPI describes; and when there
// is no ACPI either, the addresses where QEMU's microvm has its slots.
package probe

import (
	"gosv/driver/acpi"
	"gosv/driver/pci"
	"gosv/driver/virtio"
	"gosv/machine"
	"strconv"
	"strings"
)

// Machine is what the search needs of the machine.
type Machine interface {
	machine.Bus
	machine.Interrupts
	machine.Firmware
}

const (
	mmioWord = "virtio_mmio.device="

	// QEMU's microvm without ACPI.
	slotAddress = 0xfeb00000
	slotSize    = 512
	slotGSI     = 5
	slots       = 8

	busSize  = 1 << 20 // bytes of ECAM for each bus
	maxBuses = 8       // that are looked at through ECAM
)

// Devices returns the virtio devices that were found, in a stable order, and calls
// problem for each that cannot be used, and other for each function of the PCI bus, if that is looked at, that is no virtio device.
func Devices(m Machine, problem func(error), other func(*pci.Function)) []virtio.Transport {
	s := search{m: m, problem: problem, other: other}
	if s.commandLine(m.CommandLine()) {
		return s.found
	}
	tables, _ := acpi.Load(m.Physical, m.RSDP()) // nil without ACPI
	scanned := s.pci(tables)
	switch {
	case len(s.found) > 0:
	case tables != nil:
		s.acpi(tables)
	case !scanned:
		for i := range uint64(slots) {
			s.mmio(slotAddress+i*slotSize, slotSize, slotGSI+uint32(i))
		}
	}
	return s.found
}

type search struct {
	m       Machine
	problem func(error)
	other   func(*pci.Function)
	found   []virtio.Transport
}

// mmio looks for a device at an address.
func (s *search) mmio(pa, size uint64, gsi uint32) {
	t, err := virtio.OpenMMIO(s.m, s.m, pa, size, gsi)
	if err == nil {
		s.found = append(s.found, t)
	} else if err != virtio.ErrNoDevice {
		s.problem(err)
	}
}

// commandLine opens the devices that words of the command line name; it reports whether there was such a word.
func (s *search) commandLine(line string) bool {
	any := false
	for word := range strings.FieldsSeq(line) {
		spec, ok := strings.CutPrefix(word, mmioWord)
		if !ok {
			continue
		}
		any = true
		if size, pa, gsi, ok := parseMMIO(spec); ok {
			s.mmio(pa, size, gsi)
		}
	}
	return any
}

// parseMMIO reads SIZE@ADDRESS:IRQ[:ID] (Linux, virtio_mmio.device).
func parseMMIO(spec string) (size, pa uint64, gsi uint32, ok bool) {
	first, rest, ok1 := strings.Cut(spec, "@")
	second, rest, ok2 := strings.Cut(rest, ":")
	third, _, _ := strings.Cut(rest, ":")
	size, ok3 := parseSize(first)
	pa, err1 := strconv.ParseUint(second, 0, 64)
	irq, err2 := strconv.ParseUint(third, 0, 32)
	return size, pa, uint32(irq), ok1 && ok2 && ok3 && err1 == nil && err2 == nil
}

// parseSize reads a number with an optional K, M or G.
func parseSize(s string) (uint64, bool) {
	shift := 0
	if s != "" {
		switch s[len(s)-1] {
		case 'k', 'K':
			shift = 10
		case 'm', 'M':
			shift = 20
		case 'g', 'G':
			shift = 30
		}
	}
	if shift > 0 {
		s = s[:len(s)-1]
	}
	v, err := strconv.ParseUint(s, 0, 64)
	return v << shift, err == nil && v<<shift>>shift == v
}

// pci opens the devices on the PCI bus; it reports whether there is one.
func (s *search) pci(tables *acpi.Tables) bool {
	config := s.config(tables)
	if config == nil {
		return false
	}
	pci.Scan(config, func(f *pci.Function) {
		if !virtio.IsVirtio(f) {
			s.other(f)
			return
		}
		t, err := virtio.OpenPCI(f, s.m, s.m)
		if err != nil {
			s.problem(err)
			return
		}
		s.found = append(s.found, t)
	})
	return true
}

// config returns the way to PCI configuration space, nil when there is none.
func (s *search) config(tables *acpi.Tables) pci.Config {
	if c := pci.ByPorts(s.m); c != nil {
		return c
	}
	if tables == nil {
		return nil
	}
	ranges, _ := tables.MCFG() // none without the table
	for _, e := range ranges {
		if e.Segment != 0 || e.First != 0 {
			continue
		}
		if regs, err := s.m.Registers(e.Address, min(uint64(e.Last)+1, maxBuses)*busSize); err == nil {
			return pci.ECAM{Regs: regs}
		}
	}
	return nil
}

// acpi opens the virtio-mmio devices that the DSDT describes.
func (s *search) acpi(tables *acpi.Tables) {
	devices, err := tables.VirtioMMIO()
	if err != nil {
		s.problem(err)
	}
	for _, d := range devices {
		s.mmio(d.Address, d.Size, d.GSI)
	}
}
