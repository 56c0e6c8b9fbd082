package tty

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gosv/kernel/vfs"
)

// real is a pseudo-terminal of the host.
type real struct{ m, s int }

func openReal(t *testing.T) *real {
	m, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skip("the host has no pseudo-terminals: ", err)
	}
	r := &real{m: m, s: -1}
	t.Cleanup(r.close)
	if err := unix.IoctlSetPointerInt(m, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(m, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if r.s, err = unix.Open("/dev/pts/"+strconv.Itoa(n), unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *real) close() {
	unix.Close(r.s)
	unix.Close(r.m)
}

func readSome(fd, size int) (string, error) {
	b := make([]byte, size)
	n, err := unix.Read(fd, b)
	return string(b[:max(n, 0)]), err
}

// settle waits until the host has done, in its own time, what the pair did at once. poll(2) has
// the kernel finish what is under way, but only when there is no input yet; else time must do.
func (r *real) settle(p *pair, grace time.Duration) bool {
	fds := []unix.PollFd{{Fd: int32(r.s), Events: unix.POLLIN}}
	if unix.Poll(fds, 0); fds[0].Revents&unix.POLLIN != 0 {
		time.Sleep(grace)
	}
	for i := range 200 {
		unix.Poll(fds, 0)
		in, _ := unix.IoctlGetInt(r.s, unix.TIOCINQ)
		out, _ := unix.IoctlGetInt(r.m, unix.TIOCINQ)
		if i > 0 && in == p.number(p.s, unix.TIOCINQ) && out == p.number(p.m, unix.TIOCINQ) {
			return true
		}
		time.Sleep(time.Duration(i+1) * 50 * time.Microsecond)
	}
	return false
}

// pick returns a random subset of flags, each with the given chance.
func pick(r *rand.Rand, chance float64, flags ...uint32) (set uint32) {
	for _, f := range flags {
		if r.Float64() < chance {
			set |= f
		}
	}
	return set
}

// randomModes draws modes. What a signal flushes depends on the host's timing, so ISIG comes with NOFLSH.
func randomModes(r *rand.Rand) termios {
	m := defaultTermios()
	if r.IntN(4) == 0 {
		return m
	}
	m.iflag = pick(r, .3, unix.ISTRIP, unix.INLCR, unix.IGNCR, unix.ICRNL, unix.IUCLC, unix.IXON, unix.IXANY, unix.IUTF8, unix.PARMRK)
	m.oflag = pick(r, .4, unix.OPOST, unix.OPOST, unix.OLCUC, unix.ONLCR, unix.OCRNL, unix.ONOCR, unix.ONLRET, unix.XTABS)
	m.lflag = pick(r, .6, unix.ICANON, unix.ECHO, unix.ECHO, unix.ECHOE, unix.ECHOK, unix.ECHOCTL, unix.ECHOKE, unix.IEXTEN) |
		pick(r, .2, unix.ECHONL, unix.ECHOPRT, unix.ISIG|unix.NOFLSH) | pick(r, .05, unix.EXTPROC)
	if r.IntN(3) == 0 {
		m.cc[unix.VEOL], m.cc[unix.VEOL2] = 'e', '2'
	}
	if r.IntN(4) == 0 {
		m.cc[unix.VMIN] = uint8(r.IntN(4))
	}
	if r.IntN(6) == 0 {
		m.cc[[...]int{unix.VERASE, unix.VKILL, unix.VEOF, unix.VINTR, unix.VSTART}[r.IntN(5)]] = [...]uint8{0, 'x', '\n'}[r.IntN(3)]
	}
	return m
}

const keys = "abcxyz AZ_09..e2\t\t\b\x7f\x7f\x7f\x7f\x17\x17\x15\x12\x16\x04\r\r\n\n\x01\x1b\x00\x11\x13\x11\xc3\xa4\xe2\x82\xac\xff\x80\xd7\x0f"

func randomText(r *rand.Rand) string {
	b := make([]byte, r.IntN(12)+1)
	for i := range b {
		b[i] = keys[r.IntN(len(keys))]
	}
	return string(b)
}

// TestLikeLinux does the same things to a Pty and to one of the host, at random, and compares.
func TestLikeLinux(t *testing.T) {
	n := 60
	if testing.Short() {
		n = 20
	}
	for seed := range n {
		compareRun(t, uint64(seed), 40)
	}
}

// FuzzLikeLinux is TestLikeLinux with seeds without end.
func FuzzLikeLinux(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) { compareRun(t, seed, 60) })
}

// compareRun compares once, and when that fails again with more time for the host.
func compareRun(t *testing.T, seed uint64, steps int) {
	problem := ""
	for _, grace := range []time.Duration{200 * time.Microsecond, 5 * time.Millisecond, 30 * time.Millisecond, 200 * time.Millisecond, time.Second} {
		if problem = compareOnce(t, seed, steps, grace); problem == "" {
			return
		}
	}
	t.Errorf("seed %d: %s", seed, problem)
}

