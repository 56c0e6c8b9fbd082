package main

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// A row is one line of the report.
type row struct {
	key      string // as measure stores it
	label    string
	unit     string
	decimals int
	limit    float64 // what the median may not exceed; 0: no promise
	least    float64 // or: what it may not fall short of
	ratio    float64 // or: at most this part of Linux's, or at least when the unit is MB/s
	measured string  // what was measured before, of Linux and others
}

var rows = []row{
	{"boot", "kernel entry → `main` of a static hello, 128 MiB", "ms (virtual)", 3, 4, 0, 0, "Linux 379, OSv 7.6–17, Nanos 51"},
	{"power", "the same from power-on, firmware included", "ms (virtual)", 3, 0, 0, 0, ""},
	{"erofs", "the same from an EROFS image on virtio-blk, least of several runs", "ms (virtual)", 3, 0, 0, 0, ""},
	{"erofs-more", "which is more than from the initramfs by", "ms (virtual)", 3, 1, 0, 0, ""},
	{"blk:read", "read of a virtio-blk disk from end to end, wall clock, the best 64 MiB", "MB/s", 0, 0, 0, 0.9, ""},
	{"blk:direct", "the same with O_DIRECT", "MB/s", 0, 0, 0, 0, ""},
	{"ext4:write", "ext4 on virtio-blk: write of 64 MiB and fsync, wall clock, the best", "MB/s", 0, 0, 0, 0, ""},
	{"ext4:read", "read of 64 MiB", "MB/s", 0, 0, 0, 0, ""},
	{"ext4:create", "create a file", "µs (wall)", 1, 0, 0, 0, ""},
	{"ext4:stat_cold", "stat just after the mount", "µs (wall)", 1, 0, 0, 0, ""},
	{"ext4:stat", "stat again", "µs (wall)", 1, 0, 0, 0, ""},
	{"ext4:unlink", "unlink a file", "µs (wall)", 1, 0, 0, 0, ""},
	{"virtiofs:write", "virtiofs, QEMU's virtiofsd: write of 64 MiB and fsync, wall clock, the best", "MB/s", 0, 0, 0, 0, ""},
	{"virtiofs:read", "read of 64 MiB", "MB/s", 0, 0, 0, 0, ""},
	{"virtiofs:create", "create a file", "µs (wall)", 1, 0, 0, 0, ""},
	{"virtiofs:stat_cold", "stat just after the mount", "µs (wall)", 1, 0, 0, 0, ""},
	{"virtiofs:stat", "stat again", "µs (wall)", 1, 0, 0, 0, ""},
	{"virtiofs:unlink", "unlink a file", "µs (wall)", 1, 0, 0, 0, ""},
	{"cpu", "whole run of hello under TCG, QEMU's start included", "ms CPU", 0, 0, 0, 0.2, ""},
	{"wall", "the same, wall clock", "ms", 0, 0, 0, 0, ""},
	{"rss", "the same, largest process", "MiB", 0, 0, 0, 0, ""},
	{"memory", "least memory in which static hello runs", "MiB", 0, 12, 0, 0, "Linux 70, OSv 4.3–13.6, Nanos 11, Unikraft 6"},
	{"size", "kernel image, not packed", "MB", 2, 8, 0, 0, ""},
	{"packed", "kernel image, packed (bzImage)", "MB", 2, 0, 0, 0, ""},
	{"lat:null_syscall", "null system call (getppid)", "ns", 0, 200, 0, 0, "Linux 340, OSv 170, Nanos 1059"},
	{"lat:null_getpid", "getpid", "ns", 0, 0, 0, 0, ""},
	{"lat:clock_vdso", "clock_gettime through the vDSO", "ns", 0, 74, 0, 0, ""},
	{"lat:clock_raw", "clock_gettime as a system call", "ns", 0, 0, 0, 0, ""},
	{"lat:read_zero_1b", "read of one byte of /dev/zero", "ns", 0, 0, 0, 0, ""},
	{"lat:write_null_1b", "write of one byte to /dev/null", "ns", 0, 0, 0, 0, ""},
	{"lat:open_close", "open and close", "ns", 0, 5000, 0, 0, ""},
	{"lat:stat", "stat", "ns", 0, 2900, 0, 0, ""},
	{"lat:pread_4k", "pread of 4 KiB", "ns", 0, 1400, 0, 0, ""},
	{"lat:signal_self", "signal to self", "ns", 0, 3900, 0, 0, "Linux 3876"},
	{"lat:mmap_touch_unmap_1", "mmap, touch and munmap of one page", "ns", 0, 11000, 0, 0, "Linux 22170"},
	{"lat:mmap_touch_page", "first touch of a page", "ns", 0, 2500, 0, 0, ""},
	{"lat:munmap_page", "munmap, a page", "ns", 0, 0, 0, 0, ""},
	{"lat:mprotect", "mprotect of one page", "ns", 0, 6000, 0, 0, ""},
	{"lat:pthread_create_join", "pthread create and join", "ns", 0, 38000, 0, 0, "Linux 38323"},
	{"lat:futex_pingpong", "futex ping-pong between threads", "ns", 0, 4000, 0, 0, "Linux 7027, Nanos 2693, OSv 2956"},
	{"lat:unix_pingpong", "AF_UNIX ping-pong between threads", "ns", 0, 11000, 0, 0, "Linux 19449, Nanos 11140"},
	{"lat:pipe_pingpong_thr", "pipe ping-pong between threads", "ns", 0, 8000, 0, 0, "Linux 10516, OSv 4899"},
	{"lat:pipe_pingpong_proc", "pipe ping-pong between processes", "ns", 0, 9000, 0, 0, "Linux 10615"},
	{"lat:tcp_pingpong", "TCP ping-pong on loopback", "ns", 0, 27000, 0, 0, "Linux 27776, OSv 20717, Nanos 17049"},
	{"lat:tcp_connect_close", "TCP connect, accept and close on loopback", "ns", 0, 54000, 0, 0, "Linux 54952"},
	{"lat:tcp_stream", "TCP stream on loopback", "MB/s", 0, 0, 1733, 0, "Linux 1733"},
	{"lat:eventfd_cycle", "eventfd: write, epoll_wait, read", "ns", 0, 1200, 0, 0, "Linux 2543, OSv 1162"},
	{"lat:epoll_wait_ready", "epoll_wait with a file that is ready", "ns", 0, 600, 0, 0, "Linux 719"},
	{"lat:fork_exit_wait", "fork, exit and wait", "ns", 0, 300000, 0, 0, "Linux 399000"},
	{"lat:fork_exec", "fork, exec, exit and wait", "ns", 0, 600000, 0, 0, "Linux 753000"},
	{"lat:spawn_exec", "posix_spawn, exit and wait", "ns", 0, 0, 0, 0, ""},
	{"lat:nanosleep_100us", "nanosleep of 100 µs", "ns", 0, 200000, 0, 0, ""},
	{"lat:file_create", "create a file", "ns", 0, 11000, 0, 0, ""},
	{"lat:file_unlink", "unlink a file", "ns", 0, 7200, 0, 0, ""},
	{"lat:file_write_32m", "write of a file of 32 MiB", "MB/s", 0, 0, 1132, 0, "Linux 1132"},
	{"lat:file_read_32m", "read of a file of 32 MiB", "MB/s", 0, 0, 3762, 0, "Linux 3762"},
}

