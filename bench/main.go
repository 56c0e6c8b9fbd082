// Command bench measures the kernel beside Debian's Linux cloud kernel, in the
// same QEMU with the same programs, and writes a report.
//
// Figures under icount count guest instructions, one a nanosecond, and do not
// depend on the host's load; they know nothing of caches, TLB misses or device
// emulation. CPU times are QEMU's and gosv's own on this host, about ±10 % on a
// loaded one: the commands take turns.
//
//	go run ./bench [-o docs/benchmarks.md] [-quick] [-disks] [-only linux|gosv]
//	go run ./bench -net build/apps/root [-o docs/benchmarks-net.md] [-quick] [-loads REGEXP] [-profile N [-only linux|gosv]]
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	out := flag.String("o", "", "write the report to `FILE` instead of standard output")
	quick := flag.Bool("quick", false, "one run of each figure")
	only := flag.String("only", "", "measure only `linux` or gosv")
	work := flag.String("work", "build/bench", "`DIR` for what is built and fetched")
	disks := flag.Bool("disks", false, "measure disks and file systems only")
	network := flag.String("net", "", "measure servers instead, by the network, with the programs of the Debian system in `DIR`; as root")
	loads := flag.String("loads", "", "with -net: only what matches `REGEXP`")
	profile := flag.Int("profile", 0, "with -net: instead of the time, count the guests' instructions, and show the `N` functions that have most")
	flag.Parse()
	var err error
	if *network != "" {
		err = runNet(*out, *work, *network, *loads, *only, *quick, *profile)
	} else {
		err = run(*out, *work, *only, *quick, *disks)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(out, work, only string, quick, disks bool) error {
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		return fmt.Errorf("%w: apt-get install qemu-system-x86", err)
	}
	work, err := filepath.Abs(work)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(work, 0o755); err != nil {
		return err
	}
	g, err := buildGuests("bench/guest", work)
	if err != nil {
		return err
	}
	b := &bench{guests: g, work: work, runs: 3, cpuRuns: 9, report: report{date: time.Now().UTC()}}
	if quick {
		b.runs, b.cpuRuns = 1, 3
	}
	if only != "gosv" {
		if err := b.addLinux(); err != nil {
			return err
		}
	}
	if only != "linux" {
		if err := b.addGosv(); err != nil {
			return err
		}
	}
	measure := b.measure
	if disks {
		measure = b.measureDisk
	}
	if err := measure(); err != nil {
		return err
	}
	text := b.report.markdown()
	if out == "" {
		_, err := os.Stdout.WriteString(text)
		return err
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return err
	}
	progress("%s", b.report.summary())
	return os.WriteFile(out, []byte(text), 0o644)
}

// bench is one session of measuring.
type bench struct {
	guests  guests
	work    string
	runs    int // of what icount makes repeatable
	cpuRuns int // of what it does not
	linux   *linuxKernel
	columns []kernel
	gosv    string // the command, "" when it is not measured
	report  report
}

func (b *bench) addLinux() error {
	l, err := fetchLinux(filepath.Join(b.work, "linux"))
	if err != nil {
		return err
	}
	khz, err := tscKHz(b.guests.tsckhz)
	if err != nil {
		return err
	}
	b.linux = &l
	b.columns = append(b.columns, kernel{name: "linux", file: l.vmlinux, append: linuxCommandLine(khz)})
	b.report.linux = l.version
	return nil
}

func (b *bench) addGosv() error {
	b.gosv = os.Getenv("GOSV")
	if b.gosv == "" {
		b.gosv = "bin/gosv"
	}
	image := filepath.Join(filepath.Dir(b.gosv), "kernel.elf")
	for _, f := range []string{b.gosv, image} {
		if _, err := os.Stat(f); err != nil {
			return fmt.Errorf("%w: run `make build` first, or set GOSV to the command", err)
		}
	}
	b.columns = append(b.columns, kernel{name: "gosv", file: image, append: func(bool) string { return "/init" }})
	return nil
}

func (b *bench) measure() error {
	progress("firmware")
	firmware, err := firmwareTime(b.work, machine{memory: "128", icount: true})
	if err != nil {
		return err
	}
	b.report.firmware = float64(firmware) / 1e6
	for _, k := range b.columns {
		if err := b.measureKernel(k, firmware); err != nil {
			return err
		}
	}
	if err := b.measureDisk(); err != nil {
		return err
	}
	return b.measureCPU()
}

func (b *bench) measureKernel(k kernel, firmware uint64) error {
	progress("%s: boot", k.name)
	entry, power, line, err := boot(k, b.guests.helloRoot, firmware, b.runs)
	if err != nil {
		return err
	}
	b.report.lines = append(b.report.lines, line)
	b.report.add(k.name, "boot", entry)
	b.report.add(k.name, "power", power)
	progress("%s: kernel entry to main %s ms", k.name, entry.text(3))

	if k.name == "gosv" {
		if err := b.bootFromDisk(k, firmware); err != nil {
			return err
		}
	}

	progress("%s: least memory", k.name)
	least, err := leastMemory(k, b.guests.helloRoot, 1, 256)
	if err != nil {
		return err
	}
	b.report.add(k.name, "memory", spread{float64(least)})

	progress("%s: micro-benchmark", k.name)
	only := ""
	if k.name == "gosv" {
		only = strings.Join(latNames(), ",")
	}
	values, failed, line, err := latency(k, b.guests.latRoot, only, b.runs)
	if err != nil {
		return err
	}
	b.report.lines = append(b.report.lines, line)
	for name, v := range values {
		b.report.add(k.name, "lat:"+name, v)
	}
	for name, e := range failed {
		b.report.fail(k.name, "lat:"+name, e)
	}
	return b.measureSize(k)
}

func (b *bench) measureSize(k kernel) error {
	n, err := fileSize(k.file)
	if err != nil {
		return err
	}
	b.report.add(k.name, "size", spread{float64(n) / 1e6})
	if k.name == "linux" {
		if n, err = fileSize(b.linux.bzImage); err != nil {
			return err
		}
		b.report.add(k.name, "packed", spread{float64(n) / 1e6})
	}
	return nil
}

// measureCPU compares whole runs of hello: `gosv run` and, for Linux, QEMU with
// the kernel that starts faster, the unpacked one.
func (b *bench) measureCPU() error {
	progress("whole runs of hello")
	var commands [][]string
	var names []string
	for _, k := range b.columns {
		c := machine{kernel: k.file, initrd: b.guests.helloRoot, append: k.append(false), memory: "128"}.command()
		if k.name == "gosv" {
			c = []string{b.gosv, "run", "--accel", "tcg", "-m", "128M", b.guests.hello}
		}
		commands, names = append(commands, c), append(names, k.name)
		b.report.lines = append(b.report.lines, shell(c))
	}
	cpu, wall, rss, err := helloCPU(commands, b.cpuRuns)
	if err != nil {
		return err
	}
	for i, n := range names {
		b.report.add(n, "cpu", cpu[i])
		b.report.add(n, "wall", wall[i])
		b.report.add(n, "rss", rss[i])
	}
	b.report.load = loadAverage()
	return nil
}
