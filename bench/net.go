package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Addresses of the network between this machine and the guest; it is in a namespace of its own.
const (
	tapName   = "tap0"
	tapAddr   = "10.77.0.1/24"
	guestAddr = "10.77.0.2"
	guestMAC  = "52:54:00:77:00:02"
)

// A load is what is asked of a server in the guest.
type load struct {
	key, label, unit string
	server           string   // of servers
	client           []string // run in the Debian root; the server's address is in it already
	figure           *regexp.Regexp
	scale            float64 // from what figure found to the unit
	each             string  // what CPU time is divided by: "request" or "MB"
	count            func(client []byte, value, seconds float64) float64
}

// requestsPerSecond and the requests that were made, which redis-benchmark was told and wrk tells.
func counted(n float64) func([]byte, float64, float64) float64 {
	return func([]byte, float64, float64) float64 { return n }
}

// overTime is rate times duration.
func overTime(_ []byte, rate, seconds float64) float64 { return rate * seconds }

var (
	redisRate = regexp.MustCompile(`"[A-Z]+","([\d.]+)"`)
	wrkRate   = regexp.MustCompile(`Requests/sec: +([\d.]+)`)
	iperfRate = regexp.MustCompile(`(?s)"sum_received":\s*\{.*?"bits_per_second":\s*([\d.e+]+)`)
)

func redis(key, label, command string, requests, pipeline int) load {
	n := strconv.Itoa(requests)
	return load{"redis:" + key, label, "requests/s", "redis",
		[]string{"redis-benchmark", "-h", guestAddr, "-n", n, "-c", "50", "-P", strconv.Itoa(pipeline), "-t", command, "--csv"}, redisRate, 1, "request", counted(float64(requests))}
}

var loads = []load{
	redis("get1", "redis GET, pipeline 1", "get", 30000, 1),
	redis("set1", "redis SET, pipeline 1", "set", 30000, 1),
	redis("get16", "redis GET, pipeline 16", "get", 200000, 16),
	redis("set16", "redis SET, pipeline 16", "set", 200000, 16),
	{"nginx", "nginx, page of 13 bytes, keep-alive", "requests/s", "nginx", []string{"wrk", "-t", "1", "-c", "50", "-d", "5s", "http://" + guestAddr + ":8080/i.txt"}, wrkRate, 1, "request", overTime},
	{"iperf3:in", "iperf3 into the guest", "MB/s", "iperf3", []string{"iperf3", "-J", "-c", guestAddr, "-t", "5"}, iperfRate, 1.0 / 8e6, "MB", overTime},
	{"iperf3:out", "iperf3 out of the guest", "MB/s", "iperf3", []string{"iperf3", "-J", "-c", guestAddr, "-t", "5", "-R"}, iperfRate, 1.0 / 8e6, "MB", overTime},
}

// netSession measures servers in guests from this machine.
type netSession struct {
	root   string // Debian system with servers and clients
	work   string
	runs   int
	only   *regexp.Regexp
	linux  linuxKernel
	kernel string // gosv's
	report netReport

	profiler *profiler // nil when nothing but time is measured
}

// runNet makes the namespace: it starts this program again in one.
func runNet(out, work, root, loads, only string, quick bool, top int) error {
	if os.Getenv("BENCH_NET") == "" {
		c := exec.Command("/proc/self/exe", os.Args[1:]...)
		c.Env = append(os.Environ(), "BENCH_NET=1")
		c.Stdout, c.Stderr = os.Stdout, os.Stderr
		c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
		return c.Run()
	}
	s, err := newNetSession(work, root, loads, quick)
	if err != nil {
		return err
	}
	if top > 0 {
		s.runs = 1
		if s.profiler, err = newProfiler(s.work, only, top); err != nil {
			return err
		}
		return s.measure()
	}
	if err := s.measure(); err != nil {
		return err
	}
	if out == "" {
		_, err := os.Stdout.WriteString(s.report.markdown())
		return err
	}
	return os.WriteFile(out, []byte(s.report.markdown()), 0o644)
}

