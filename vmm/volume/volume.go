// Package volume keeps named volumes: folders of this machine that outlive the virtual machines that use them.
//
// A volume is a folder NAME below the store's; what guests see is NAME/data. Who uses a volume holds a shared lock (flock(2)) on NAME,
// who makes or removes one an exclusive lock. Nothing else is kept of it.
package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Errors of this package.
var (
	ErrBadName  = errors.New("a volume's name is two letters and digits or more, and - _ . behind the first")
	ErrNotFound = errors.New("no such volume")
	ErrInUse    = errors.New("a machine uses the volume")
)

// errGone says that somebody removed the volume meanwhile.
var errGone = errors.New("gone")

// Store is the volumes under one folder.
type Store struct{ dir string }

// Open returns the user's store, in GOSV_HOME, else under XDG_DATA_HOME or ~/.local/share. Nothing is created yet.
func Open() (*Store, error) {
	if dir := os.Getenv("GOSV_HOME"); dir != "" {
		return at(filepath.Join(dir, "volumes"))
	}
	data := os.Getenv("XDG_DATA_HOME")
	if !filepath.IsAbs(data) {
		home, err := os.UserHomeDir()
		if err != nil || home == "/" {
			return nil, errors.New("no place for volumes: set GOSV_HOME or HOME")
		}
		data = filepath.Join(home, ".local", "share")
	}
	return at(filepath.Join(data, "gosv", "volumes"))
}

func at(dir string) (*Store, error) {
	dir, err := filepath.Abs(dir)
	return &Store{dir}, err
}

// ValidName says whether a volume can have the name (Docker's rule).
func ValidName(s string) bool {
	for i, c := range []byte(s) {
		letter := c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9'
		if !letter && (i == 0 || c != '-' && c != '_' && c != '.') {
			return false
		}
	}
	return len(s) >= 2 && len(s) <= 255
}

// A Volume is one that exists.
type Volume struct {
	Name    string    `json:"name"`
	Dir     string    `json:"mountpoint"` // on this machine
	Created time.Time `json:"created"`
	lock    *os.File  // nil when it is only listed
}

// Close ends the use of the volume.
func (v *Volume) Close() { v.lock.Close() }

// Use returns the volume with the name for as long as it is not closed. When there is none it is made, and seed fills
// its folder; seed may be nil.
func (s *Store) Use(name string, seed func(dir string) error) (*Volume, error) {
	if !ValidName(name) {
		return nil, fmt.Errorf("%q: %w", name, ErrBadName)
	}
	for {
		v, err := s.use(name, seed)
		if err != errGone {
			return v, err
		}
	}
}

func (s *Store) use(name string, seed func(dir string) error) (*Volume, error) {
	place := filepath.Join(s.dir, name)
	err := os.MkdirAll(place, 0o700)
	if errors.Is(err, fs.ErrExist) { // it was there for mkdir(2) and is not any more
		return nil, errGone
	}
	if err != nil {
		return nil, err
	}
	lock, err := lock(place, unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	v := &Volume{Name: name, Dir: filepath.Join(place, "data"), lock: lock}
	if _, err = os.Lstat(v.Dir); errors.Is(err, fs.ErrNotExist) {
		err = v.fill(seed)
	}
	if err == nil {
		err = v.stat()
	}
	if err != nil {
		lock.Close()
		return nil, err
	}
	return v, nil
}

// lock opens and locks a volume's folder.
func lock(place string, how int) (*os.File, error) {
	f, err := os.Open(place)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errGone
	}
	if err != nil {
		return nil, err
	}
	if err := relock(f, how); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// relock locks a volume's folder, or changes its lock, between which others may have it: errGone when one of them removed it.
func relock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if err == nil {
			break
		}
		if err != unix.EINTR {
			return os.NewSyscallError("flock", err)
		}
	}
	held, err := f.Stat()
	if err != nil {
		return err
	}
	now, err := os.Lstat(f.Name())
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(now, held) {
		return errGone
	}
	return err
}

// fill makes the folder of a new volume. It appears when it is whole.
func (v *Volume) fill(seed func(dir string) error) error {
	if err := relock(v.lock, unix.LOCK_EX); err != nil {
		return err
	}
	if _, err := os.Lstat(v.Dir); err == nil { // by another meanwhile
		return relock(v.lock, unix.LOCK_SH)
	}
	part := v.Dir + ".new"
	if err := os.RemoveAll(part); err != nil {
		return err
	}
	if err := os.Mkdir(part, 0o755); err != nil {
		return err
	}
	if seed != nil {
		if err := seed(part); err != nil {
			return err
		}
	}
	if err := os.Rename(part, v.Dir); err != nil {
		return err
	}
	return relock(v.lock, unix.LOCK_SH)
}

func (v *Volume) stat() error {
	st, err := os.Stat(filepath.Dir(v.Dir))
	if err == nil {
		v.Created = st.ModTime() // nothing in it changes after data appeared
	}
	return err
}

// List returns the volumes in the order of their names.
func (s *Store) List() ([]*Volume, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var list []*Volume
	for _, e := range entries {
		if v, err := s.Find(e.Name()); err == nil {
			list = append(list, v)
		}
	}
	return list, nil
}

// Find returns the volume with the name: ErrNotFound. It may be gone at any time.
func (s *Store) Find(name string) (*Volume, error) {
	v := &Volume{Name: name, Dir: filepath.Join(s.dir, name, "data")}
	if !ValidName(name) {
		return nil, fmt.Errorf("%q: %w", name, ErrNotFound)
	}
	st, err := os.Stat(v.Dir)
	if err == nil && !st.IsDir() {
		err = fs.ErrNotExist
	}
	if err == nil {
		err = v.stat()
	}
	if errors.Is(err, fs.ErrNotExist) { // also when it went between the two
		err = fmt.Errorf("%q: %w", name, ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	return v, nil
}

// Remove removes the volume and what is in it: ErrNotFound, ErrInUse.
func (s *Store) Remove(name string) error {
	if _, err := s.Find(name); err != nil {
		return err
	}
	place := filepath.Join(s.dir, name)
	f, err := lock(place, unix.LOCK_EX|unix.LOCK_NB)
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		return fmt.Errorf("%q: %w", name, ErrInUse)
	case err == errGone:
		return fmt.Errorf("%q: %w", name, ErrNotFound)
	case err != nil:
		return err
	}
	defer f.Close()
	return os.RemoveAll(place)
}
