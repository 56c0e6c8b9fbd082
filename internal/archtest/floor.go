package archtest

import (
	"bytes"
	"debug/elf"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/arch/x86/x86asm"
)

// FloorPrefix is how the names of the floor's functions begin.
const FloorPrefix = "gosv/machine/floor."

// forbidden are the runtime's functions that allocate, store through a write
// barrier, or otherwise need the Go runtime that the floor carries. What ends
// in "*" takes in all that begin so. Panics and stack growth are no part of it:
// they end in the floor's own fault report.
var forbidden = []string{
	"runtime.gcWriteBarrier*", "runtime.wbZero", "runtime.wbMove", "runtime.bulkBarrier*", "runtime.typedmemmove*", "runtime.typedmemclr*",
	"runtime.newobject", "runtime.mallocgc*", "runtime.newarray", "runtime.growslice*", "runtime.makeslice*", "runtime.makechan*",
	"runtime.makemap*", "runtime.mapaccess*", "runtime.mapassign*", "runtime.mapdelete*", "runtime.mapiter*", "internal/runtime/maps.*",
	"runtime.concat*", "runtime.slicebyte*", "runtime.stringto*", "runtime.intstring", "runtime.slicerunetostring",
	"runtime.convT*", "runtime.assertE2I*", "runtime.typeAssert*", "runtime.interfaceSwitch*",
	"runtime.deferproc*", "runtime.deferreturn*", "runtime.deferprocStack*", "runtime.newproc*", "runtime.chan*", "runtime.selectgo*", "runtime.selectnb*",
}

func isForbidden(symbol string) bool {
	for _, f := range forbidden {
		if prefix, ok := strings.CutSuffix(f, "*"); ok && strings.HasPrefix(symbol, prefix) || symbol == f {
			return true
		}
	}
	return false
}

// function is a piece of code with a name.
type function struct {
	name       string
	start, end uint64
}

// program is an executable with its symbols.
type program struct {
	functions []function // by address
	text      []byte
	base      uint64
}

// CheckFloor disassembles an x86-64 Go executable that has its symbols, follows
// every direct call and jump from the functions whose names begin with prefix,
// and returns a line for each way that leads to what the floor must not call.
// Functions of the runtime are not entered. It fails when there is no such
// function, since it would then have checked nothing.
func CheckFloor(executable []byte, prefix string) ([]string, error) {
	p, err := readProgram(executable)
	if err != nil {
		return nil, err
	}
	type visit struct {
		function
		way string
	}
	var queue []visit
	seen := map[string]bool{}
	for _, f := range p.functions {
		if strings.HasPrefix(f.name, prefix) && !strings.HasSuffix(f.name, ".init") {
			seen[f.name] = true
			queue = append(queue, visit{f, f.name})
		}
	}
	if len(queue) == 0 {
		return nil, fmt.Errorf("no function %s… in the executable", prefix)
	}
	var faults []string
	for ; len(queue) > 0; queue = queue[1:] {
		v := queue[0]
		callees, err := p.callees(v.function)
		if err != nil {
			return nil, err
		}
		for _, callee := range callees {
			way := v.way + " → " + callee.name
			switch {
			case isForbidden(callee.name):
				faults = append(faults, way)
			case strings.HasPrefix(callee.name, "runtime."), seen[callee.name]:
			default:
				seen[callee.name] = true
				queue = append(queue, visit{callee, way})
			}
		}
	}
	slices.Sort(faults)
	return slices.Compact(faults), nil
}

func readProgram(executable []byte) (*program, error) {
	f, err := elf.NewFile(bytes.NewReader(executable))
	if err != nil {
		return nil, err
	}
	section := f.Section(".text")
	if section == nil {
		return nil, fmt.Errorf("no .text section")
	}
	p := &program{base: section.Addr}
	if p.text, err = section.Data(); err != nil {
		return nil, err
	}
	symbols, err := f.Symbols()
	if err != nil {
		return nil, fmt.Errorf("%w: the executable must keep its symbols (no -s)", err)
	}
	for _, s := range symbols {
		if elf.ST_TYPE(s.Info) == elf.STT_FUNC && s.Value >= p.base && s.Value+s.Size <= p.base+uint64(len(p.text)) {
			p.functions = append(p.functions, function{s.Name, s.Value, s.Value + s.Size})
		}
	}
	slices.SortFunc(p.functions, func(a, b function) int { return int(int64(a.start - b.start)) })
	return p, nil
}

// at returns the function that address lies in.
func (p *program) at(address uint64) (function, bool) {
	i, found := slices.BinarySearchFunc(p.functions, address, func(f function, a uint64) int {
		return int(int64(f.start - a))
	})
	if !found {
		i--
	}
	if i < 0 || address >= p.functions[i].end {
		return function{}, false
	}
	return p.functions[i], true
}

// callees returns the functions that f calls, or jumps to, directly.
func (p *program) callees(f function) ([]function, error) {
	var out []function
	code := p.text[f.start-p.base : f.end-p.base]
	for pc := f.start; len(code) > 0; {
		inst, err := x86asm.Decode(code, 64)
		if err != nil {
			// Privileged and new instructions the decoder does not know are
			// passed over byte by byte; a call is never among them.
			pc, code = pc+1, code[1:]
			continue
		}
		if rel, ok := inst.Args[0].(x86asm.Rel); ok {
			target := pc + uint64(inst.Len) + uint64(int64(rel))
			if callee, ok := p.at(target); ok && callee.name != f.name {
				out = append(out, callee)
			}
		}
		pc, code = pc+uint64(inst.Len), code[inst.Len:]
	}
	return out, nil
}
