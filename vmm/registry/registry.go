// Package registry remembers the machines of a user: who they are, whether they
// run, how they ended, and what they wrote. There is no daemon: each machine has a
// folder, which the gosv process that runs it holds locked for as long as it lives.
//
//	ID/record.json   what is known (Record), replaced as a whole
//	ID/lock          flock(2)ed by the process that runs the machine
//	ID/control       socket of that process (package vmm/remote)
//	ID/log, log.1    output of a machine in the background (Log)
//
// A machine whose lock is free has ended, however that came about: nothing needs to be tidied up after a
// process that was killed.
package registry

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Record is what is known of a machine.
type Record struct {
	ID         string    `json:"id"`
	Name       string    `json:"name"`
	Command    []string  `json:"command"`
	Created    time.Time `json:"created"`
	Started    time.Time `json:"started,omitzero"`
	Finished   time.Time `json:"finished,omitzero"`
	PID        int       `json:"pid,omitempty"`   // of the process that runs the machine
	VMPID      int       `json:"vmPid,omitempty"` // of the virtual machine monitor
	Status     int       `json:"exitStatus"`      // when Finished
	Error      string    `json:"error,omitempty"` // why it is not the program's own
	Memory     int64     `json:"memoryBytes"`
	CPUs       int       `json:"cpus"`
	Machine    string    `json:"machine"`
	Accel      string    `json:"accel"`
	Ports      []string  `json:"ports,omitempty"`        // published, HOSTIP:HOST->GUEST/PROTOCOL
	Exposed    []string  `json:"exposedPorts,omitempty"` // that the program serves, GUEST/PROTOCOL
	Volumes    []string  `json:"volumes,omitempty"`      // as the user gave them
	StopSignal string    `json:"stopSignal,omitempty"`   // SIGTERM when empty
	Background bool      `json:"background"`
	Terminal   bool      `json:"terminal"`
	Transient  bool      `json:"transient"` // forgotten when it has ended
}

// Errors of this package.
var (
	ErrNotFound  = errors.New("no such machine")
	ErrAmbiguous = errors.New("several machines begin so")
	ErrNameTaken = errors.New("the name is taken")
	ErrBadName   = errors.New("a name is letters, digits, and - _ . behind the first")
	ErrRunning   = errors.New("the machine is running")
)

// Registry is the machines under one folder.
type Registry struct{ dir string }

// Open returns the user's registry, in GOSV_HOME, else under XDG_STATE_HOME or ~/.local/state. Nothing is created yet.
func Open() (*Registry, error) {
	if dir := os.Getenv("GOSV_HOME"); dir != "" {
		return &Registry{filepath.Join(dir, "machines")}, nil
	}
	state := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(state) {
		home, err := os.UserHomeDir()
		if err != nil || home == "/" {
			return nil, errors.New("no place for machines: set GOSV_HOME or HOME")
		}
		state = filepath.Join(home, ".local", "state")
	}
	return &Registry{filepath.Join(state, "gosv", "machines")}, nil
}

// Machine is one entry.
type Machine struct {
	Record
	dir     string
	lock    *os.File // held by whoever created it
	running bool     // when it was read
}

// Running says whether the machine ran when the entry was read.
func (m *Machine) Running() bool { return m.running }

var validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)

// Create enters a new machine and holds its lock until Close or the end of this process. It fills in ID, Created, PID,
// and Name when that is empty. ErrBadName, ErrNameTaken.
func (r *Registry) Create(rec Record) (*Machine, error) {
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return nil, err
	}
	all, err := lockFile(filepath.Join(r.dir, "lock"), unix.LOCK_EX) // so that no name is given twice
	if err != nil {
		return nil, err
	}
	defer all.Close()
	var id [6]byte
	rand.Read(id[:])
	rec.ID, rec.Created, rec.PID = hex.EncodeToString(id[:]), time.Now(), os.Getpid()
	if rec.Name == "" {
		rec.Name = defaultName(rec.Command, rec.ID)
	}
	if err := r.checkName(rec.Name); err != nil {
		return nil, err
	}
	m := &Machine{Record: rec, dir: filepath.Join(r.dir, rec.ID), running: true}
	if err := os.Mkdir(m.dir, 0o700); err != nil {
		return nil, err
	}
	if m.lock, err = lockFile(m.path("lock"), unix.LOCK_EX|unix.LOCK_NB); err == nil {
		err = m.Save()
	}
	if err != nil {
		os.RemoveAll(m.dir)
		return nil, err
	}
	return m, nil
}

