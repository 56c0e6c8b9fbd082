package vm

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A program is one row of the table.
type program struct {
	name string
	job
	status    int    // on Linux
	needs     string // capabilities, by name
	where     breadth
	anyStderr bool                // standard error is not compared
	normalise func(string) string // takes out of the output what may differ
}

// guest is a program of test/guest.
func guest(name string, where breadth, args ...string) program {
	return program{name: strings.Join(append([]string{name}, args...), "_"), job: job{program: filepath.Join(guestDir, name), args: args}, where: where}
}

// debian is a program of this machine.
func debian(name, path string, args ...string) program {
	return program{name: name, job: job{program: path, args: args}, where: once}
}

func (p program) as(name string) program             { p.name = name; return p }
func (p program) exits(status int) program           { p.status = status; return p }
func (p program) needing(what string) program        { p.needs = what; return p }
func (p program) with(env ...string) program         { p.env = env; return p }
func (p program) flagged(flags ...string) program    { p.flags = flags; return p }
func (p program) within(limit time.Duration) program { p.limit = limit; return p }
func (p program) on(where breadth) program           { p.where = where; return p }
func (p program) input(r func() io.Reader) program   { p.stdin = r; return p }
func (p program) text(s string) program {
	return p.input(func() io.Reader { return strings.NewReader(s) })
}
func (p program) bringing(files ...string) program { // files of this machine that the program starts
	for _, f := range files {
		p.flags = append(p.flags, "-v", f+":"+f)
	}
	return p
}
func (p program) comparing(f func(string) string) program { p.normalise = f; return p }

// noise returns n bytes that are the same each time.
func noise(n int) func() io.Reader {
	return func() io.Reader {
		r := rand.NewChaCha8([32]byte{1})
		b := make([]byte, n)
		_, _ = r.Read(b) // never fails
		return bytes.NewReader(b)
	}
}

// slowly gives the text in pieces, so that reads must wait.
func slowly(pieces ...string) func() io.Reader {
	return func() io.Reader {
		r, w := io.Pipe()
		go func() {
			for _, p := range pieces {
				time.Sleep(100 * time.Millisecond)
				if _, err := io.WriteString(w, p); err != nil {
					return
				}
			}
			w.Close()
		}()
		return r
	}
}

// nothing hides all output: only the exit status counts.
func nothing(string) string { return "" }

