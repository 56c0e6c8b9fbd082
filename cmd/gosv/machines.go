package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"gosv/image/spec"
	"gosv/vmm"
	"gosv/vmm/registry"
	"gosv/vmm/remote"
)

// findMachines returns the registry and the machines that the arguments name.
func findMachines(keys []string) (*registry.Registry, []*registry.Machine, error) {
	reg, err := registry.Open()
	if err != nil {
		return nil, nil, err
	}
	var list []*registry.Machine
	for _, key := range keys {
		m, err := reg.Find(key)
		if err != nil {
			return nil, nil, err
		}
		list = append(list, m)
	}
	return reg, list, nil
}

func newPs(std streams) *cobra.Command {
	var all, quiet, asJSON bool
	cmd := &cobra.Command{
		Use:   "ps [FLAGS]",
		Short: "List the machines that run",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			reg, err := registry.Open()
			if err != nil {
				return err
			}
			list, err := reg.List()
			if err != nil {
				return err
			}
			var shown []*registry.Machine
			for _, m := range list {
				if all || m.Running() {
					shown = append(shown, m)
				}
			}
			switch {
			case asJSON:
				return printJSON(std, shown)
			case quiet:
				for _, m := range shown {
					fmt.Fprintln(std.out, m.ID)
				}
				return nil
			}
			return printMachines(std, shown)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&all, "all", "a", false, "also those that have ended")
	f.BoolVarP(&quiet, "quiet", "q", false, "IDs only")
	f.BoolVar(&asJSON, "json", false, "all that is known, as JSON")
	return cmd
}

// printJSON prints machines with whether they run.
func printJSON(std streams, list []*registry.Machine) error {
	type entry struct {
		registry.Record
		Running bool `json:"running"`
	}
	out := make([]entry, len(list))
	for i, m := range list {
		out[i] = entry{m.Record, m.Running()}
	}
	e := json.NewEncoder(std.out)
	e.SetIndent("", "  ")
	return e.Encode(out)
}

func printMachines(std streams, list []*registry.Machine) error {
	w := tabwriter.NewWriter(std.out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "ID\tNAME\tCOMMAND\tCREATED\tSTATUS\tPORTS")
	for _, m := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", m.ID, m.Name, cut(printableWords(m.Command), 32), ago(time.Since(m.Created)), stateOf(m),
			strings.Join(m.Ports, ", "))
	}
	return w.Flush()
}

// printableWords joins a command's words so that they do a terminal no harm.
func printableWords(words []string) string {
	out := make([]string, len(words))
	for i, w := range words {
		if out[i] = shellQuote(w); strings.ContainsFunc(w, func(r rune) bool { return !strconv.IsPrint(r) }) {
			out[i] = strconv.Quote(w)
		}
	}
	return strings.Join(out, " ")
}

func cut(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

// stateOf says how a machine is, as `docker ps` does.
func stateOf(m *registry.Machine) string {
	switch {
	case m.Running() && m.Started.IsZero():
		return "Starting"
	case m.Running():
		return "Up " + span(time.Since(m.Started))
	case m.Finished.IsZero():
		return "Lost (its process was killed)"
	}
	return fmt.Sprintf("Exited (%d) %s", m.Status, ago(time.Since(m.Finished)))
}

func ago(d time.Duration) string { return span(d) + " ago" }

// span says how long d is, in one unit.
func span(d time.Duration) string {
	for _, u := range []struct {
		name string
		d    time.Duration
	}{{"day", 24 * time.Hour}, {"hour", time.Hour}, {"minute", time.Minute}} {
		if n := int(d / u.d); n > 1 || n == 1 && u.name != "minute" {
			return plural(n, u.name)
		}
	}
	return plural(int(d/time.Second), "second")
}

func plural(n int, unit string) string {
	if n == 1 {
		return "1 " + unit
	}
	return fmt.Sprintf("%d %ss", n, unit)
}

// some is the Args of commands that take machines.
func some(_ *cobra.Command, args []string) error {
	if len(args) == 0 {
		return errors.New("which machine? `gosv ps` lists names and IDs")
	}
	return nil
}

func one(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return errors.New("say one machine; `gosv ps` lists names and IDs")
	}
	return nil
}

