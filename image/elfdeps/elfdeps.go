// Package elfdeps finds the files that a program needs to start: its
// interpreter and, transitively, its shared libraries. It reads files and
// follows the dynamic loader's rules (ld.so(8) for glibc, musl's ldso for
// musl); it runs nothing, so a program may be examined before it is trusted.
//
// What a program opens with dlopen(3) cannot be seen from its headers and is
// not found.
package elfdeps

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"gosv/image/sysroot"
)

// Errors that Closure wraps. The text says which file and what to do.
var (
	// ErrNotFound: there is no such program (exit status 127 in a shell).
	ErrNotFound = errors.New("not found")
	// ErrNotExecutable: the file is there but is no program that gosv can run (126).
	ErrNotExecutable = errors.New("cannot be executed")
	// ErrMissing: the program's interpreter or a library of it is not there (127).
	ErrMissing = errors.New("is missing")
)

// maxScripts is how many "#!" lines lead from a script to an interpreter that
// is a binary (Linux: fs/exec.c, exec_binprm).
const maxScripts = 5

// Library is a shared library.
type Library struct {
	Name string // as DT_NEEDED has it
	Path string // where the loader finds it
}

// Closure is what a program needs to start.
type Closure struct {
	Programs    []string  // the program; for a script also its interpreters, in order
	Interpreter string    // the dynamic loader, PT_INTERP; empty for a static program
	Libraries   []Library // in the order in which the loader opens them
}

// Musl says whether the program uses musl's loader rather than glibc's.
func (c *Closure) Musl() bool { return isMusl(c.Interpreter) }

func isMusl(interp string) bool { return strings.HasPrefix(path.Base(interp), "ld-musl-") }

// Finder finds closures in one root.
type Finder struct {
	Root        sysroot.Root
	LibraryPath []string // LD_LIBRARY_PATH as the program will have it
	SearchPath  []string // PATH as the program will have it, for "#!/usr/bin/env NAME"

	configured []string // directories of ld.so.conf, once read
}

// Closure returns what the program at an absolute path needs.
func (f *Finder) Closure(program string) (*Closure, error) {
	c := &Closure{}
	if err := f.program(c, program, 0); err != nil {
		return nil, err
	}
	return c, nil
}

// program adds the executable file at name, which scripts led to.
func (f *Finder) program(c *Closure, name string, scripts int) error {
	file, size, err := f.openProgram(name)
	if err != nil {
		return err
	}
	defer file.Close()
	c.Programs = append(c.Programs, name)

	var magic [256]byte // BINPRM_BUF_SIZE: all of a "#!" line that Linux reads
	n, err := file.ReadAt(magic[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	head := magic[:n]
	switch {
	case bytes.HasPrefix(head, []byte("\x7fELF")):
		if err := f.elf(c, name, file, size); err != nil {
			return fmt.Errorf("%s %w", name, err)
		}
		return nil
	case bytes.HasPrefix(head, []byte("#!")):
		if scripts >= maxScripts {
			return fmt.Errorf("%s %w: too many levels of scripts", name, ErrNotExecutable)
		}
		return f.script(c, name, head, scripts)
	}
	return fmt.Errorf("%s %w: it is neither an ELF program nor a script with a #! line", name, ErrNotExecutable)
}

// openProgram opens a file that must be a regular, executable one.
func (f *Finder) openProgram(name string) (*os.File, int64, error) {
	real, info, err := f.Root.Resolve(name)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, 0, fmt.Errorf("%s %w: permission denied", name, ErrNotExecutable)
	case err != nil:
		return nil, 0, fmt.Errorf("%s: %w", name, notFound(err))
	case info.IsDir():
		return nil, 0, fmt.Errorf("%s %w: it is a directory", name, ErrNotExecutable)
	case !info.Mode().IsRegular():
		return nil, 0, fmt.Errorf("%s %w: it is not a regular file", name, ErrNotExecutable)
	case info.Mode()&0o111 == 0:
		return nil, 0, fmt.Errorf("%s %w: permission denied (chmod +x makes it executable)", name, ErrNotExecutable)
	}
	file, err := os.Open(f.Root.Host(real))
	if errors.Is(err, fs.ErrPermission) {
		return nil, 0, fmt.Errorf("%s %w: no permission to read it", name, ErrNotExecutable)
	}
	return file, info.Size(), err
}

func notFound(err error) error {
	var e *fs.PathError
	if errors.As(err, &e) && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w (%v)", ErrNotFound, e.Err)
	}
	return ErrNotFound
}

// script adds the interpreter that the first line names (execve(2)) and, for
// env(1), the program that it looks up.
func (f *Finder) script(c *Closure, name string, head []byte, scripts int) error {
	line, _, _ := strings.Cut(string(head[2:]), "\n")
	words := strings.Fields(line)
	if len(words) == 0 {
		return fmt.Errorf("%s %w: its #! line names no interpreter", name, ErrNotExecutable)
	}
	interp := words[0]
	if !path.IsAbs(interp) {
		return fmt.Errorf("%s %w: its #! line must name the interpreter %q by its full path", name, ErrNotExecutable, interp)
	}
	err := f.program(c, interp, scripts+1)
	if errors.Is(err, ErrNotFound) {
		return fmt.Errorf("%s: its interpreter %s %w: install it, or correct the first line", name, interp, ErrMissing)
	}
	if err != nil || path.Base(interp) != "env" {
		return err
	}
	for _, word := range words[1:] {
		if strings.HasPrefix(word, "-") || strings.Contains(word, "=") {
			continue
		}
		target, ok := f.lookPath(word)
		if !ok {
			return fmt.Errorf("%s: its interpreter %s %w: no directory of PATH has it", name, word, ErrMissing)
		}
		return f.program(c, target, scripts+1)
	}
	return nil
}

func (f *Finder) lookPath(name string) (string, bool) {
	for _, dir := range f.SearchPath {
		full := path.Join(dir, name)
		if _, info, err := f.Root.Resolve(full); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return full, true
		}
	}
	return "", false
}

// elf adds the interpreter and the libraries of the open ELF program.
func (f *Finder) elf(c *Closure, name string, file io.ReaderAt, size int64) error {
	main, err := parseELF(file, size)
	if err != nil {
		return err
	}
	if main.Interp == "" {
		if len(main.Needed) > 0 {
			return fmt.Errorf("%w: it needs %s but names no dynamic loader; it looks like a shared library", ErrNotExecutable, main.Needed[0])
		}
		return nil
	}
	if err := f.checkInterpreter(main.Interp); err != nil {
		return err
	}
	if c.Interpreter == "" {
		c.Interpreter = main.Interp
	}
	real, _, err := f.Root.Resolve(name)
	if err != nil {
		return err
	}
	return f.libraries(c, &loaded{object: main, path: real}, isMusl(main.Interp))
}

func (f *Finder) checkInterpreter(interp string) error {
	file, err := f.Root.Open(interp)
	if err != nil {
		return fmt.Errorf("needs the dynamic loader %s, which %w: install the C library it was made for, or link it statically", interp, ErrMissing)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if _, err := parseELF(file, info.Size()); err != nil {
		return fmt.Errorf("names %s as its dynamic loader, which %w", interp, err)
	}
	return nil
}

func cString(b []byte) string {
	s, _, _ := bytes.Cut(b, []byte{0})
	return string(s)
}