// programs is the table.
func programs() []program {
	var t []program
	add := func(p ...program) { t = append(t, p...) }

	for _, v := range []string{"static", "pie", "musl", "dyn", "musldyn"} {
		add(guest("hello."+v, everywhere, "one", "", "three words here").as("hello." + v).with("GREETING=good morning"))
	}
	add(guest("hello.asm", everywhere).exits(42))

	for _, v := range []string{"static", "dyn", "musl", "musldyn"} {
		add(guest("threads."+v, smp), guest("signals."+v, once), guest("mmap."+v, once))
	}
	add(guest("threads.static", everywhere).as("threads"), guest("xstate.static", everywhere).as("xstate"))
	add(guest("signals.static", smp).as("signals"), guest("mmap.static", smp).as("mmap"))
	add(guest("hostile.static", smp), guest("hostile.dyn", once))

	add(guest("entry.none", everywhere, "one", "").as("entry"))
	for _, n := range []string{"vdso", "xstate", "faults", "futex", "restart"} {
		add(guest(n+".static", smp))
	}
	for _, n := range []string{"vdso", "xstate", "faults", "futex", "restart", "files", "devices", "wx", "tls"} {
		add(guest(n+".dyn", once))
	}
	for _, n := range []string{"files", "devices", "wx", "tls"} {
		add(guest(n+".static", once))
	}
	add(guest("hugetlb.static", smp).flagged("--memory", "128M"), guest("sched.static", smp).within(5*time.Minute), guest("pi.static", smp).needing("fork proc"))
	add(guest("pipe_restart.static", once).needing("pipe"))
	add(guest("timers.static", once).needing("timer"), guest("events.dyn", smp).needing("pipe poll eventfd"))
	add(guest("fork_exec.static", smp).needing("fork proc").bringing("/bin/sh"), guest("fork_exec.dyn", once).needing("fork proc").bringing("/bin/sh"))
	add(guest("pipes.dyn", smp).needing("fork pipe"))
	add(guest("sysv.static", smp).needing("fork"), guest("inotify.dyn", once))
	add(guest("ptrace.static", smp).needing("fork proc"), guest("seccomp.static", smp).needing("fork proc"), guest("rseq.static", smp).needing("fork"), guest("msgq.static", smp).needing("fork poll"), guest("procmisc.static", smp).needing("fork proc"), guest("coredump.static", smp).needing("fork proc"))
	add(guest("bomb.static", smp).needing("fork"), guest("reboot.static", smp).needing("fork"))
	add(guest("aio.static", smp).needing("fork pipe eventfd"), guest("uring.static", smp).needing("fork pipe eventfd"))
	add(guest("cxx.static", smp), guest("cxx.dyn", everywhere), guest("gostock", everywhere).within(4*time.Minute))
	add(guest("inet.static", everywhere).needing("socket"), guest("sockopt.static", once).needing("socket"), guest("urgent.static", smp).needing("socket"), guest("sockpoll.static", once).needing("socket"), guest("udpseg.static", smp).needing("socket"))
	add(guest("unix.static", smp).needing("socket"), guest("scm.static", smp).needing("socket"), guest("netlink.static", once).needing("socket"), guest("klog.static", once))
	add(guest("tty.static", smp).needing("pty"), guest("tty.dyn", once).needing("pty"))
	plugin := filepath.Join(guestDir, "libplugin.so")
	add(guest("tls.lib", smp).with("PLUGIN="+plugin).flagged("-v", plugin+":"+plugin))
	if _, err := exec.LookPath("rustc"); err == nil {
		add(guest("rust.static", once), guest("rust.dyn", smp))
	}

	add(guest("args.static", once, "a", "", "b c", "-x", "--", "ü\t\n").as("args").with("A=1", "B=", "C=x=y", "PATH=/nowhere"))
	add(guest("args.static", once, strings.Repeat("long", 25000), strings.Repeat("x", 131071)).as("args_long"))
	add(guest("args.dyn", once, strings.Split(strings.Repeat("many ", 4000), " ")...).as("args_many"))

	copies := []struct {
		name  string
		block string
		stdin func() io.Reader
	}{
		{"empty", "4096", func() io.Reader { return strings.NewReader("") }},
		{"small", "1", func() io.Reader { return strings.NewReader("a few bytes\x00\xff\r\n") }},
		{"8MiB", "65536", noise(8 << 20)},
		{"odd", "4097", noise(1<<20 + 1)},
		{"slow", "512", slowly("one\n", "two\n", "", "three")},
	}
	for _, c := range copies {
		add(guest("copy.static", once, c.block, "echo").as("copy_" + c.name).input(c.stdin))
	}
	add(guest("copy.static", once, "4096").as("copy_1MiB_q35").input(noise(1 << 20)).on(everywhere))

	add(exitPrograms()...)
	add(debianPrograms()...)
	return t
}

// exitPrograms end in every way there is.
func exitPrograms() []program {
	var t []program
	for _, n := range []string{"0", "1", "2", "63", "64", "127", "128", "200", "254", "255"} {
		p := guest("exits.static", once, n)
		p.status, _ = strconv.Atoi(n)
		t = append(t, p)
	}
	t = append(t, guest("exits.static", once, "256"), guest("exits.static", once, "-1").exits(255))
	t = append(t, guest("exits.dyn", once, "return").exits(5), guest("exits.static", smp, "group", "77").exits(77), guest("exits.static", smp, "thread", "33").exits(33))
	for _, s := range []struct {
		what   string
		signal int
	}{{"segv", 11}, {"gp", 11}, {"ill", 4}, {"fpe", 8}, {"trap", 5}, {"bus", 7}, {"abort", 6}, {"stack", 11}} {
		t = append(t, guest("exits.static", once, "fault", s.what).exits(128+s.signal))
	}
	t = append(t, guest("exits.static", once, "segvloop").exits(128+11))
	// The default action of each signal. 9 and the like end, 17, 18, 23 and 28 do nothing; 19 to 22 would stop.
	for n := 1; n <= 64; n++ {
		if n >= 19 && n <= 22 || n == 32 || n == 33 {
			continue
		}
		if n > 34 && n < 64 {
			continue
		}
		status := 128 + n
		if n == 17 || n == 18 || n == 23 || n == 28 {
			status = 0
		}
		t = append(t, guest("exits.static", once, "kill", strconv.Itoa(n)).exits(status))
	}
	return append(t, guest("exits.dyn", once, "raise", "6").exits(134), guest("exits.dyn", once, "raise", "9").exits(137))
}

