package block_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"gosv/kernel/block"
	"gosv/machine/fake"
)

var clock atomic.Int64

func now() int64 { return clock.Add(1000) }

func registry(t testing.TB) *block.Registry {
	m := fake.New(fake.Config{})
	t.Cleanup(m.Close)
	return block.NewRegistry(m, now)
}

func noise(n int) []byte {
	r := rand.NewChaCha8([32]byte{7})
	b := make([]byte, n)
	_, _ = r.Read(b)
	return b
}

func TestReadWrite(t *testing.T) {
	r := registry(t)
	text := noise(1 << 20)
	text[510] = 0
	mem := block.NewMemory(bytes.Clone(text), 512)
	mem.SetLimits(func(l *block.Limits) { l.MaxBytes, l.MaxSegments, l.MaxZeroes = 8192, 2, 0 })
	d := r.Add(block.Virtio, mem)
	if d.Name != "vda" || d.Major != 254 || d.Minor != 0 {
		t.Errorf("%s %d:%d", d.Name, d.Major, d.Minor)
	}
	b := make([]byte, 300<<10)
	if err := d.ReadAt(b, 1024); err != nil || !bytes.Equal(b, text[1024:][:len(b)]) {
		t.Fatal("read", err)
	}
	if err := d.WriteAt(b, 512<<10, false); err != nil {
		t.Fatal(err)
	}
	copy(text[512<<10:], b)
	if err := d.Zero(1024, 100<<10); err != nil {
		t.Fatal(err)
	}
	clear(text[1024 : 101<<10])
	if !bytes.Equal(mem.Bytes(), text) {
		t.Error("contents differ")
	}
	for _, c := range []struct {
		off int64
		n   int
		err error
	}{{1, 512, unix.EINVAL}, {0, 511, unix.EINVAL}, {1 << 20, 512, unix.EIO}, {1<<20 - 512, 1024, unix.EIO}, {-512, 512, unix.EINVAL}} {
		if err := d.ReadAt(make([]byte, c.n), c.off); err != c.err {
			t.Errorf("%d at %d: %v, want %v", c.n, c.off, err, c.err)
		}
	}
	if s := d.Stats(); s.Sectors[block.Read].Load() == 0 || s.Requests[block.Write].Load() == 0 || s.InFlight.Load() != 0 {
		t.Error("statistics")
	}
}

func TestReadOnlyAndFaults(t *testing.T) {
	r := registry(t)
	mem := block.NewMemory(make([]byte, 1<<16), 4096)
	mem.SetLimits(func(l *block.Limits) { l.ReadOnly, l.MaxDiscard = true, 0 })
	d := r.Add(block.SCSI, mem)
	if err := d.WriteAt(make([]byte, 4096), 0, false); err != unix.EROFS {
		t.Error(err)
	}
	if err := d.ReadAt(make([]byte, 512), 0); err != unix.EINVAL {
		t.Error("below a logical block:", err)
	}
	mem.SetFault(func(*block.Request) error { return unix.EIO })
	if err := d.ReadAt(make([]byte, 4096), 0); err != unix.EIO {
		t.Error(err)
	}
}

func TestClaims(t *testing.T) {
	r := registry(t)
	disk := r.Add(block.Virtio, block.NewMemory(mbrDisk(), 512))
	parts := disk.Parts()
	if len(parts) == 0 {
		t.Fatal("no partitions")
	}
	p := parts[0]
	for _, step := range []struct {
		what string
		got  error
		want error
	}{
		{"part", p.Claim(1), nil}, {"part again", p.Claim(1), nil}, {"part by other", p.Claim(2), unix.EBUSY},
		{"whole", disk.Claim(2), unix.EBUSY}, {"rescan", r.Rescan(disk), unix.EBUSY}, {"remove", r.Remove(disk), unix.EBUSY},
	} {
		if step.got != step.want {
			t.Errorf("%s: %v, want %v", step.what, step.got, step.want)
		}
	}
	p.Release()
	p.Release()
	if err := disk.Claim(2); err != nil {
		t.Error(err)
	}
	if err := p.Claim(1); err != unix.EBUSY {
		t.Error(err)
	}
	disk.Release()
	if err := r.Rescan(disk); err != nil || len(disk.Parts()) != len(parts) || disk.Parts()[0] == p {
		t.Error("rescan", err)
	}
	if err := r.Remove(disk); err != nil || len(r.Disks()) != 0 {
		t.Error("remove", err)
	}
}

