package vdso

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/mem"
	"gosv/kernel/mm"
	"gosv/kernel/uio"
	"gosv/machine"
)

// Object is the shared object with its data page, ready to be mapped.
type Object struct {
	*Data
	data, image mm.Mappable
	ask         mm.Mappable // in place of data where programs are to ask the kernel
	free        func()
}

// New makes the two pages; programs ask the kernel until the first Set. ENOMEM.
func New(pool *mem.Pool) (*Object, error) {
	data, image, ask := mem.NewCache(pool, nil), mem.NewCache(pool, nil), mem.NewCache(pool, nil)
	if err := ask.Truncate(DataSize); err != nil {
		return nil, err
	}
	if err := data.Truncate(DataSize); err != nil {
		return nil, err
	}
	frame, err := data.Page(0, true) // the reference keeps the page in place
	if err != nil {
		return nil, err
	}
	src := uio.Buffer(Image)
	if _, err := image.WriteAt(&src, 0); err != nil {
		return nil, err
	}
	return &Object{
		Data:  NewData(pool.Bytes(frame)),
		data:  mm.NewSpecial("[vvar]", data),
		image: mm.NewSpecial("[vdso]", image),
		ask:   mm.NewSpecial("[vvar]", ask),
		free: func() {
			pool.Unref(frame)
			data.Release()
			image.Release()
			ask.Release()
		},
	}, nil
}

// Free gives the pages back; nobody may have them mapped any more.
func (o *Object) Free() { o.free() }

// Map maps both into as and returns the address of the image, AT_SYSINFO_EHDR.
func (o *Object) Map(as *mm.AddressSpace) (uint64, error) {
	base, err := as.Map(mm.MapArgs{Length: DataSize + ImageSize, Flags: unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_NORESERVE})
	if err != nil {
		return 0, err
	}
	for _, part := range []struct {
		addr    uint64
		prot    int
		maxProt int
		object  mm.Mappable
	}{
		{base, unix.PROT_READ, unix.PROT_READ, o.data},
		{base + DataSize, unix.PROT_READ | unix.PROT_EXEC, unix.PROT_READ | unix.PROT_EXEC, o.image},
	} {
		_, err := as.Map(mm.MapArgs{
			Addr: part.addr, Length: machine.PageSize, Prot: part.prot, MaxProt: part.maxProt,
			Flags: unix.MAP_SHARED | unix.MAP_FIXED, Object: part.object,
		})
		if err != nil {
			return 0, err
		}
	}
	return base + DataSize, nil
}

// Ask has what is mapped into as ask the kernel for the time, as a time namespace with offsets needs it, or no longer. ENOMEM. Nobody may
// change as meanwhile.
func (o *Object) Ask(as *mm.AddressSpace, ask bool) error {
	from, to := o.data, o.ask
	if !ask {
		from, to = to, from
	}
	for _, a := range as.Areas() {
		if a.Object != from {
			continue
		}
		_, err := as.Map(mm.MapArgs{Addr: a.Start, Length: a.End - a.Start, Prot: a.Prot, MaxProt: unix.PROT_READ,
			Flags: unix.MAP_SHARED | unix.MAP_FIXED, Object: to})
		if err != nil {
			return err
		}
	}
	return nil
}
