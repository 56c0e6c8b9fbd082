package machine

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gosv/image/disk"
)

// Bochs has what QEMU's translator lacks: PCID (but no translations kept by it: machine/floor/tags_test.go), AVX-512
// state, and a serial port that wants to be set up. It starts the test kernel from a disk, by its BIOS.
const bochsConfig = `
config_interface: textconfig
display_library: rfb, options="timeout=0"
memory: guest=256, host=256
cpu: model=%s, ips=100000000, reset_on_triple_fault=0
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/vgabios/vgabios.bin
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=disk, path="%s", mode=flat, translation=auto
boot: disk
pci: enabled=1, chipset=i440fx
com1: enabled=1, mode=socket-client, dev="%s"
clock: sync=none
log: %s
`

// bochsTests leaves out what takes seconds of the machine's time: Bochs needs a minute for one.
const bochsTests = "only=runtime only=page only=syscall only=exceptions only=hostile only=user only=unmap only=share only=large only=kick " +
	"only=alarm only=kernel only=many only=stale only=float only=tables"

func TestBochs(t *testing.T) {
	if _, err := exec.LookPath("bochs"); err != nil {
		t.Skip("Bochs is missing: apt-get install bochs bochs-term bochsbios vgabios")
	}
	kernel := build(t)
	for _, model := range []string{"corei7_skylake_x", "ryzen"} {
		t.Run(model, func(t *testing.T) {
			if out := bochs(t, bootDisk(t, kernel), model); !strings.Contains(out, "\nPASS") {
				t.Errorf("it said:\n%s", out)
			}
		})
	}
}

// bootDisk makes a disk that starts the kernel.
func bootDisk(t *testing.T, kernel string) string {
	t.Helper()
	b, err := os.ReadFile(kernel)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "disk.img"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := disk.Write(f, disk.Config{
		Kernel:      b,
		Root:        func(a disk.Area) (disk.Part, error) { return disk.Part{Size: disk.SectorSize}, nil },
		CommandLine: func(disk.GUID) string { return bochsTests },
	}); err != nil {
		t.Fatal(err)
	}
	const cylinder = 16 * 63 * disk.SectorSize // Bochs wants whole ones
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate((info.Size() + cylinder - 1) / cylinder * cylinder); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

// bochs runs the disk until the kernel has said how it went, and returns what it said.
func bochs(t *testing.T, image, model string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := t.TempDir()
	config, commands, log := filepath.Join(dir, "bochsrc"), filepath.Join(dir, "commands"), filepath.Join(dir, "log")
	for file, text := range map[string]string{config: fmt.Sprintf(bochsConfig, model, image, l.Addr(), log), commands: "continue\n"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("bochs", "-q", "-f", config, "-rc", commands)
	stdin, err := cmd.StdinPipe() // its debugger ends it at the end of input
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cmd.Process.Kill()
		cmd.Wait()
	}()
	end := time.Now().Add(3 * time.Minute)
	l.(*net.TCPListener).SetDeadline(end)
	c, err := l.Accept()
	if err != nil {
		b, _ := os.ReadFile(log)
		t.Fatalf("%v; Bochs says:\n%s", err, b)
	}
	defer c.Close()
	c.SetDeadline(end)
	var out strings.Builder
	for s := bufio.NewScanner(c); s.Scan(); {
		fmt.Fprintf(&out, "%s\n", strings.TrimRight(s.Text(), "\r"))
		if strings.HasPrefix(s.Text(), "PASS") || strings.HasPrefix(s.Text(), "FAIL") {
			break
		}
	}
	return out.String()
}
