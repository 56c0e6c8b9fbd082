package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// An external server of a shared folder is virtiofsd, in place of the one in this process: QEMU's own in C up to
// version 7.2, or its successor in Rust.

// virtiofsdPlaces are where distributions put it, beside PATH.
var virtiofsdPlaces = []string{"/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd", "/usr/lib/virtiofsd"}

// findVirtiofsd takes the value of --virtiofsd: a path, or auto.
func findVirtiofsd(flag string) (string, error) {
	if flag != "auto" {
		return exec.LookPath(flag)
	}
	for _, name := range append([]string{"virtiofsd"}, virtiofsdPlaces...) {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("--virtiofsd auto: there is none in PATH or at %s", strings.Join(virtiofsdPlaces, ", "))
}

// serveBy starts a virtiofsd for the folder. served is closed when it has ended.
func (f *folder) serveBy(program string) error {
	switch {
	case f.only != "":
		return errors.New("virtiofsd shares directories, not files")
	case f.readOnly:
		return errors.New("virtiofsd cannot share a directory read-only: leave --virtiofsd or :ro out")
	}
	dir, err := os.MkdirTemp("", "gosv-share-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) // once both ends have met, the name is not needed
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "socket"), Net: "unix"})
	if err != nil {
		return err
	}
	defer l.Close()
	listener, err := l.File()
	if err != nil {
		return err
	}
	defer listener.Close()
	cmd := exec.Command(program, "--fd=3", "-f", "-o", "source="+f.dir, "-o", "cache=auto", "-o", "xattr")
	cmd.ExtraFiles = []*os.File{listener}
	var messages strings.Builder
	cmd.Stdout, cmd.Stderr = &messages, &messages
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	f.served = make(chan struct{})
	go func() {
		runtime.LockOSThread() // PR_SET_PDEATHSIG counts the thread as the parent
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		if err := cmd.Wait(); err != nil {
			f.problem = fmt.Errorf("%s: %w\n%s", program, err, strings.TrimSpace(messages.String()))
		}
		close(f.served)
	}()
	if err := <-started; err != nil {
		return err
	}
	f.process = cmd.Process
	conn, err := net.DialUnix("unix", nil, l.Addr().(*net.UnixAddr))
	if err != nil {
		return err
	}
	defer conn.Close()
	f.socket, err = conn.File()
	return err
}