func newNetSession(work, root, only string, quick bool) (*netSession, error) {
	match, err := regexp.Compile(only)
	if err != nil {
		return nil, err
	}
	s := &netSession{runs: 3, only: match, kernel: "bin/kernel.elf"}
	if quick {
		s.runs = 1
	}
	if s.root, err = filepath.Abs(root); err != nil {
		return nil, err
	}
	if s.work, err = filepath.Abs(work); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.work, 0o755); err != nil {
		return nil, err
	}
	for _, c := range [][]string{
		{"ip", "link", "set", "lo", "up"}, {"ip", "tuntap", "add", tapName, "mode", "tap"},
		{"ip", "addr", "add", tapAddr, "dev", tapName}, {"ip", "link", "set", tapName, "up"},
	} {
		if err := runIn(".", c[0], c[1:]...); err != nil {
			return nil, fmt.Errorf("%w (this needs root)", err)
		}
	}
	if s.linux, err = fetchLinux(filepath.Join(s.work, "linux")); err != nil {
		return nil, err
	}
	s.report = netReport{date: time.Now().UTC(), linux: s.linux.version, runs: s.runs}
	return s, nil
}

// measure lets the two kernels take turns at each load.
func (s *netSession) measure() error {
	archives := map[string]guestArchives{}
	for _, l := range loads {
		if !s.only.MatchString(l.key) {
			continue
		}
		a, made := archives[l.server]
		if !made {
			var err error
			if a, err = s.archives(l.server); err != nil {
				return err
			}
			archives[l.server] = a
		}
		r := netResult{load: l}
		for range s.runs {
			for _, g := range s.guests(l.server, a) {
				if s.profiler != nil && !s.profiler.wanted(g.name) {
					continue
				}
				rate, cpu, err := s.one(g, l)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", g.name, l.key, err)
				}
				progress("%s: %s %.0f %s, %.1f µs CPU per %s", l.label, g.name, rate, l.unit, cpu, l.each)
				r.add(g.name, rate, cpu)
			}
		}
		s.report.results = append(s.report.results, r)
	}
	s.report.load = loadAverage()
	return nil
}

// A netGuest is a command line that boots a server.
type netGuest struct {
	name    string
	port    string
	command []string
}

func (s *netSession) guests(server string, a guestArchives) []netGuest {
	command := func(kernel, initrd, append string) []string {
		return []string{"qemu-system-x86_64", "-M", "q35", "-accel", "tcg", "-cpu", cpuModel, "-smp", "1", "-m", "512", "-nodefaults", "-no-user-config",
			"-display", "none", "-serial", "stdio", "-no-reboot", "-kernel", kernel, "-initrd", initrd, "-append", append,
			"-netdev", "tap,id=net0,ifname=" + tapName + ",script=no,downscript=no,vhost=off", "-device", "virtio-net-pci,disable-legacy=on,netdev=net0,mac=" + guestMAC}
	}
	port := servers[server].port
	return []netGuest{
		{"linux", port, command(s.linux.vmlinux, a.linux, "console=ttyS0 quiet reboot=t panic=-1 tsc=reliable mitigations=off random.trust_cpu=on")},
		{"gosv", port, command(s.kernel, a.gosv, "")},
	}
}

