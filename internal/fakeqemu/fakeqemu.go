// Package fakeqemu is a stand-in for QEMU and the kernel in it, for tests of
// the host side. A test binary that calls Main first becomes the emulator when
// the environment says so; Install puts it into PATH under the emulator's name.
package fakeqemu

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

const variable = "GOSV_FAKE_QEMU"

// What the fake does, as the value given to Install.
const (
	Echo     = "echo"     // copies standard input to output and its length to error, ends with 7
	Answer   = "answer"   // ends with 42, as a probe should
	Signal   = "signal"   // ends with 128 plus the first signal it is sent, and prints it
	Talk     = "talk"     // like Signal, but writes a line first
	Stubborn = "stubborn" // runs, and ignores signals
	Hang     = "hang"     // never answers
	Die      = "die"      // complains as QEMU does, and ends with 1
	Panic    = "panic"    // reports a kernel panic, also on the serial port, and ends with 3
	Missing  = "missing"  // says that the program was not found
	Crash    = "crash"    // runs the program, and is killed
	Flood    = "flood"    // writes 8 MiB to standard output, ends with 0
	Linger   = "linger"   // tells status 5, and never powers off
	Garbage  = "garbage"  // sends terminal escapes and an endless control line
)

// Install makes the fake behave as told for the rest of the test, and returns
// its path.
func Install(t *testing.T, behaviour string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "qemu-system-x86_64")
	if err := os.Symlink(self, path); err != nil {
		t.Fatal(err)
	}
	t.Setenv(variable, behaviour)
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return path
}

// Main returns when this process is not to be the fake.
func Main() {
	behaviour := os.Getenv(variable)
	if behaviour == "" || filepath.Base(os.Args[0]) != "qemu-system-x86_64" {
		return
	}
	g := guest{ports: map[string]*os.File{}}
	for i, arg := range os.Args {
		g.openPort(arg)
		if (arg == "-kernel" || arg == "-initrd") && i+1 < len(os.Args) {
			if _, err := os.ReadFile(os.Args[i+1]); err != nil {
				g.die(err.Error())
			}
		}
	}
	os.Exit(g.behave(behaviour))
}

type guest struct{ ports map[string]*os.File }

func (g *guest) openPort(arg string) {
	rest, ok := strings.CutPrefix(arg, "socket,id=")
	if !ok {
		return
	}
	id, fd, _ := strings.Cut(rest, ",fd=")
	n, err := strconv.Atoi(fd)
	if err != nil {
		g.die("bad chardev " + arg)
	}
	g.ports[id] = os.NewFile(uintptr(n), id)
}

func (g *guest) die(why string) {
	fmt.Fprintln(os.Stderr, "qemu-system-x86_64: "+why)
	os.Exit(1)
}

func (g *guest) say(format string, args ...any) {
	fmt.Fprintf(g.ports["gosv.control"], format+"\n", args...)
}

func (g *guest) behave(behaviour string) int {
	if behaviour != Hang && behaviour != Die && behaviour != Missing && behaviour != Panic {
		g.say("ready")
	}
	out := g.ports["gosv.stdout"]
	switch behaviour {
	case Echo:
		n, _ := io.Copy(out, g.ports["gosv.stdin"])
		fmt.Fprintf(g.ports["gosv.stderr"], "%d bytes\n", n)
		g.say("exit 7")
	case Answer:
		g.say("exit 42")
	case Signal, Talk:
		if behaviour == Talk {
			fmt.Fprintln(out, "talk")
		}
		for lines := bufio.NewScanner(g.ports["gosv.control"]); lines.Scan(); {
			if n, ok := strings.CutPrefix(lines.Text(), "signal "); ok {
				fmt.Fprintln(out, lines.Text())
				number, _ := strconv.Atoi(n)
				g.say("exit %d", 128+number)
				return 0
			}
		}
	case Stubborn:
		fmt.Fprintln(out, "running")
		for lines := bufio.NewScanner(g.ports["gosv.control"]); lines.Scan(); {
			fmt.Fprintln(out, "ignored", lines.Text())
		}
	case Hang:
		time.Sleep(time.Minute)
	case Die:
		g.die("could not do it")
	case Panic:
		fmt.Fprintln(g.ports["serial"], "panic: registers and stack")
		g.say("panic floor fault at 0x10")
		return 3
	case Missing:
		g.say("error 127 /bin/gone: no such file")
	case Crash:
		self, _ := os.FindProcess(os.Getpid())
		_ = self.Kill()
		time.Sleep(time.Minute)
	case Flood:
		block := make([]byte, 1<<16)
		for range 128 {
			_, _ = out.Write(block)
		}
		g.say("exit 0")
	case Linger:
		g.say("exit 5")
		time.Sleep(time.Minute)
	case Garbage:
		fmt.Fprintf(g.ports["gosv.log"], "\x1b]0;title\x07log\n")
		for range 1000 {
			_, _ = fmt.Fprint(g.ports["gosv.control"], "\x1b[2J0123456789")
		}
		time.Sleep(time.Minute)
	}
	return 0
}
