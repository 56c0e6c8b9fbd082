package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"gosv/vmm/registry"
)

func newStats(std streams) *cobra.Command {
	var once bool
	cmd := &cobra.Command{
		Use:   "stats [FLAGS] [MACHINE…]",
		Short: "Show what machines use of this host",
		Long: `Show what the machines that run, or those named, use of this host: processor time of
their virtual machine monitor (100 % is one processor), memory that it holds, and the memory
that the machine was given.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			for {
				list, err := runningMachines(args)
				if err != nil {
					return err
				}
				before := sample(list)
				select {
				case <-time.After(time.Second):
				case <-cmd.Context().Done():
					return nil
				}
				if err := printStats(std, list, before, sample(list)); err != nil || once {
					return err
				}
			}
		},
	}
	cmd.Flags().BoolVar(&once, "no-stream", false, "measure once")
	return cmd
}

func runningMachines(keys []string) ([]*registry.Machine, error) {
	reg, list, err := findMachines(keys)
	if err == nil && len(keys) == 0 {
		list, err = reg.List()
	}
	var running []*registry.Machine
	for _, m := range list {
		if m.Running() && m.VMPID != 0 {
			running = append(running, m)
		}
	}
	return running, err
}

// usage is what a process has used.
type usage struct {
	at       time.Time
	cpu      time.Duration
	resident int64 // bytes
	ok       bool
}

func sample(list []*registry.Machine) []usage {
	all := make([]usage, len(list))
	for i, m := range list {
		all[i] = usageOf(m.VMPID)
	}
	return all
}

// usageOf reads /proc/PID/stat (proc(5)); ok is false when the process has ended.
func usageOf(pid int) usage {
	const ticksPerSecond = 100 // USER_HZ
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	i := strings.LastIndexByte(string(b), ')')
	if err != nil || i < 0 {
		return usage{}
	}
	f := strings.Fields(string(b[i+1:])) // f[0] is field 3
	if len(f) < 22 {
		return usage{}
	}
	number := func(field int) int64 {
		n, _ := strconv.ParseInt(f[field-3], 10, 64) // the kernel's own numbers
		return n
	}
	return usage{time.Now(), time.Duration(number(14)+number(15)) * time.Second / ticksPerSecond, number(24) * int64(os.Getpagesize()), true}
}

func printStats(std streams, list []*registry.Machine, before, after []usage) error {
	w := tabwriter.NewWriter(std.out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "ID\tNAME\tCPU %\tHOST MEMORY\tGIVEN")
	for i, m := range list {
		if !before[i].ok || !after[i].ok {
			continue
		}
		percent := 100 * float64(after[i].cpu-before[i].cpu) / float64(after[i].at.Sub(before[i].at))
		fmt.Fprintf(w, "%s\t%s\t%.1f\t%d MiB\t%d MiB × %s\n", m.ID, m.Name, percent, after[i].resident>>20, m.Memory>>20, plural(m.CPUs, "CPU"))
	}
	return w.Flush()
}