// one boots the guest, lets the client ask and returns the rate, and microseconds of QEMU's CPU time for each request or MB.
func (s *netSession) one(g netGuest, l load) (rate, cpu float64, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	command := g.command
	if s.profiler != nil {
		plugin, err := s.profiler.prepare()
		if err != nil {
			return 0, 0, err
		}
		command = append(command, plugin...)
	}
	guest := exec.CommandContext(ctx, command[0], command[1:]...)
	var serial bytes.Buffer
	guest.Stdout, guest.Stderr = &serial, &serial
	guest.WaitDelay = time.Second
	if err := guest.Start(); err != nil {
		return 0, 0, err
	}
	failed := func(err error) error {
		cancel()
		guest.Wait() // it was killed
		return fmt.Errorf("%w; the guest said %q", err, tail(serial.Bytes()))
	}
	if err := reachable(net.JoinHostPort(guestAddr, g.port)); err != nil {
		return 0, 0, failed(err)
	}
	time.Sleep(time.Second) // what the server does after it has begun to listen
	if s.profiler != nil {
		if err := s.beginProfile(ctx, g, l); err != nil {
			return 0, 0, failed(err)
		}
	}
	before, err := cpuTime(guest.Process.Pid)
	if err != nil {
		return 0, 0, failed(err)
	}
	begin := time.Now()
	out, err := s.client(ctx, l.client)
	seconds := time.Since(begin).Seconds()
	if err != nil {
		return 0, 0, failed(err)
	}
	after, err := cpuTime(guest.Process.Pid)
	if err != nil {
		return 0, 0, failed(err)
	}
	m := l.figure.FindSubmatch(out)
	if m == nil {
		return 0, 0, failed(fmt.Errorf("%v: no figure in %q", l.client, tail(out)))
	}
	found, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		return 0, 0, failed(err)
	}
	rate = found * l.scale
	count := l.count(out, rate, seconds)
	if s.profiler != nil {
		if err := s.showProfile(g, l, count); err != nil {
			return 0, 0, failed(err)
		}
	}
	cancel()
	guest.Wait() // it was killed
	return rate, float64((after - before).Microseconds()) / count, nil
}

// beginProfile lets the client ask once, so that what happens the first time is not counted.
func (s *netSession) beginProfile(ctx context.Context, g netGuest, l load) error {
	if g.name == "linux" {
		if err := fetchSymbols(s.profiler.symbols["linux"]); err != nil {
			return err
		}
	}
	if _, err := s.client(ctx, l.client); err != nil {
		return err
	}
	return s.profiler.begin()
}

// fetchSymbols gets the guest's list of functions, see addLinux.
func fetchSymbols(file string) error {
	c, err := net.DialTimeout("tcp", net.JoinHostPort(guestAddr, symbolPort), 10*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(f, c)
	return err
}

func (s *netSession) showProfile(g netGuest, l load, count float64) error {
	blocks, err := s.profiler.end()
	if err != nil {
		return err
	}
	functions, err := readSymbols(s.profiler.symbols[g.name])
	if err != nil {
		return err
	}
	_, err = fmt.Printf("== %s, %s, per %s\n%s\n", l.label, g.name, l.each, newProfile(blocks, functions).text(count, s.profiler.top))
	return err
}

// client runs a program of the Debian root in the namespace.
func (s *netSession) client(ctx context.Context, args []string) ([]byte, error) {
	c := exec.CommandContext(ctx, "/usr/bin/"+args[0], args[1:]...)
	c.SysProcAttr = &syscall.SysProcAttr{Chroot: s.root}
	c.Dir = "/"
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		return nil, fmt.Errorf("%v: %w: %s %s", args, err, tail(out.Bytes()), tail(errs.Bytes()))
	}
	return out.Bytes(), nil
}

// reachable waits until something listens.
func reachable(addr string) error {
	var err error
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		var c net.Conn
		if c, err = net.DialTimeout("tcp", addr, time.Second); err == nil {
			return c.Close()
		}
	}
	return err
}

// cpuTime is what a process has used, proc_pid_stat(5).
func cpuTime(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	w := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(w) < 13 {
		return 0, errors.New("/proc/PID/stat is too short")
	}
	user, err1 := strconv.ParseInt(w[11], 10, 64)
	system, err2 := strconv.ParseInt(w[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond, errors.Join(err1, err2) // USER_HZ is 100
}
