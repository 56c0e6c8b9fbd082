package apps

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const (
	scaleAddr   = "10.77.0.2:6379"
	scaleName   = "scale"
	connections = 10_000
	requests    = 1_000_000
	frames      = 200_000 // of the flood
)

// TestAppsScale asks much of one server, redis in a machine of 512 MiB on a tap device. It needs root: the network is a namespace of
// its own, in which the test runs itself once more.
func TestAppsScale(t *testing.T) {
	d := debianSystem(t)
	if os.Getuid() != 0 {
		t.Skip("a network namespace needs root")
	}
	if os.Getenv("GOSV_SCALE") == "" {
		c := exec.Command(os.Args[0], "-test.run=^TestAppsScale$", "-test.v", "-test.timeout=40m")
		c.Env = append(os.Environ(), "GOSV_SCALE=1")
		c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
		out, err := c.CombinedOutput()
		t.Logf("%s", out)
		if err != nil {
			t.Error(err)
		}
		return
	}
	t.Setenv("GOSV_HOME", t.TempDir())
	scaleNetwork(t)
	args := []string{"run", "--accel", "tcg", "-d", "--name", scaleName, "-m", "512M", "--cpus", "2", "--net", "tap:tap0", "--ip", "10.77.0.2/24", "--root", d.dir,
		"redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--save", "", "--maxclients", "12000", "--tcp-backlog", "1024"}
	if out, err := gosv(t, args...); err != nil {
		t.Fatalf("gosv run: %v\n%s", err, out)
	}
	defer gosv(t, "rm", "-f", scaleName)
	t.Run("connections", manyConnections)
	t.Run("requests", func(t *testing.T) { manyRequests(t, d) })
	t.Run("flood", flood)
	if out, err := gosv(t, "stop", scaleName); err != nil {
		t.Errorf("gosv stop: %v\n%s", err, out)
	}
}

// scaleNetwork makes the tap device and lets this process have the connections.
func scaleNetwork(t *testing.T) {
	limit := syscall.Rlimit{Cur: 2*connections - 1, Max: 2*connections - 1}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][]string{
		{"ip", "link", "set", "lo", "up"}, {"ip", "tuntap", "add", "tap0", "mode", "tap"},
		{"ip", "addr", "add", "10.77.0.1/24", "dev", "tap0"}, {"ip", "link", "set", "tap0", "up"},
	} {
		if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", c, err, out)
		}
	}
}

// redis is a connection to the server.
type redis struct {
	net.Conn
	in *bufio.Reader
}

func dialRedis(limit time.Duration) (*redis, error) {
	for end := time.Now().Add(limit); ; time.Sleep(200 * time.Millisecond) {
		c, err := net.DialTimeout("tcp", scaleAddr, limit)
		if err == nil {
			return &redis{c, bufio.NewReaderSize(c, 64)}, nil
		}
		if time.Now().After(end) {
			return nil, err
		}
	}
}

// ping asks and waits for the answer.
func (r *redis) ping(limit time.Duration) error {
	_ = r.SetDeadline(time.Now().Add(limit))
	if _, err := r.Write([]byte("PING\r\n")); err != nil {
		return err
	}
	line, err := r.in.ReadString('\n')
	if err == nil && line != "+PONG\r\n" {
		err = fmt.Errorf("the answer is %q", line)
	}
	return err
}

// manyConnections holds 10,000 connections at once; each is answered.
func manyConnections(t *testing.T) {
	const limit = 2 * time.Minute
	first, err := dialRedis(limit)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	conns := make([]*redis, connections)
	begin := time.Now()
	each := func(what string, f func(i int) error) {
		var wg sync.WaitGroup
		var failed atomic.Int64
		next := atomic.Int64{}
		for range 50 {
			wg.Go(func() {
				for i := int(next.Add(1)) - 1; i < connections; i = int(next.Add(1)) - 1 {
					if err := f(i); err != nil && failed.Add(1) <= 3 {
						t.Errorf("%s %d: %v", what, i, err)
					}
				}
			})
		}
		wg.Wait()
		if n := failed.Load(); n > 0 {
			t.Fatalf("%s: %d of %d failed", what, n, connections)
		}
		t.Logf("%s: %d after %v", what, connections, time.Since(begin).Round(time.Second))
	}
	defer func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	}()
	each("connect", func(i int) (err error) {
		conns[i], err = dialRedis(limit)
		return err
	})
	each("ping", func(i int) error { return conns[i].ping(limit) })
	t.Logf("in use: %d KiB of the machine's memory", usedMemory(t))
}

// manyRequests makes a million requests, none of which may be lost, and wants the memory back.
func manyRequests(t *testing.T, d *debian) {
	ask := func(n int) {
		line := fmt.Sprintf("redis-benchmark -h 10.77.0.2 -c 50 -P 16 -n %d -t get --csv", n)
		begin := time.Now()
		status, out, err := d.onHost(line, 15*time.Minute)
		if status != 0 || err != nil || !strings.Contains(out, `"GET"`) {
			t.Fatalf("status %d, %v\n%s", status, err, out)
		}
		t.Logf("%d requests in %v", n, time.Since(begin).Round(time.Second))
	}
	ask(requests / 50)
	time.Sleep(2 * time.Second)
	before := usedMemory(t)
	ask(requests)
	time.Sleep(2 * time.Second)
	after := usedMemory(t)
	t.Logf("memory in use before %d KiB, after %d KiB", before, after)
	if most := 512 << 10 / 20; after > before+most {
		t.Errorf("%d KiB more are in use, of %d that may be", after-before, most)
	}
}