func compareOnce(t *testing.T, seed uint64, steps int, grace time.Duration) string {
	host, p := openReal(t), newPair()
	defer host.close()
	defer func() { host.m, host.s = -1, -1 }()
	r := rand.New(rand.NewPCG(seed, 1))
	var log bytes.Buffer
	bad := func(what string, linux, ours any) string {
		return fmt.Sprintf("%s: Linux %q, here %q\n%s", what, linux, ours, &log)
	}
	note := func(s string) { log.WriteString(s + "\n") }
	for range steps {
		switch k := r.IntN(10); {
		case k < 4:
			s := randomText(r)
			note("type " + strconv.Quote(s))
			a, aerr := unix.Write(host.m, []byte(s))
			b, berr := p.write(p.m, s)
			if a != b || aerr != nil || berr != nil {
				return bad("typed", a, b)
			}
		case k < 6:
			s := randomText(r)
			note("print " + strconv.Quote(s))
			a, aerr := unix.Write(host.s, []byte(s))
			b, berr := p.write(p.s, s)
			if max(a, 0) != b || !same(aerr, berr) {
				return bad("printed", errText(aerr), errText(berr))
			}
		case k < 8:
			size := r.IntN(12) + 1
			note("read " + strconv.Itoa(size))
			a, aerr := readSome(host.s, size)
			b, berr := readNow(p, size)
			if a != b || !same(aerr, berr) {
				return bad("read", a+errText(aerr), b+errText(berr))
			}
		case k == 8 && p.echoes() == 0: // an echo that waits is processed by other modes than Linux does
			m := randomModes(r)
			var b [sizeofTermios2]byte
			m.encode(&b)
			note("modes " + strconv.FormatUint(uint64(m.iflag), 8) + " " + strconv.FormatUint(uint64(m.oflag), 8) + " " +
				strconv.FormatUint(uint64(m.lflag), 8) + " " + strconv.Quote(string(m.cc[:])))
			var tio unix.Termios
			tio.Iflag, tio.Oflag, tio.Cflag, tio.Lflag = m.iflag, m.oflag, m.cflag, m.lflag
			copy(tio.Cc[:], m.cc[:])
			if err := unix.IoctlSetTermios(host.s, unix.TCSETS, &tio); err != nil {
				t.Fatal(err)
			}
			p.ioctl(p.s, unix.TCSETS, 0, b[:sizeofTermios])
			got, _ := unix.IoctlGetTermios(host.m, unix.TCGETS)
			ours := p.modes()
			if got.Iflag != ours.iflag || got.Oflag != ours.oflag || got.Cflag != ours.cflag || got.Lflag != ours.lflag {
				return bad("modes", got, ours)
			}
		default:
			how := r.IntN(3)
			what := r.IntN(2)
			if how == 2 {
				what = unix.TCIFLUSH
				how = unix.TCFLSH
			} else {
				how = unix.TCXONC
			}
			note("request " + strconv.Itoa(how) + " " + strconv.Itoa(what))
			unix.IoctlSetInt(host.s, uint(how), what)
			p.ioctl(p.s, uint32(how), uint64(what), nil)
		}
		if !host.settle(p, grace) {
			a, _ := unix.IoctlGetInt(host.s, unix.TIOCINQ)
			b, _ := unix.IoctlGetInt(host.m, unix.TIOCINQ)
			in, _ := readSome(host.s, 4096)
			out, _ := readSome(host.m, 4096)
			return bad("counts", strconv.Itoa(a)+" "+strconv.Itoa(b)+" "+in+"|"+out,
				strconv.Itoa(p.number(p.s, unix.TIOCINQ))+" "+strconv.Itoa(p.number(p.m, unix.TIOCINQ))+" "+p.all(p.m))
		}
		fds := []unix.PollFd{{Fd: int32(host.s), Events: unix.POLLIN | unix.POLLOUT}, {Fd: int32(host.m), Events: unix.POLLIN | unix.POLLOUT}}
		unix.Poll(fds, 0)
		for i, f := range []vfs.FileOps{p.s, p.m} {
			const asked = unix.POLLIN | unix.POLLOUT | unix.POLLHUP | unix.POLLERR
			if a, b := fds[i].Revents, int16(f.Poll(nil, asked)); a != b {
				return bad("poll", strconv.Itoa(int(a)), strconv.Itoa(int(b)))
			}
		}
		a, aerr := readSome(host.m, 4096)
		b, berr := p.read(p.m, 4096)
		if a != b || !same(aerr, berr) {
			return bad("screen", a, b)
		}
	}
	return ""
}

// readNow is a read that does not wait, as ReadBy does it.
func readNow(p *pair, size int) (string, error) {
	s, err := p.read(p.s, size)
	if err == unix.EAGAIN && p.Slave.timing().first < 0 {
		err = nil // MIN and TIME are 0
	}
	return s, err
}

func same(a, b error) bool { return a == b || a != nil && b != nil && errors.Is(a, b) }

func errText(err error) string {
	if err == nil {
		return ""
	}
	return " (" + err.Error() + ")"
}