// each calls f for the machines that the arguments name, and prints the names of those for which it went well. All
// are tried; the first error is returned, others are printed.
func each(std streams, keys []string, f func(*registry.Registry, *registry.Machine) error) error {
	var first error
	for _, key := range keys {
		reg, list, err := findMachines([]string{key})
		if err == nil {
			err = f(reg, list[0])
		}
		switch {
		case err == nil:
			fmt.Fprintln(std.out, key)
		case first == nil:
			first = err
		default:
			fmt.Fprintf(std.err, "gosv: %v\n", err)
		}
	}
	return first
}

func newStop(std streams) *cobra.Command {
	var seconds int
	cmd := &cobra.Command{
		Use:   "stop [FLAGS] MACHINE…",
		Short: "Ask programs to end (SIGTERM, or what --stop-signal or the image say), and kill the machines of those that do not",
		Args:  some,
		RunE: func(_ *cobra.Command, args []string) error {
			return each(std, args, func(reg *registry.Registry, m *registry.Machine) error {
				return stop(reg, m, time.Duration(seconds)*time.Second)
			})
		},
	}
	cmd.Flags().IntVarP(&seconds, "time", "t", 10, "seconds to wait before the machine is killed")
	return cmd
}

// stop returns when the machine does not run any more.
func stop(reg *registry.Registry, m *registry.Machine, patience time.Duration) error {
	if !m.Running() {
		return nil
	}
	ask := syscall.SIGTERM
	if m.StopSignal != "" {
		var err error
		if ask, err = spec.Signal(m.StopSignal); err != nil {
			return err
		}
	}
	if err := signalMachine(m, ask); err != nil {
		return err
	}
	limit := make(chan struct{})
	timer := time.AfterFunc(patience, func() { close(limit) })
	defer timer.Stop()
	now, err := reg.Wait(m, limit)
	if err == nil && now.Running() {
		return killMachine(reg, m)
	}
	return ignoreGone(err)
}

func signalMachine(m *registry.Machine, n syscall.Signal) error {
	conn, err := m.Dial()
	if err != nil {
		return err
	}
	return remote.Signal(conn, n)
}

// killMachine ends the machine and returns when it has ended.
func killMachine(reg *registry.Registry, m *registry.Machine) error {
	conn, err := m.Dial()
	if err != nil {
		return err
	}
	if err := remote.Kill(conn); err != nil {
		return err
	}
	_, err = reg.Wait(m, nil)
	return ignoreGone(err)
}

// ignoreGone takes a machine that was forgotten at its end for one that has ended.
func ignoreGone(err error) error {
	if errors.Is(err, registry.ErrNotFound) {
		return nil
	}
	return err
}

func newKill(std streams) *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "kill [FLAGS] MACHINE…",
		Short: "Send programs a signal; SIGKILL ends their machines at once",
		Args:  some,
		RunE: func(_ *cobra.Command, args []string) error {
			n, err := spec.Signal(name)
			if err != nil {
				return err
			}
			return each(std, args, func(reg *registry.Registry, m *registry.Machine) error {
				if n == syscall.SIGKILL {
					return killMachine(reg, m)
				}
				return signalMachine(m, n)
			})
		},
	}
	cmd.Flags().StringVarP(&name, "signal", "s", "KILL", "name or number of the signal")
	return cmd
}

func newWait(std streams) *cobra.Command {
	return &cobra.Command{
		Use:   "wait MACHINE…",
		Short: "Wait until machines have ended and print their exit statuses",
		Args:  some,
		RunE: func(_ *cobra.Command, args []string) error {
			reg, list, err := findMachines(args)
			if err != nil {
				return err
			}
			for _, m := range list {
				now, err := reg.Wait(m, nil)
				if err != nil {
					return fmt.Errorf("%s: its status is not known: %w", m.Name, err)
				}
				if now.Finished.IsZero() {
					return fmt.Errorf("%s: its status is not known: its process was killed", m.Name)
				}
				fmt.Fprintln(std.out, now.Status)
			}
			return nil
		},
	}
}

func newRm(std streams) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "rm [FLAGS] MACHINE…",
		Short: "Forget machines that have ended, with their logs",
		Args:  some,
		RunE: func(_ *cobra.Command, args []string) error {
			return each(std, args, func(reg *registry.Registry, m *registry.Machine) error {
				if force && m.Running() {
					if err := killMachine(reg, m); err != nil {
						return err
					}
				}
				return m.Remove()
			})
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "kill those that run")
	return cmd
}

