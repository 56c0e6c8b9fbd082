package volume

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

func store(t *testing.T) *Store {
	t.Helper()
	t.Setenv("GOSV_HOME", t.TempDir())
	s, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestNames(t *testing.T) {
	for name, want := range map[string]bool{"db": true, "a.b-c_9": true, "a": false, "": false, ".x": false, "-x": false, "a/b": false, "..": false, "ä1": false, strings.Repeat("n", 256): false} {
		if ValidName(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
}

func TestVolume(t *testing.T) {
	s := store(t)
	if list, err := s.List(); err != nil || len(list) != 0 {
		t.Error(list, err)
	}
	if _, err := s.Use("../x", nil); !errors.Is(err, ErrBadName) {
		t.Error(err)
	}
	bad := errors.New("no seed")
	if _, err := s.Use("db", func(string) error { return bad }); !errors.Is(err, bad) {
		t.Error(err)
	}
	if _, err := s.Find("db"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a volume that was not filled is there: %v", err)
	}
	v, err := s.Use("db", func(dir string) error { return os.WriteFile(filepath.Join(dir, "a"), []byte("seed"), 0o600) })
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.Use("db", func(string) error { t.Error("filled twice"); return nil })
	if err != nil || again.Dir != v.Dir {
		t.Fatal(again, err)
	}
	if b, err := os.ReadFile(filepath.Join(v.Dir, "a")); string(b) != "seed" {
		t.Error(err)
	}
	again.Close()
	if err := s.Remove("db"); !errors.Is(err, ErrInUse) {
		t.Error(err)
	}
	v.Close()
	if list, err := s.List(); err != nil || len(list) != 1 || list[0].Name != "db" || list[0].Created.IsZero() {
		t.Error(list, err)
	}
	if err := s.Remove("db"); err != nil {
		t.Error(err)
	}
	if err := s.Remove("db"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}

// Users and removers meet: whoever has a volume has its folder, filled once for each life.
func TestRace(t *testing.T) {
	s := store(t)
	var all sync.WaitGroup
	var uses atomic.Int32
	for range 8 {
		all.Go(func() {
			for range 50 {
				v, err := s.Use("db", func(dir string) error { return os.WriteFile(filepath.Join(dir, "a"), nil, 0o600) })
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := os.Stat(filepath.Join(v.Dir, "a")); err != nil {
					t.Error(err)
				}
				uses.Add(1)
				v.Close()
				if err := s.Remove("db"); err != nil && !errors.Is(err, ErrInUse) && !errors.Is(err, ErrNotFound) {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if uses.Load() != 400 {
		t.Error(uses.Load())
	}
}