// latNames are the micro-benchmarks that the report shows.
func latNames() []string {
	var n []string
	for _, r := range rows {
		if name, ok := strings.CutPrefix(r.key, "lat:"); ok {
			n = append(n, name)
		}
	}
	return n
}

// report collects figures by kernel and key.
type report struct {
	date     time.Time
	linux    string // version
	load     string
	firmware float64 // virtual ms
	lines    []string
	values   map[string]map[string]spread
	failures map[string]map[string]string
}

func (r *report) add(kernel, key string, v spread) {
	if r.values == nil {
		r.values = map[string]map[string]spread{}
	}
	if r.values[key] == nil {
		r.values[key] = map[string]spread{}
	}
	r.values[key][kernel] = v
}

func (r *report) fail(kernel, key, errno string) {
	if r.failures == nil {
		r.failures = map[string]map[string]string{}
	}
	if r.failures[key] == nil {
		r.failures[key] = map[string]string{}
	}
	r.failures[key][kernel] = errno
}

func (r *report) cell(w row, kernel string) string {
	if e := r.failures[w.key][kernel]; e != "" {
		return e
	}
	return r.values[w.key][kernel].text(w.decimals)
}

// target returns the most that the figure may be, or the least when the row
// has one; 0 when nothing is promised.
func (r *report) target(w row) float64 {
	switch {
	case w.ratio > 0:
		return r.values[w.key]["linux"].median() * w.ratio
	case w.least > 0:
		return w.least
	}
	return w.limit
}

