package main

import (
	"fmt"
	"strings"
	"time"
)

// netResult has the figures of one load by kernel.
type netResult struct {
	load
	rate, cpu map[string]spread
}

func (r *netResult) add(kernel string, rate, cpu float64) {
	if r.rate == nil {
		r.rate, r.cpu = map[string]spread{}, map[string]spread{}
	}
	r.rate[kernel] = append(r.rate[kernel], rate)
	r.cpu[kernel] = append(r.cpu[kernel], cpu)
}

type netReport struct {
	date    time.Time
	linux   string
	load    string
	runs    int
	results []netResult
}

func (r *netReport) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Servers on the network, beside Linux\n\nWritten by `make bench-net` on %s; do not edit. Debian's servers in one QEMU (q35, TCG, one processor, 512 MiB, virtio-net-pci on a tap device "+
		"in a network namespace of its own), with gosv and with Debian's %s in turn; clients on this machine, which has the same processors. Median (least…most) of %d; load average %s. "+
		"CPU is QEMU's while the client ran, divided by the requests.\n\n", r.date.Format("2006-01-02 15:04 MST"), r.linux, r.runs, or(r.load, "unknown"))
	b.WriteString("| load | unit | gosv | Linux | gosv ÷ Linux | µs CPU per | gosv | Linux | gosv ÷ Linux | kept |\n|---|---|---:|---:|---:|---|---:|---:|---:|---|\n")
	for _, x := range r.results {
		rate, cpu := x.rate["gosv"].median()/x.rate["linux"].median(), x.cpu["gosv"].median()/x.cpu["linux"].median()
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %.2f | %s | %s | %s | %.2f | %s |\n", x.label, x.unit, x.rate["gosv"].text(0), x.rate["linux"].text(0), rate,
			x.each, x.cpu["gosv"].text(1), x.cpu["linux"].text(1), cpu, kept(rate, cpu))
	}
	b.WriteString("\nKept: at least as many requests as Linux (≥ 1), with at most as much CPU for each (≤ 1).\n")
	return b.String()
}

// kept says which of the two promises hold.
func kept(rate, cpu float64) string {
	switch {
	case rate >= 1 && cpu <= 1:
		return "yes"
	case rate >= 1:
		return "rate only"
	case cpu <= 1:
		return "CPU only"
	}
	return "**no**"
}
