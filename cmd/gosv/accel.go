package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"gosv/image/rootfs"
	"gosv/vmm"
)

const (
	kvmDevice = "/dev/kvm"
	// probeTime is how long a probe machine may take to answer.
	probeTime = 3 * time.Second
	// refusalAge is how long a failed probe is remembered.
	refusalAge = 24 * time.Hour
)

// accelerator chooses how a monitor runs machines.
type accelerator struct {
	monitor    vmm.Monitor
	emulator   string   // the monitor's program
	kernel     *os.File // what is to boot
	kernelFile string   // the file it came from
	warn       io.Writer
	patience   time.Duration // as probeTime
}

// choose returns the accelerator for --accel. It takes KVM for auto only where a
// probe machine has answered, and says so on warn when it does not.
func (a *accelerator) choose(ctx context.Context, flag string) (string, error) {
	switch flag {
	case vmm.AccelKVM, vmm.AccelTCG:
		return flag, nil
	case "auto":
	default:
		return "", fmt.Errorf("--accel %q: use auto, kvm or tcg", flag)
	}
	why := a.kvmFault(ctx)
	if why == "" {
		return vmm.AccelKVM, nil
	}
	fmt.Fprintf(a.warn, "gosv: no KVM (%s): QEMU translates instead, which is slower (--accel tcg leaves this line out)\n", why)
	return vmm.AccelTCG, nil
}

// kvmFault says why KVM cannot be used, or nothing when it can.
func (a *accelerator) kvmFault(ctx context.Context) string {
	f, err := os.OpenFile(kvmDevice, os.O_RDWR, 0)
	if err != nil {
		return err.Error()
	}
	f.Close()
	cache := probeCache(a.emulator, a.kernelFile)
	if fault, ok := readProbe(cache); ok {
		return fault
	}
	fault := ""
	if err := a.probe(ctx, vmm.AccelKVM); err != nil {
		fault, _, _ = strings.Cut(err.Error(), "\n")
	}
	writeProbe(cache, fault)
	return fault
}

// probe boots the kernel with the smallest of programs and returns nil when
// that has ended as it should within a.patience. To open /dev/kvm is no proof:
// there are hosts where a guest then stands still at its first SSE instruction.
func (a *accelerator) probe(ctx context.Context, accel string) error {
	tree := rootfs.New(rootfs.Options{})
	if err := tree.File("/probe", 0o755, probeProgram()); err != nil {
		return err
	}
	runFile, err := (&rootfs.Run{Exe: "/probe", Args: []string{"/probe"}}).File()
	if err != nil {
		return err
	}
	initrd, err := packToMemory(tree, runFile)
	if err != nil {
		return err
	}
	defer initrd.Close()
	vm, err := a.monitor.Start(vmm.Config{Kernel: a.kernel, Initrd: initrd, Memory: 64 << 20, CPUs: 2, Machine: vmm.MachineMicroVM,
		Accel: accel, Ports: vmm.Ports()})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, a.patience)
	defer cancel()
	result := (&vmm.Session{Stdout: io.Discard, Stderr: io.Discard}).Run(ctx, vm)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("a test machine did not answer within %v", a.patience)
	case result.Err != nil:
		return result.Err
	case result.Status != probeAnswer:
		return fmt.Errorf("a test machine answered %d instead of %d", result.Status, probeAnswer)
	}
	return nil
}

// probeAnswer is arbitrary, but no status that anything else gives.
const probeAnswer = 42

// probeProgram is a static ELF program that calls exit_group(probeAnswer).
func probeProgram() []byte {
	const base, headers = 0x400000, 64 + 56
	code := []byte{
		0xbf, probeAnswer, 0, 0, 0, // mov edi, probeAnswer
		0xb8, unix.SYS_EXIT_GROUP, 0, 0, 0, // mov eax, exit_group
		0x0f, 0x05, // syscall
	}
	size := uint64(headers + len(code))
	var b bytes.Buffer
	for _, part := range []any{
		elf.Header64{Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', 2, 1, 1}, Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64),
			Version: 1, Entry: base + headers, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 1},
		elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Vaddr: base, Paddr: base, Filesz: size, Memsz: size, Align: 4096},
		code,
	} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			panic(err) // fixed-size structs into memory
		}
	}
	return b.Bytes()
}

// probeCache names the file that remembers a probe with these two files, on this
// kernel and this processor; "" when there is no place for one.
func probeCache(emulator, kernel string) string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	id := sha256.New()
	for _, name := range []string{emulator, kernel} {
		if st, err := os.Stat(name); err == nil {
			fmt.Fprintln(id, name, st.Size(), st.ModTime())
		}
	}
	for _, name := range []string{"/proc/sys/kernel/osrelease", "/proc/sys/kernel/version", "/proc/sys/kernel/random/boot_id"} {
		b, _ := os.ReadFile(name) // what cannot be read is the same next time
		id.Write(b)
	}
	cpu, _ := os.ReadFile("/proc/cpuinfo")
	for line := range bytes.Lines(cpu) {
		if bytes.HasPrefix(line, []byte("model name")) || bytes.HasPrefix(line, []byte("flags")) {
			id.Write(line)
		}
		if len(bytes.TrimSpace(line)) == 0 {
			break // the first processor is like the others
		}
	}
	return filepath.Join(dir, "gosv", fmt.Sprintf("kvm-%.16x", id.Sum(nil)))
}

// readProbe returns a remembered fault, "" for none, if one is remembered.
func readProbe(name string) (fault string, ok bool) {
	st, err := os.Stat(name)
	if err != nil {
		return "", false
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return "", false
	}
	fault = strings.TrimSpace(string(b))
	return fault, fault == "" || time.Since(st.ModTime()) < refusalAge
}

// writeProbe remembers a fault. Nothing depends on it but the time of the next
// start, so errors are ignored.
func writeProbe(name, fault string) {
	if name == "" || os.MkdirAll(filepath.Dir(name), 0o700) != nil {
		return
	}
	_ = os.WriteFile(name, []byte(fault+"\n"), 0o600)
}
