package apps

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"
)

// An app is a line of apps.txt.
type app struct {
	name     string
	memory   int64 // MiB
	needs    string
	packages []string
}

// An outcome is a line of the table.
type outcome struct {
	app
	linux, vm string
	took      time.Duration
}

func list() (apps []app, err error) {
	b, err := os.ReadFile("apps.txt")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(b)) {
		w := strings.Fields(line)
		if len(w) == 0 || w[0][0] == '#' {
			continue
		}
		if len(w) < 4 {
			return nil, fmt.Errorf("apps.txt: too few words in %q", line)
		}
		memory, err := strconv.ParseInt(w[1], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("apps.txt: %w", err)
		}
		apps = append(apps, app{w[0], memory, w[2], w[3:]})
	}
	return apps, nil
}

const (
	linuxLimit = 10 * time.Minute
	vmLimit    = 15 * time.Minute
)

// TestApps runs every check. It is slow, and needs root for the Debian system: without
// GOSV_APPS, which `make test-apps` sets to the place of that system, it is skipped.
func TestApps(t *testing.T) {
	d := debianSystem(t)
	apps, err := list()
	if err != nil {
		t.Fatal(err)
	}
	hello := filepath.Join(filepath.Dir(d.dir), "gohello")
	if out, err := exec.Command("env", "CGO_ENABLED=0", "go", "build", "-o", hello, "./gohello").CombinedOutput(); err != nil {
		t.Fatalf("building gohello: %v\n%s", err, out)
	}
	extra := map[string]string{"/apps/run.sh": "run.sh", "/apps/gohello": hello}
	if err := d.place(extra); err != nil {
		t.Fatal(err)
	}
	// The machines take turns at the processors and the memory there are.
	slots := make(chan struct{}, 2)
	var mu sync.Mutex
	var table []*outcome
	t.Run("apps", func(t *testing.T) {
		for _, a := range apps {
			o := &outcome{app: a, linux: "-", vm: "not run"}
			t.Run(a.name, func(t *testing.T) {
				mu.Lock()
				table = append(table, o)
				mu.Unlock()
				t.Parallel()
				slots <- struct{}{}
				defer func() { <-slots }()
				o.check(t, d, extra)
			})
		}
	})
	show(os.Stdout, table)
}

// check runs the app on Linux, then in a machine.
func (o *outcome) check(t *testing.T, d *debian, extra map[string]string) {
	line := "GOHELLO=/apps/gohello exec /bin/bash /apps/run.sh " + o.name
	if c := os.Getenv("GOSV_APPS_COMMAND"); c != "" {
		line = c
	}
	if os.Getenv("GOSV_APPS_LINUX") != "0" {
		o.linux = "pass"
		if status, out, err := d.onLinux(line, linuxLimit); status != 0 || err != nil {
			o.linux = "FAIL"
			t.Errorf("on Linux: status %d, %v\n%s", status, err, out)
		}
	}
	if o.needs != "-" && os.Getenv("GOSV_APPS_ALL") != "1" {
		o.vm = "waits for " + o.needs
		return
	}
	o.vm = "pass"
	begin := time.Now()
	status, out, err := o.inVM(t, d, line, extra)
	o.took = time.Since(begin)
	if os.Getenv("GOSV_APPS_COMMAND") != "" {
		t.Logf("status %d, %v\n%s", status, err, out)
	}
	if status != 0 || err != nil {
		o.vm = "FAIL"
		t.Errorf("in the machine: status %d, %v\n%s", status, err, out)
	}
}

// place copies the extra files into the Debian system.
func (d *debian) place(extra map[string]string) error {
	for name, host := range extra {
		to := filepath.Join(d.dir, name)
		b, err := os.ReadFile(host)
		if err != nil {
			return err
		}
		if have, err := os.ReadFile(to); err == nil && string(have) == string(b) {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(to+".new", b, 0o755); err != nil {
			return err
		}
		if err := os.Rename(to+".new", to); err != nil {
			return err
		}
	}
	return nil
}

func (o *outcome) inVM(t *testing.T, d *debian, line string, extra map[string]string) (int, string, error) {
	cpus := 2
	if n, err := strconv.Atoi(os.Getenv("GOSV_APPS_CPUS")); err == nil {
		cpus = n
	}
	trace := os.Getenv("GOSV_APPS_TRACE")
	var log io.Writer
	if trace != "" {
		f, err := os.Create(filepath.Join(trace, o.name+".strace"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		log = f
	}
	first, err := command([]string{"/bin/bash", "-c", line}, trace != "")
	if err != nil {
		t.Fatal(err)
	}
	initrd, err := os.CreateTemp(t.TempDir(), "root.cpio")
	if err != nil {
		t.Fatal(err)
	}
	defer initrd.Close()
	if _, err := initrd.Write(first); err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(t.TempDir(), "root.cpio")
	if err := d.pack(root, o.packages, extra); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.Copy(initrd, f); err != nil {
		t.Fatal(err)
	}
	kernel := os.Getenv("GOSV_KERNEL")
	if kernel == "" {
		kernel = "../../bin/kernel.elf"
	}
	m := machine{kernel: kernel, initrd: initrd, memory: o.memory, cpus: cpus, log: log}
	limit := vmLimit
	if d, err := time.ParseDuration(os.Getenv("GOSV_APPS_LIMIT")); err == nil {
		limit = d
	}
	return m.run(limit)
}

// show prints the table.
func show(w io.Writer, table []*outcome) {
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tw, "application\tLinux\tgosv\tseconds")
	passed, ran := 0, 0
	for _, o := range table {
		took := ""
		if o.took > 0 {
			took = fmt.Sprintf("%.1f", o.took.Seconds())
			ran++
		}
		if o.vm == "pass" {
			passed++
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\n", o.name, o.linux, o.vm, took)
	}
	tw.Flush()
	fmt.Fprintf(w, "%d applications: %d ran, %d passed\n", len(table), ran, passed)
}