// targetText is the target as the tables show it.
func (r *report) targetText(w row) string {
	switch {
	case w.ratio > 0:
		return fmt.Sprintf("%s %.0f (%g of Linux)", w.sign(), r.target(w), w.ratio)
	case r.target(w) > 0:
		return fmt.Sprintf("%s %g", w.sign(), r.target(w))
	}
	return "–"
}

// sign says on which side of the target the figure is to be.
func (w row) sign() string {
	if w.unit == "MB/s" {
		return "≥"
	}
	return "≤"
}

// verdict says whether the promise is kept: "", "yes" or "no".
func (r *report) verdict(w row) string {
	t, v := r.target(w), r.values[w.key]["gosv"]
	switch {
	case t == 0:
		return ""
	case r.failures[w.key]["gosv"] != "":
		return "**no**"
	case len(v) == 0:
		return "not measured"
	case v.median() == t, v.median() < t == (w.sign() == "≤"):
		return "yes"
	}
	return "**no**"
}

func (r *report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Benchmarks\n\nWritten by `make bench` on %s; do not edit. Linux is Debian's %s, its unpacked vmlinux started by PVH as our kernel is.\n\n",
		r.date.Format("2006-01-02 15:04 MST"), or(r.linux, "(not measured)"))
	b.WriteString("Figures in virtual time count guest instructions, 1 ns each (`-icount shift=0,sleep=off`): median (least…most) of the runs, one figure where all are equal. " +
		"They know nothing of caches, TLB misses or the cost of emulation. CPU times and wall times are this host's; the commands took turns")
	fmt.Fprintf(&b, "; load average %s.\n\n", or(r.load, "unknown"))
	b.WriteString("| figure | unit | gosv | Linux | target | kept | measured elsewhere before |\n|---|---|---:|---:|---:|---|---|\n")
	for _, w := range rows {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s |\n", w.label, w.unit, r.cell(w, "gosv"), r.cell(w, "linux"), r.targetText(w), or(r.verdict(w), "–"), or(w.measured, "–"))
	}
	fmt.Fprintf(&b, "\nThe firmware spends %.3f ms (virtual) before a kernel's PVH entry; a probe kernel that reads the TSC there shows it, and it is taken off in the first line.\n", r.firmware)
	b.WriteString("\n## Command lines\n\n```\n")
	for _, l := range r.lines {
		b.WriteString(l + "\n")
	}
	b.WriteString("```\n")
	return strings.ReplaceAll(b.String(), cwd(), ".")
}

// summary is what the terminal shows: the promises.
func (r *report) summary() string {
	var b strings.Builder
	for _, w := range rows {
		if v := r.verdict(w); v != "" {
			fmt.Fprintf(&b, "%-55s %12s  target %s  %s\n", w.label, r.cell(w, "gosv"), r.targetText(w), v)
		}
	}
	return b.String()
}

func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// cwd is taken out of command lines, which are to be the same everywhere.
func cwd() string {
	d, err := os.Getwd()
	if err != nil {
		return "\x00"
	}
	return d
}
