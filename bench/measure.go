package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A kernel is what a figure is taken of.
type kernel struct {
	name   string
	file   string
	append func(icount bool) string // its command line for /init
}

// linuxCommandLine makes Linux start as fast as it can. tsc_early_khz: a microvm
// has no PIT channel 2 gate to calibrate the TSC with; under icount it runs at
// 1 GHz, else at the host's rate.
func linuxCommandLine(khz int) func(bool) string {
	return func(icount bool) string {
		k := khz
		if icount {
			k = 1000000
		}
		return "console=ttyS0 quiet loglevel=0 reboot=t panic=-1 tsc=reliable no_timer_check lpj=4000000 cryptomgr.notests " +
			"mitigations=off random.trust_cpu=on pci=off tsc_early_khz=" + strconv.Itoa(k)
	}
}

// spread is a series of values of one figure.
type spread []float64

func (s spread) median() float64 {
	t := slices.Sorted(slices.Values(s))
	n := len(t)
	if n == 0 {
		return 0
	}
	return (t[(n-1)/2] + t[n/2]) / 2
}

func (s spread) text(decimals int) string {
	if len(s) == 0 {
		return "–"
	}
	f := func(v float64) string { return strconv.FormatFloat(v, 'f', decimals, 64) }
	least, most := f(slices.Min(s)), f(slices.Max(s))
	if least == most {
		return least
	}
	return f(s.median()) + " (" + least + "…" + most + ")"
}

var (
	helloLine = regexp.MustCompile(`HELLO from user space tsc=(\d+)`)
	latLine   = regexp.MustCompile(`(?m)^(\w+) ([\d.]+) (ns|us|MB/s) best=`)
	latError  = regexp.MustCompile(`(?m)^(\w+) (E[A-Z0-9]+)\s*$`)
	latEnd    = regexp.MustCompile(`(?m)^lat_end|anic`)
)

// boot returns the virtual milliseconds from the kernel's entry to the
// program's main, and from power-on.
func boot(k kernel, root string, firmware uint64, runs int, flags ...string) (fromEntry, fromPower spread, line string, err error) {
	m := machine{kernel: k.file, initrd: root, append: k.append(true), memory: "128", icount: true, flags: flags}
	for range runs {
		r, err := m.run(waitEnd, 2*time.Minute)
		if err != nil {
			return nil, nil, "", err
		}
		found := helloLine.FindSubmatch(r.output)
		if found == nil {
			return nil, nil, "", fmt.Errorf("%s: no greeting in %q", shell(m.command()), tail(r.output))
		}
		tsc, err := strconv.ParseUint(string(found[1]), 10, 64)
		if err != nil {
			return nil, nil, "", err
		}
		fromPower = append(fromPower, float64(tsc)/1e6)
		fromEntry = append(fromEntry, float64(tsc-firmware)/1e6)
	}
	return fromEntry, fromPower, shell(m.command()), nil
}

// helloCPU returns the CPU milliseconds of a whole run of hello, the VMM's own
// start included, for each of the commands in turn, so that a change of the
// host's load meets all of them.
func helloCPU(commands [][]string, runs int) (cpu, wall, rss []spread, err error) {
	n := len(commands)
	cpu, wall, rss = make([]spread, n), make([]spread, n), make([]spread, n)
	for range runs {
		for i, c := range commands {
			r, err := runCommand(c, waitEnd, 2*time.Minute)
			if err != nil {
				return nil, nil, nil, err
			}
			if !helloLine.Match(r.output) {
				return nil, nil, nil, fmt.Errorf("%s: no greeting in %q", shell(c), tail(r.output))
			}
			cpu[i] = append(cpu[i], float64(r.cpu.Microseconds())/1e3)
			wall[i] = append(wall[i], float64(r.wall.Microseconds())/1e3)
			rss[i] = append(rss[i], float64(r.rss)/(1<<20))
		}
	}
	return cpu, wall, rss, nil
}

// leastMemory bisects for the smallest number of MiB with which hello runs.
func leastMemory(k kernel, root string, low, high int) (int, error) {
	works := func(mib int) bool {
		m := machine{kernel: k.file, initrd: root, append: k.append(false), memory: strconv.Itoa(mib)}
		_, err := m.run(helloLine, 20*time.Second)
		progress("  %s -m %d: %v", k.name, mib, err == nil)
		return err == nil
	}
	if !works(high) {
		return 0, fmt.Errorf("%s: hello does not run even with %d MiB", k.name, high)
	}
	for high-low > 1 {
		if mid := (low + high) / 2; works(mid) {
			high = mid
		} else {
			low = mid
		}
	}
	return high, nil
}

// latency runs the micro-benchmark under icount and returns the medians by
// name; names whose call failed are in errors.
func latency(k kernel, root, only string, runs int) (values map[string]spread, errors map[string]string, line string, err error) {
	m := machine{kernel: k.file, initrd: root, append: k.append(true) + " LATMS=10", memory: "512", icount: true}
	if only != "" {
		m.append += " LAT=" + only
	}
	values, errors = map[string]spread{}, map[string]string{}
	for range runs {
		r, err := m.run(latEnd, 10*time.Minute)
		if err != nil {
			return nil, nil, "", err
		}
		out := strings.ReplaceAll(string(r.output), "\r", "")
		for _, f := range latLine.FindAllStringSubmatch(out, -1) {
			v, err := strconv.ParseFloat(f[2], 64)
			if err != nil {
				return nil, nil, "", err
			}
			if f[3] == "us" {
				v *= 1000
			}
			values[f[1]] = append(values[f[1]], v)
		}
		for _, f := range latError.FindAllStringSubmatch(out, -1) {
			errors[f[1]] = f[2]
		}
		if !strings.Contains(out, "lat_end") {
			return nil, nil, "", fmt.Errorf("%s: the run did not end: %q", shell(m.command()), tail(r.output))
		}
	}
	return values, errors, shell(m.command()), nil
}

func fileSize(name string) (int64, error) {
	i, err := os.Stat(name)
	if err != nil {
		return 0, err
	}
	return i.Size(), nil
}

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}
