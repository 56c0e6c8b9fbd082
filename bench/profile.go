package main

import (
	"bufio"
	"bytes"
	"cmp"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A profiler counts the instructions that a guest executes while a client asks, by function: profile/count.c does it in QEMU. Counts
// of guest instructions do not depend on the host's speed, but the pace does a little: a guest that is slower finds more at once.
type profiler struct {
	plugin  string // shared object
	dir     string
	symbols map[string]string // by kernel: an ELF file, or a list as /proc/kallsyms is
	only    string            // kernel, "" for both
	top     int               // functions to show
}

// newProfiler compiles the plugin.
func newProfiler(work, only string, top int) (*profiler, error) {
	p := &profiler{plugin: filepath.Join(work, "count.so"), dir: work, only: only, top: top,
		symbols: map[string]string{"gosv": "bin/kernel.sym.elf", "linux": filepath.Join(work, "linux", "kallsyms")}}
	return p, runIn(".", "cc", "-O2", "-Wall", "-shared", "-fPIC", "-o", p.plugin, "bench/profile/count.c", "-lpthread")
}

func (p *profiler) wanted(kernel string) bool { return p.only == "" || p.only == kernel }

func (p *profiler) fifo() string {
	return filepath.Join(p.dir, fmt.Sprintf("count.%d.fifo", os.Getpid()))
}
func (p *profiler) out() string { return filepath.Join(p.dir, "count.out") }

// prepare makes the FIFO, and returns what QEMU is told.
func (p *profiler) prepare() ([]string, error) {
	for _, f := range []string{p.fifo(), p.out()} {
		if err := os.Remove(f); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	return []string{"-plugin", p.plugin + ",control=" + p.fifo() + ",out=" + p.out()}, syscall.Mkfifo(p.fifo(), 0o600)
}

func (p *profiler) tell(c string) error {
	f, err := os.OpenFile(p.fifo(), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(c)
	return errors.Join(err, f.Close())
}

// begin counts from here on.
func (p *profiler) begin() error { return p.tell("r") }

// end returns what was counted since begin.
func (p *profiler) end() ([]block, error) {
	if err := p.tell("d"); err != nil {
		return nil, err
	}
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if f, err := os.Open(p.out()); err == nil {
			defer f.Close()
			blocks, err := readBlocks(f)
			return blocks, errors.Join(err, os.Remove(p.fifo())) // the counts stay, for whoever wants to look at single instructions
		}
	}
	return nil, errors.New("QEMU wrote no counts: does it know plugins of version 1?")
}

// A block is consecutive instructions that ran together.
type block struct{ address, instructions, count uint64 }

func readBlocks(r io.Reader) ([]block, error) {
	var blocks []block
	s := bufio.NewScanner(r)
	for s.Scan() {
		var b block
		if _, err := fmt.Sscanf(s.Text(), "%x %d %d", &b.address, &b.instructions, &b.count); err != nil {
			return nil, fmt.Errorf("%q: %w", s.Text(), err)
		}
		blocks = append(blocks, b)
	}
	return blocks, s.Err()
}

// symbols are functions by ascending address.
type symbols []symbol

type symbol struct {
	address uint64
	name    string
}

// readSymbols reads the functions of an ELF file or of a list as /proc/kallsyms is.
func readSymbols(file string) (symbols, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var list symbols
	if bytes.HasPrefix(data, []byte(elf.ELFMAG)) {
		f, err := elf.NewFile(bytes.NewReader(data))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		all, err := f.Symbols()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		for _, s := range all {
			if elf.ST_TYPE(s.Info) == elf.STT_FUNC {
				list = append(list, symbol{s.Value, s.Name})
			}
		}
	} else {
		for line := range strings.Lines(string(data)) {
			w := strings.Fields(line)
			if len(w) < 3 || !strings.Contains("tTwW", w[1]) {
				continue
			}
			if a, err := strconv.ParseUint(w[0], 16, 64); err == nil {
				list = append(list, symbol{a, w[2]})
			}
		}
	}
	slices.SortStableFunc(list, func(a, b symbol) int { return cmp.Compare(a.address, b.address) })
	return list, nil
}

// at returns the function that an address lies in, and whether it is its first instruction.
func (s symbols) at(address uint64) (string, bool) {
	i, exact := slices.BinarySearchFunc(s, address, func(y symbol, a uint64) int { return cmp.Compare(y.address, a) })
	switch {
	case exact:
		return s[i].name, true
	case i == 0:
		return "?", false
	}
	return s[i-1].name, false
}

// userEnd is behind the addresses of programs.
const userEnd = 1 << 47

// A profile is what was executed, by function.
type profile struct {
	user, kernel uint64
	functions    map[string]uint64 // instructions
	calls        map[string]uint64 // how often the first instruction ran
}

func newProfile(blocks []block, s symbols) profile {
	p := profile{functions: map[string]uint64{}, calls: map[string]uint64{}}
	for _, b := range blocks {
		n := b.instructions * b.count
		if b.address < userEnd {
			p.user += n
			continue
		}
		p.kernel += n
		name, first := s.at(b.address)
		p.functions[name] += n
		if first {
			p.calls[name] += b.count
		}
	}
	return p
}

// cloned are the endings that C compilers give to parts and copies of a function.
var cloned = regexp.MustCompile(`\.(part|isra|constprop|cold)\b`)

// packageOf is the package that a function of Go belongs to; "" for one of C.
func packageOf(function string) string {
	end := len(function)
	if i := strings.IndexAny(function, "([{"); i >= 0 {
		end = i // type parameters have slashes too
	}
	slash := strings.LastIndexByte(function[:end], '/')
	dot := strings.IndexByte(function[slash+1:], '.')
	if dot < 0 || cloned.MatchString(function) {
		return ""
	}
	return function[:slash+1+dot]
}

// text shows the functions with the most instructions, divided by units.
func (p profile) text(units float64, top int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "instructions: %.0f (program %.0f, kernel %.0f)\n", float64(p.user+p.kernel)/units, float64(p.user)/units, float64(p.kernel)/units)
	byPackage := map[string]uint64{}
	for name, n := range p.functions {
		if of := packageOf(name); of != "" {
			byPackage[of] += n
		}
	}
	show := func(of map[string]uint64, calls map[string]uint64, top int) {
		names := slices.SortedFunc(maps.Keys(of), func(a, b string) int { return cmp.Or(cmp.Compare(of[b], of[a]), cmp.Compare(a, b)) })
		for _, name := range names[:min(len(names), top)] {
			fmt.Fprintf(&b, "%10.1f %5.1f %%", float64(of[name])/units, 100*float64(of[name])/float64(p.user+p.kernel))
			if calls != nil {
				fmt.Fprintf(&b, " %9.3f ×", float64(calls[name])/units)
			}
			fmt.Fprintf(&b, "  %s\n", name)
		}
	}
	show(byPackage, nil, top/3)
	b.WriteByte('\n')
	show(p.functions, p.calls, top)
	return b.String()
}
