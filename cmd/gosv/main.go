// Command gosv runs an unmodified Linux program in a virtual machine of its
// own, on a kernel that is part of this command.
//
//	gosv run [FLAGS] PROGRAM [ARGS…]
//
// It ends with the program's exit status, 128 plus the number of a signal that
// ended it, or, as Docker does, 125 when gosv itself failed, 126 when the
// program cannot be executed and 127 when there is none. 124 says that the time
// limit was reached, as with timeout(1).
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"gosv/vmm"
)

func main() {
	// The command allocates little and is to start quickly: it collects late, unless it has much.
	debug.SetGCPercent(800)
	debug.SetMemoryLimit(256 << 20)
	os.Exit(execute(os.Args[1:], streams{in: os.Stdin, out: os.Stdout, err: os.Stderr}))
}

// streams are the standard streams of the command, and its arguments.
type streams struct {
	in       io.Reader
	out, err io.Writer
	args     []string
}

// statusError is an error with the exit status that goes with it. The error is
// nil when everything was said already.
type statusError struct {
	status int
	err    error
}

func (e *statusError) Error() string { return fmt.Sprint(e.err) }
func (e *statusError) Unwrap() error { return e.err }

// execute runs the command and returns its exit status.
func execute(args []string, std streams) int {
	std.args = args
	root := newRoot(std)
	root.SetArgs(append([]string{}, args...)) // never nil, for which cobra takes the process's own
	err := root.ExecuteContext(context.Background())
	if err == nil {
		return 0
	}
	status := vmm.StatusFailed
	var s *statusError
	if errors.As(err, &s) {
		status, err = s.status, s.err
	}
	if err != nil {
		fmt.Fprintf(std.err, "gosv: %v\n", err)
	}
	return status
}

func newRoot(std streams) *cobra.Command {
	root := &cobra.Command{
		Use:   "gosv",
		Short: "Run a Linux program in a virtual machine of its own",
		Long: `gosv runs one unmodified Linux program in one virtual machine, on a kernel
written in Go that is part of this command.

  gosv run ls -l /              a program of this machine, with its libraries
  gosv run --cpus 4 ./server    your own, on four processors
  gosv run -d --name web nginx  in the background: see ps, logs, exec, stop, rm`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
		Args:              cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
	}
	root.SetIn(std.in)
	root.SetOut(std.out)
	root.SetErr(std.err)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w\nSee `%s --help`", err, cmd.CommandPath())
	})
	root.AddCommand(newRun(std), newBuild(std), newImage(std), newExec(std), newPs(std), newLogs(std), newStop(std), newKill(std), newWait(std),
		newRm(std), newInspect(std), newStats(std), newVolume(std), newVersion(std))
	return root
}
