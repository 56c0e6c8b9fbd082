package pci

import "gosv/machine"

// Parts of the MSI-X capability and its table (PCI 3.0 §6.8.2).
const (
	msixControl   = 2 // offset in the capability
	msixTable     = 4
	msixEnable    = 1 << 15
	msixMaskAll   = 1 << 14
	msixEntrySize = 16
)

// MSIX sends the function's interrupt number 0 to a vector and enables MSI-X. Others stay masked.
func (f *Function) MSIX(bus machine.Bus, irqs machine.Interrupts, vector uint8) error {
	var at uint16
	f.Capabilities(func(c Capability) bool {
		if c.ID == CapMSIX {
			at = c.Offset
		}
		return at == 0
	})
	if at == 0 {
		return errNoMSIX
	}
	where := f.c.Read(f.Address, at+msixTable)
	table, err := f.Region(bus, int(where&7), uint64(where&^7), msixEntrySize)
	if err != nil {
		return errBadMSIX
	}
	control := f.read16(at + msixControl)
	f.write16(at+msixControl, control|msixEnable|msixMaskAll)
	address, data := irqs.Message(vector)
	table.Store32(0, uint32(address))
	table.Store32(4, uint32(address>>32))
	table.Store32(8, data)
	table.Store32(12, 0)
	f.write16(at+msixControl, control&^msixMaskAll|msixEnable)
	return nil
}