// putMBR enters partition i of an MBR, in sectors.
func putMBR(b []byte, i int, typ byte, start, size uint32) {
	e := b[446+16*i:]
	e[4] = typ
	binary.LittleEndian.PutUint32(e[8:], start)
	binary.LittleEndian.PutUint32(e[12:], size)
	b[510], b[511] = 0x55, 0xaa
}

// mbrDisk is a disk with two primary and two logical partitions.
func mbrDisk() []byte {
	b := make([]byte, 1<<20)
	binary.LittleEndian.PutUint32(b[440:], 0xdeadbeef)
	putMBR(b, 0, 0x83, 64, 128)
	putMBR(b, 1, 0x05, 1024, 1024)
	putMBR(b[1024*512:], 0, 0x83, 8, 100)
	putMBR(b[1024*512:], 1, 0x05, 512, 512)
	putMBR(b[1536*512:], 0, 0x83, 8, 200)
	return b
}

func TestMBR(t *testing.T) {
	r := registry(t)
	d := r.Add(block.Virtio, block.NewMemory(mbrDisk(), 512))
	var got []string
	for _, p := range d.Parts() {
		got = append(got, p.Name, p.UUID)
	}
	want := "vda1 deadbeef-01 vda2 deadbeef-02 vda5 deadbeef-05 vda6 deadbeef-06"
	if strings.Join(got, " ") != want {
		t.Errorf("%v", got)
	}
	if p := r.ByName("vda6"); p == nil || p.Start != 1544*512 || p.Size() != 200*512 || p.Minor != 6 || r.ByNumber(254, 6) != p {
		t.Errorf("%+v", p)
	}
	b := make([]byte, 512)
	b[0] = 9
	if err := r.ByName("vda1").WriteAt(b, 0, false); err != nil {
		t.Fatal(err)
	}
	if err := d.ReadAt(b, 64*512); err != nil || b[0] != 9 {
		t.Error("a partition is not where it should be")
	}
}

// gptDisk is a disk with a GPT of 128 entries, made by hand.
func gptDisk() []byte {
	b := make([]byte, 1<<20)
	le := binary.LittleEndian
	putMBR(b, 0, 0xee, 1, 2047)
	blocks := uint64(len(b) / 512)
	table := b[2*512:][:128*128]
	e := table[128:]
	e[0], e[16] = 1, 0x12
	le.PutUint64(e[32:], 64)
	le.PutUint64(e[40:], 127)
	e[56], e[58] = 'r', 0xfc
	header := func(at, other, entries uint64) {
		h := b[at*512:]
		copy(h, "EFI PART\x00\x00\x01\x00")
		le.PutUint32(h[12:], 92)
		le.PutUint64(h[24:], at)
		le.PutUint64(h[32:], other)
		le.PutUint64(h[72:], entries)
		le.PutUint32(h[80:], 128)
		le.PutUint32(h[84:], 128)
		le.PutUint32(h[88:], crc32.ChecksumIEEE(table))
		le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:92]))
	}
	copy(b[(blocks-33)*512:], table)
	header(1, blocks-1, 2)
	header(blocks-1, 1, blocks-33)
	return b
}