// defaultName is the program's name with the beginning of the ID.
func defaultName(command []string, id string) string {
	base := "machine"
	if len(command) > 0 {
		base = filepath.Base(command[0])
	}
	base = strings.Trim(regexp.MustCompile(`[^A-Za-z0-9_.-]+`).ReplaceAllString(base, "-"), "-._")
	if base == "" {
		base = "machine"
	}
	return base + "-" + id[:4]
}

// CheckName says whether a machine can have the name: ErrBadName.
func CheckName(name string) error {
	if !validName.MatchString(name) || len(name) > 100 {
		return fmt.Errorf("%q: %w", name, ErrBadName)
	}
	return nil
}

// checkName also says whether it is free: ErrNameTaken.
func (r *Registry) checkName(name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	list, err := r.List()
	if err != nil {
		return err
	}
	for _, m := range list {
		if m.Name == name {
			return fmt.Errorf("%q: %w by machine %s; `gosv rm %s` frees it", name, ErrNameTaken, m.ID, name)
		}
	}
	return nil
}

// lockFile opens a file, made if missing, and locks it (flock(2)).
func lockFile(name string, how int) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		if err = unix.Flock(int(f.Fd()), how); err != unix.EINTR {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (m *Machine) path(name string) string { return filepath.Join(m.dir, name) }

// Save writes the record. Only who created the machine may.
func (m *Machine) Save() error {
	b, err := json.MarshalIndent(m.Record, "", "  ")
	if err != nil {
		return err
	}
	temp := m.path(".record.json")
	if err := os.WriteFile(temp, append(b, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(temp, m.path("record.json"))
}

// Close gives the machine's lock back: it has ended.
func (m *Machine) Close() error { return m.lock.Close() }

// List returns all machines, the oldest first. Folders without a readable record are passed over.
func (r *Registry) List() ([]*Machine, error) {
	entries, err := os.ReadDir(r.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []*Machine
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		m, err := r.read(e.Name())
		switch {
		case err != nil:
		case m.Transient && !m.running: // its process was killed
			_ = m.Remove()
		default:
			list = append(list, m)
		}
	}
	slices.SortFunc(list, func(a, b *Machine) int { return a.Created.Compare(b.Created) })
	return list, nil
}

func (r *Registry) read(id string) (*Machine, error) {
	m := &Machine{dir: filepath.Join(r.dir, id)}
	b, err := os.ReadFile(m.path("record.json"))
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &m.Record); err != nil {
		return nil, err
	}
	if m.ID != id {
		return nil, fmt.Errorf("%s holds the record of %q", m.dir, m.ID)
	}
	m.running = locked(m.path("lock"))
	return m, nil
}

// locked says whether another process holds the file's lock.
func locked(name string) bool {
	f, err := os.Open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) == unix.EWOULDBLOCK
}

// Find returns the machine with that name, that ID, or whose ID alone begins so: ErrNotFound, ErrAmbiguous.
func (r *Registry) Find(key string) (*Machine, error) {
	list, err := r.List()
	if err != nil {
		return nil, err
	}
	var found []*Machine
	for _, m := range list {
		if m.Name == key || m.ID == key {
			return m, nil
		}
		if key != "" && strings.HasPrefix(m.ID, key) {
			found = append(found, m)
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("%q: %w; `gosv ps -a` lists them", key, ErrNotFound)
	case 1:
		return found[0], nil
	}
	return nil, fmt.Errorf("%q: %w", key, ErrAmbiguous)
}

// Wait waits until the machine does not run any more and reads its record anew. Stop ends the wait early:
// then the machine still runs.
func (r *Registry) Wait(m *Machine, stop <-chan struct{}) (*Machine, error) {
	const often = 20 * time.Millisecond
	for m.running && locked(m.path("lock")) {
		select {
		case <-stop:
			return m, nil
		case <-time.After(often):
		}
	}
	now, err := r.read(m.ID)
	if errors.Is(err, fs.ErrNotExist) { // removed at its end
		ended := *m
		ended.running = false
		return &ended, ErrNotFound
	}
	return now, err
}

// Remove forgets the machine: ErrRunning.
func (m *Machine) Remove() error {
	if m.lock == nil && locked(m.path("lock")) {
		return fmt.Errorf("%s: %w; `gosv stop %s` ends it, `gosv rm -f %s` does both", m.Name, ErrRunning, m.Name, m.Name)
	}
	return os.RemoveAll(m.dir)
}