func newInspect(std streams) *cobra.Command {
	return &cobra.Command{
		Use:   "inspect MACHINE…",
		Short: "Print all that is known of machines, as JSON",
		Args:  some,
		RunE: func(_ *cobra.Command, args []string) error {
			_, list, err := findMachines(args)
			if err != nil {
				return err
			}
			return printJSON(std, list)
		},
	}
}

func newLogs(std streams) *cobra.Command {
	var follow, times bool
	var tail int
	cmd := &cobra.Command{
		Use:   "logs [FLAGS] MACHINE",
		Short: "Print what a machine in the background has written",
		Args:  one,
		RunE: func(_ *cobra.Command, args []string) error {
			_, list, err := findMachines(args)
			if err != nil {
				return err
			}
			m := list[0]
			if !m.Background {
				return fmt.Errorf("%s runs in the foreground: its output goes where it was started", m.Name)
			}
			skip := 0
			if tail >= 0 {
				if err := m.ReadLog(false, nil, func(*registry.Line) error { skip++; return nil }); err != nil {
					return err
				}
				skip = max(0, skip-tail)
			}
			return m.ReadLog(follow, nil, func(l *registry.Line) error {
				if skip--; skip >= 0 {
					return nil
				}
				out := std.out
				if l.Stream == "stderr" {
					out = std.err
				}
				text := l.Content()
				if times {
					text = append([]byte(l.Time.Format(time.RFC3339Nano)+" "), text...)
				}
				_, err := out.Write(text)
				return err
			})
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&follow, "follow", "f", false, "go on until the machine has ended")
	f.BoolVarP(&times, "timestamps", "t", false, "show when")
	f.IntVarP(&tail, "tail", "n", -1, "only the last lines, so many; -1 for all")
	return cmd
}

func newExec(std streams) *cobra.Command {
	var e vmm.Exec
	var interactive, tty bool
	cmd := &cobra.Command{
		Use:                   "exec [FLAGS] MACHINE PROGRAM [ARGS…]",
		Short:                 "Run a further program in a machine",
		DisableFlagsInUseLine: true,
		Long: `Run a further program in a machine that runs. The program must be in the
machine's root file system: put it there with --volume, or start the machine with
--root or from an image.

Exit status: the program's own, or 128 plus the number of the signal that ended it;
125 when gosv or the machine failed; 126 when PROGRAM cannot be executed; 127 when
the machine has none.`,
		Example: `  gosv exec web ps aux
  gosv exec -it web bash`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 2 {
				return errors.New("say `gosv exec MACHINE PROGRAM [ARGS…]`")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if err := checkEnv(e.Env); err != nil {
				return err
			}
			_, list, err := findMachines(args[:1])
			if err != nil {
				return err
			}
			e.Argv, e.Terminal, e.Env = args[1:], tty, flagEnv(e.Env)
			return execIn(list[0], &e, interactive, std)
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false)
	f.SortFlags = false
	f.BoolVarP(&interactive, "interactive", "i", false, "pass standard input on")
	f.BoolVarP(&tty, "tty", "t", false, "give the program a terminal")
	f.StringArrayVarP(&e.Env, "env", "e", nil, "environment variable `KEY=VALUE`; KEY alone takes this environment's value")
	f.StringVarP(&e.Dir, "workdir", "w", "", "working directory (default: that of the machine's program)")
	f.StringVarP(&e.User, "user", "u", "", "user `NAME|UID[:GROUP|GID]` (default: root)")
	return cmd
}

func execIn(m *registry.Machine, e *vmm.Exec, interactive bool, std streams) error {
	conn, err := m.Dial()
	if err != nil {
		return err
	}
	if err := remote.Exec(conn); err != nil {
		return err
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2,
		syscall.SIGWINCH, syscall.SIGPIPE)
	defer signal.Stop(signals)
	if e.Terminal {
		t, err := openTerminal(interactive, std)
		if err == nil {
			err = t.raw()
		}
		if err != nil {
			conn.Close()
			return err
		}
		defer t.restore()
		std, e.WindowSize, e.Env = t.streams(std), t.size, t.env(e.Env)
	}
	if interactive {
		e.Stdin = std.in
	}
	e.Stdout, e.Stderr, e.Signals = std.out, std.err, signals
	result := e.Run(conn)
	if result.Status == 0 && result.Err == nil {
		return nil
	}
	return &statusError{result.Status, result.Err}
}