// usedMemory returns the KiB of the machine's memory that cannot be had.
func usedMemory(t *testing.T) int {
	t.Helper()
	out, err := gosv(t, "exec", scaleName, "cat", "/proc/meminfo")
	if err != nil {
		t.Fatalf("gosv exec: %v\n%s", err, out)
	}
	kib := map[string]int{}
	for line := range strings.Lines(out) {
		if w := strings.Fields(line); len(w) >= 2 {
			kib[w[0]], _ = strconv.Atoi(w[1]) // what is no number is not looked at
		}
	}
	if kib["MemTotal:"] == 0 || kib["MemAvailable:"] == 0 {
		t.Fatalf("/proc/meminfo: %s", out)
	}
	return kib["MemTotal:"] - kib["MemAvailable:"]
}

// flood sends SYNs from addresses that answer nothing, and frames that are broken in every way, while a connection is used.
func flood(t *testing.T) {
	const limit = time.Minute
	alive, err := dialRedis(limit)
	if err != nil {
		t.Fatal(err)
	}
	defer alive.Close()
	if err := alive.ping(limit); err != nil {
		t.Fatal(err)
	}
	send, err := frameSocket("tap0")
	if err != nil {
		t.Fatal(err)
	}
	mac, err := guestMAC()
	if err != nil {
		t.Fatal(err)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	refused := 0
	for i := range frames {
		f := synFrame(mac, random)
		if i%2 == 1 {
			f = spoil(f, random)
		}
		if send(f) != nil {
			refused++ // the device's queue was full, or the frame too short for the host
		}
		if i%5000 == 0 {
			if err := alive.ping(limit); err != nil {
				t.Fatalf("the other connection, after %d frames: %v", i, err)
			}
		}
	}
	if refused > frames/2 {
		t.Errorf("%d of %d frames were not sent", refused, frames)
	}
	if err := alive.ping(limit); err != nil {
		t.Errorf("the other connection, at the end: %v", err)
	}
	c, err := dialRedis(limit)
	if err != nil {
		t.Fatalf("a new connection after the flood: %v", err)
	}
	defer c.Close()
	if err := c.ping(limit); err != nil {
		t.Errorf("a new connection after the flood: %v", err)
	}
}

// frameSocket returns what sends frames on an interface.
func frameSocket(name string) (func([]byte) error, error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return nil, err
	}
	fd, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	to := &syscall.SockaddrLinklayer{Ifindex: i.Index}
	return func(f []byte) error { return syscall.Sendto(fd, f, 0, to) }, nil
}

// guestMAC is what the host knows of the guest.
func guestMAC() (net.HardwareAddr, error) {
	out, err := exec.Command("ip", "neigh", "show", "10.77.0.2").Output()
	if err != nil {
		return nil, err
	}
	_, after, _ := strings.Cut(string(out), "lladdr ")
	mac, _, _ := strings.Cut(after, " ")
	return net.ParseMAC(mac)
}

// synFrame is a connection request from a port and an address by chance, with right checksums.
func synFrame(mac net.HardwareAddr, random *rand.Rand) []byte {
	f := make([]byte, 14+20+20)
	copy(f, mac)
	copy(f[6:], []byte{2, 0, 0, 0, 0, 9})
	binary.BigEndian.PutUint16(f[12:], 0x0800)
	ip, tcp := f[14:34], f[34:]
	ip[0], ip[8], ip[9] = 0x45, 64, 6
	binary.BigEndian.PutUint16(ip[2:], 40)
	copy(ip[12:], []byte{10, 77, 0, byte(3 + random.IntN(250))})
	copy(ip[16:], []byte{10, 77, 0, 2})
	binary.BigEndian.PutUint16(ip[10:], checksum(ip, 0))
	binary.BigEndian.PutUint16(tcp, uint16(1024+random.IntN(60000)))
	binary.BigEndian.PutUint16(tcp[2:], 6379)
	binary.BigEndian.PutUint32(tcp[4:], random.Uint32())
	tcp[12], tcp[13] = 5<<4, 2
	binary.BigEndian.PutUint16(tcp[14:], 64240)
	pseudo := uint32(6 + 20)
	for i := 12; i < 20; i += 2 {
		pseudo += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	binary.BigEndian.PutUint16(tcp[16:], checksum(tcp, pseudo))
	return f
}

// checksum is RFC 1071's.
func checksum(b []byte, sum uint32) uint16 {
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// spoil changes a frame: bytes, its length, its protocol; the sums of some are right again.
func spoil(f []byte, random *rand.Rand) []byte {
	switch random.IntN(4) {
	case 0: // shorter
		f = f[:14+random.IntN(len(f)-14)]
	case 1: // longer, by bytes that are by chance
		for range random.IntN(1400) {
			f = append(f, byte(random.Uint32()))
		}
	case 2: // another protocol of IPv4, or of Ethernet
		if random.IntN(2) == 0 {
			f[14+9] = byte(random.Uint32())
		} else {
			binary.BigEndian.PutUint16(f[12:], []uint16{0x0806, 0x86dd, 0x8100}[random.IntN(3)])
		}
	}
	for range random.IntN(8) {
		f[12+random.IntN(len(f)-12)] = byte(random.Uint32())
	}
	if len(f) >= 34 && random.IntN(2) == 0 { // let what is broken inside come further
		f[14+10], f[14+11] = 0, 0
		binary.BigEndian.PutUint16(f[14+10:], checksum(f[14:34], 0))
	}
	return f
}