func TestGPT(t *testing.T) {
	for name, damage := range map[string]func([]byte){
		"whole": func([]byte) {}, "header": func(b []byte) { b[512+60]++ }, "table": func(b []byte) { b[1024]++ },
	} {
		b := gptDisk()
		damage(b)
		d := registry(t).Add(block.NVMe, block.NewMemory(b, 512))
		parts := d.Parts()
		if len(parts) != 1 || parts[0].Name != "nvme0n1p2" || parts[0].Label != "rü" || parts[0].Major != 259 ||
			parts[0].UUID != "00000012-0000-0000-0000-000000000000" || parts[0].Start != 64*512 || parts[0].Size() != 64*512 {
			t.Errorf("%s: %+v", name, parts)
		}
	}
	b := gptDisk()
	b[512+60]++
	b[len(b)-512+60]++
	if parts := registry(t).Add(block.NVMe, block.NewMemory(b, 512)).Parts(); len(parts) != 0 {
		t.Errorf("both headers damaged: %v", parts)
	}
}

// TestSfdisk compares with tables that sfdisk makes.
func TestSfdisk(t *testing.T) {
	sfdisk, err := exec.LookPath("sfdisk")
	if err != nil {
		t.Skip("no sfdisk here")
	}
	for label, script := range map[string]string{
		"gpt": "label: gpt\nstart=2048,size=1024,name=one\nstart=4096,size=2048,name=two\n",
		"dos": "label: dos\nstart=2048,size=1024\nstart=4096,size=8192,type=5\nstart=4100,size=100\nstart=5000,size=1000\n",
	} {
		file := filepath.Join(t.TempDir(), "disk")
		if err := os.WriteFile(file, make([]byte, 8<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		c := exec.Command(sfdisk, "-q", file)
		c.Stdin = strings.NewReader(script)
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		parts := registry(t).Add(block.Virtio, block.NewMemory(b, 512)).Parts()
		want := map[string]int{"gpt": 2, "dos": 4}[label]
		if len(parts) != want || parts[0].Start != 1<<20 || parts[0].Size() != 512<<10 {
			t.Errorf("%s: %d partitions, want %d", label, len(parts), want)
		}
		if last := parts[len(parts)-1]; label == "dos" && (last.Name != "vda6" || last.Start != 5000*512) {
			t.Errorf("%+v", last)
		}
	}
}

func TestNames(t *testing.T) {
	r := registry(t)
	var names []string
	for i := range 28 {
		d := r.Add(block.Virtio, block.NewMemory(make([]byte, 4096), 512))
		if i >= 25 {
			names = append(names, d.Name)
		}
	}
	if strings.Join(names, " ") != "vdz vdaa vdab" {
		t.Error(names)
	}
	seen := 0
	r.OnChange(func(*block.Disk) { seen++ }, func(*block.Disk) { seen-- })
	r.AddNumber(block.Loop, 3, block.NewMemory(make([]byte, 4096), 512))
	if seen != 29 || r.ByName("loop3") == nil {
		t.Error(seen)
	}
}

func TestDurable(t *testing.T) {
	m := block.NewMemory(make([]byte, 4096), 512)
	m.KeepDurable()
	d := registry(t).Add(block.Virtio, m)
	b := bytes.Repeat([]byte{1}, 512)
	_ = d.WriteAt(b, 0, false)
	if m.Durable()[0] != 0 {
		t.Error("durable before a flush")
	}
	_ = d.WriteAt(b, 512, true)
	if m.Durable()[512] != 1 || m.Durable()[0] != 0 {
		t.Error("FUA")
	}
	if err := d.Flush(); err != nil || m.Durable()[0] != 1 {
		t.Error("flush", err)
	}
}

func FuzzTable(f *testing.F) {
	f.Add(mbrDisk()[:4096])
	f.Add(gptDisk()[:32<<10])
	f.Add(append(gptDisk()[:512], gptDisk()[1<<20-34*512:]...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 1024 {
			return
		}
		m := fake.New(fake.Config{})
		defer m.Close()
		dev := block.NewMemory(b, 512)
		d := block.NewRegistry(m, now).Add(block.Virtio, dev)
		for _, p := range d.Parts() {
			if p.Start < 0 || p.Size() <= 0 || p.Start > d.Size() || p.Size() > d.Size()-p.Start {
				t.Fatalf("partition %d+%d on a disk of %d", p.Start, p.Size(), d.Size())
			}
		}
	})
}

// TestLyingGPT has headers with right sums that claim what cannot be.
func TestLyingGPT(t *testing.T) {
	le := binary.LittleEndian
	for name, c := range map[string]struct {
		change func(header, entry []byte)
		want   int
	}{
		"128 MiB of entries":    {func(h, _ []byte) { le.PutUint32(h[80:], 1<<20) }, 0},
		"huge entries":          {func(h, _ []byte) { le.PutUint32(h[84:], 1<<31) }, 0},
		"entries of 3 bytes":    {func(h, _ []byte) { le.PutUint32(h[84:], 3) }, 0},
		"no entries":            {func(h, _ []byte) { le.PutUint32(h[80:], 0) }, 0},
		"table at the end":      {func(h, _ []byte) { le.PutUint64(h[72:], 1<<20/512-2) }, 0},
		"table beyond the end":  {func(h, _ []byte) { le.PutUint64(h[72:], 1<<63) }, 0},
		"header longer":         {func(h, _ []byte) { le.PutUint32(h[12:], 1<<31) }, 0},
		"partition beyond":      {func(_, e []byte) { le.PutUint64(e[40:], 1<<20/512) }, 0},
		"partition wraps":       {func(_, e []byte) { le.PutUint64(e[40:], ^uint64(0)) }, 0},
		"partition ends before": {func(_, e []byte) { le.PutUint64(e[40:], 63) }, 0},
		"one over another": {func(_, e []byte) {
			copy(e[128:], e[:128])
			le.PutUint64(e[128+32:], 100)
		}, 2},
		"over the table itself": {func(_, e []byte) { le.PutUint64(e[32:], 0) }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			b := gptDisk()
			for _, at := range []int{1, len(b)/512 - 1} {
				h := b[at*512:][:512]
				table := b[le.Uint64(h[72:])*512:][:128*128]
				c.change(h, table[128:])
				le.PutUint32(h[88:], crc32.ChecksumIEEE(table))
				le.PutUint32(h[16:], 0)
				le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:min(le.Uint32(h[12:]), 512)]))
			}
			r := registry(t)
			d := r.Add(block.Virtio, block.NewMemory(b, 512))
			if got := d.Parts(); len(got) != c.want {
				t.Fatalf("%d partitions, not %d", len(got), c.want)
			}
			for _, p := range d.Parts() {
				if err := p.ReadAt(make([]byte, 512), p.Size()-512); err != nil {
					t.Error(err)
				}
				if err := p.ReadAt(make([]byte, 512), p.Size()); err != unix.EIO {
					t.Error("beyond the end:", err)
				}
			}
		})
	}
}

// TestTruncated cuts disks with tables short, also within a sector, and tells other sizes of blocks.
func TestTruncated(t *testing.T) {
	for _, whole := range [][]byte{gptDisk(), mbrDisk()} {
		for _, size := range []int{0, 1, 511, 512, 1024, 1025, 2048, 17 << 10, 33 << 10, len(whole)/2 + 3, len(whole) - 512, len(whole) - 1} {
			for _, unit := range []int{512, 1024, 4096} {
				d := registry(t).Add(block.Virtio, block.NewMemory(bytes.Clone(whole[:size]), unit))
				for _, p := range d.Parts() {
					if p.Start < 0 || p.Size() <= 0 || p.Start+p.Size() > d.Size() {
						t.Errorf("%d bytes in blocks of %d: partition at %d of %d bytes", size, unit, p.Start, p.Size())
					}
				}
			}
		}
	}
}
