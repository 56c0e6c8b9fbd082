package vmm

import (
	"os"
	"path/filepath"
	"testing"
)

func TestParseDisk(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, name := range []string{"a", "b.qcow2"} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Truncate("a", 8192); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("odd", make([]byte, 4097), 0o600); err != nil {
		t.Fatal(err)
	}
	wd, _ := os.Getwd()
	for s, want := range map[string]Disk{
		"a":                   {filepath.Join(wd, "a"), FormatRaw, false, ""},
		"a,ro":                {filepath.Join(wd, "a"), FormatRaw, true, ""},
		"./a,format=qcow2,ro": {filepath.Join(wd, "a"), FormatQcow2, true, ""},
		"b.qcow2":             {filepath.Join(wd, "b.qcow2"), FormatQcow2, false, ""},
		"b.qcow2,format=raw":  {filepath.Join(wd, "b.qcow2"), FormatRaw, false, ""},
		"a,bus=nvme,ro":       {filepath.Join(wd, "a"), FormatRaw, true, BusNVMe},
		"a,bus=pmem":          {filepath.Join(wd, "a"), FormatRaw, false, BusPmem},
		"odd,bus=virtio":      {filepath.Join(wd, "odd"), FormatRaw, false, BusVirtio},
	} {
		if d, err := ParseDisk(s); err != nil || d != want {
			t.Errorf("%s: %+v, %v", s, d, err)
		}
	}
	for _, s := range []string{"", ",ro", "a,rw2", "missing", ".", "a,format=vmdk", "a,bus=ide", "a,ro,bus=pmem", "odd,bus=pmem", "b.qcow2,bus=pmem",
		"/dev/null,bus=pmem"} {
		if d, err := ParseDisk(s); err == nil {
			t.Errorf("%s: %+v", s, d)
		}
	}
}