// debianPrograms are unmodified programs of the distribution.
func debianPrograms() []program {
	var t []program
	add := func(p ...program) { t = append(t, p...) }
	numbers := &strings.Builder{}
	for i := range 5000 {
		numbers.WriteString(strconv.Itoa(i*7919%5000) + "\n")
	}
	add(
		debian("ls_root", "/bin/ls", "-l", "/").comparing(nothing),
		debian("ls_missing", "/bin/ls", "/no/such/file").exits(2),
		debian("cat", "/bin/cat").text("through cat\n"),
		debian("cat_big", "/bin/cat").input(noise(3<<20)).on(smp),
		debian("sort", "/usr/bin/sort", "-n").text(numbers.String()),
		debian("sort_parallel", "/usr/bin/sort", "--parallel=4", "-r").text(numbers.String()).on(smp),
		debian("sha256sum", "/usr/bin/sha256sum").input(noise(1<<20)),
		debian("md5sum", "/usr/bin/md5sum", "-").input(noise(100)),
		debian("date", "/bin/date", "-u", "-d", "@1000000000"),
		debian("env", "/usr/bin/env").with("A=b", "EMPTY="),
		debian("id", "/usr/bin/id", "-u"),
		debian("id_groups", "/usr/bin/id", "-g"),
		debian("uname", "/bin/uname", "-s"),
		debian("uname_machine", "/bin/uname", "-m"),
		debian("true", "/bin/true").on(everywhere),
		debian("false", "/bin/false").exits(1),
		debian("seq", "/usr/bin/seq", "1", "20000"),
		debian("wc", "/usr/bin/wc").text(numbers.String()),
		debian("base64", "/usr/bin/base64").input(noise(10000)),
		debian("od", "/usr/bin/od", "-c").input(noise(2000)),
		debian("head", "/usr/bin/head", "-c", "100").input(noise(1<<20)),
		debian("tail", "/usr/bin/tail", "-n", "3").text(numbers.String()),
		debian("tr", "/usr/bin/tr", "a-z", "A-Z").text("shout\n"),
		debian("expr", "/usr/bin/expr", "6", "*", "7"),
		debian("printf", "/usr/bin/printf", "%05d|%s|%x\n", "42", "x", "255"),
		debian("factor", "/usr/bin/factor", "18446744073709551557"),
		debian("dd", "/bin/dd", "if=/dev/zero", "bs=4096", "count=100", "status=none"),
		debian("sed", "/bin/sed", "-n", "s/^1\\(.*\\)$/\\1/p").text(numbers.String()),
		debian("grep", "/bin/grep", "-c", "99").text(numbers.String()),
		debian("gzip", "/bin/gzip", "-nc").text(numbers.String()),
		debian("pwd", "/bin/pwd"),
		debian("sleep", "/bin/sleep", "0.2"),
		debian("test", "/usr/bin/test", "-d", "/tmp"),
		debian("stat", "/usr/bin/stat", "-c", "%F %a", "/tmp"),
		debian("mktemp", "/bin/mktemp", "-u", "/tmp/XXXXXXXX").comparing(nothing),
		debian("realpath", "/usr/bin/realpath", "/tmp/../tmp/./x"),
		debian("awk", "/usr/bin/mawk", "{s+=$1} END {print s}").text(numbers.String()),
		debian("perl", "/usr/bin/perl", "-e", "print join(',', map { $_*$_ } 1..20), \"\\n\""),
	)
	add(
		debian("sh_pipeline", "/bin/sh", "-c", "printf 'b\\na\\nc\\n' | sort | tr a-z A-Z; exit 3").exits(3).needing("fork pipe").bringing("/usr/bin/sort", "/usr/bin/tr"),
		debian("sh_builtin", "/bin/sh", "-c", "i=0; while [ $i -lt 100 ]; do i=$((i+1)); done; echo $i; exit 4").exits(4),
		debian("bash", "/bin/bash", "-c", "for i in {1..5}; do echo $((i*i)); done; x=$(echo sub); echo $x; (exit 7)").exits(7).needing("fork pipe"),
		debian("xargs", "/usr/bin/xargs", "-n", "2", "echo").text("1 2 3 4 5\n").needing("fork").bringing("/usr/bin/echo"),
		debian("find", "/usr/bin/find", "/dev/null", "-type", "c"),
		debian("timeout", "/usr/bin/timeout", "0.2", "sleep", "5").exits(124).needing("fork timer").bringing("/usr/bin/sleep"),
	)
	return t
}
