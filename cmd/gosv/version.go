package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"gosv/vmm/qemu"
)

// version is the release this source leads to.
const version = "0.1.0"

func newVersion(std streams) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the versions of gosv and of what it uses",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			monitor := "not found"
			if m, err := qemu.Find(); err == nil {
				monitor = m.Path()
			}
			_, err := fmt.Fprintf(std.out, "gosv %s\n  kernel:  %s\n  made by: %s\n  QEMU:    %s\n", version, kernelID(), runtime.Version(), monitor)
			return err
		},
	}
}
