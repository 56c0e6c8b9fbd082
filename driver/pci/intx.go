package pci

import "gosv/machine"

// Registers of the interrupt pin (PCI 3.0 §6.2.4).
const (
	regLine = 0x3c
	regPin  = 0x3d

	// ioapicInputs are those of the first I/O APIC; the firmware writes 255 where there is no connection.
	ioapicInputs = 24
)

// HasMSIX reports whether the function has MSI-X.
func (f *Function) HasMSIX() bool {
	found := false
	f.Capabilities(func(c Capability) bool {
		found = c.ID == CapMSIX
		return !found
	})
	return found
}

// INTx sends the function's interrupt pin to a vector, by the input of the I/O APIC that the firmware wrote into the interrupt line
// register. An interrupt comes whenever the line rises: who serves it has the function lower it, and no other function may use the
// input, which Route refuses.
func (f *Function) INTx(irqs machine.Interrupts, vector uint8) error {
	line := f.read8(regLine)
	if f.read8(regPin) == 0 || line == 0 || line >= ioapicInputs {
		return errNoINTx
	}
	if err := irqs.Route(uint32(line), vector, false, false); err != nil {
		return err
	}
	f.write16(regCommand, f.read16(regCommand)&^commandNoINTx)
	return nil
}
