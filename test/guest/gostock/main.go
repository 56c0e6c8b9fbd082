// Command gostock is a stock Go program: goroutines on many threads, garbage
// collection, timers, files, signals, panics out of faults. It checks itself.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

var failed bool

func check(name string, f func() error) {
	if err := f(); err != nil {
		failed = true
		fmt.Printf("FAIL %s: %v\n", name, err)
		return
	}
	fmt.Printf("ok %s\n", name)
}

func main() {
	check("goroutines", goroutines)
	check("garbage collection", garbage)
	check("timers", timers)
	check("locked threads", lockedThreads)
	check("files", files)
	check("signals", signals)
	check("faults become panics", faults)
	check("preemption of a loop", preemption)
	check("channels and select", channels)
	check("memory returns", memoryReturns)
	if failed {
		fmt.Println("FAILED")
		os.Exit(1)
	}
	fmt.Println("PASSED")
}

func goroutines() error {
	var wg sync.WaitGroup
	var sum atomic.Int64
	for i := range 10000 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			runtime.Gosched()
			sum.Add(int64(i))
		}()
	}
	wg.Wait()
	if sum.Load() != 9999*10000/2 {
		return fmt.Errorf("sum %d", sum.Load())
	}
	return nil
}

type tree struct{ left, right *tree }

func build(depth int) *tree {
	if depth == 0 {
		return &tree{}
	}
	return &tree{build(depth - 1), build(depth - 1)}
}

func (t *tree) count() int {
	if t.left == nil {
		return 1
	}
	return 1 + t.left.count() + t.right.count()
}

func garbage() error {
	keep := build(12)
	var wg sync.WaitGroup
	errs := make(chan error, 4)
	for range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 8 {
				if n := build(11).count(); n != 1<<12-1 {
					errs <- fmt.Errorf("%d nodes", n)
				}
			}
		}()
	}
	runtime.GC()
	wg.Wait()
	if n := keep.count(); n != 1<<13-1 {
		return fmt.Errorf("%d nodes kept", n)
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if m.NumGC == 0 {
		return errors.New("no collection happened")
	}
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

func timers() error {
	start := time.Now()
	ticker := time.NewTicker(5 * time.Millisecond)
	for range 5 {
		<-ticker.C
	}
	ticker.Stop()
	if d := time.Since(start); d < 24*time.Millisecond {
		return fmt.Errorf("five ticks of 5 ms took %v", d)
	}
	var early atomic.Int32 // how many; on a busy machine they may fire in any order
	var wg sync.WaitGroup
	start = time.Now()
	for _, ms := range []time.Duration{60, 20, 100} {
		wg.Add(1)
		time.AfterFunc(ms*time.Millisecond, func() {
			if time.Since(start) < ms*time.Millisecond {
				early.Add(1)
			}
			wg.Done()
		})
	}
	wg.Wait()
	if n := early.Load(); n != 0 {
		return fmt.Errorf("%d timers of 3 fired early", n)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	<-ctx.Done()
	return nil
}

func lockedThreads() error {
	const n = 40
	var wg sync.WaitGroup
	ids := make(chan int, n)
	release := make(chan bool)
	for range n {
		wg.Add(1)
		go func() {
			runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
			ids <- syscall.Gettid()
			<-release
			wg.Done()
		}()
	}
	seen := map[int]bool{}
	for range n {
		seen[<-ids] = true
	}
	close(release)
	wg.Wait()
	if len(seen) != n {
		return fmt.Errorf("%d threads", len(seen))
	}
	return nil
}

func files() error {
	dir, err := os.MkdirTemp("", "gostock")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<14)
	want := sha256.Sum256(data)
	var wg sync.WaitGroup
	errs := make(chan error, 20)
	for i := range 20 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			name := filepath.Join(dir, fmt.Sprint("file", i))
			if err := os.WriteFile(name, data, 0o600); err != nil {
				errs <- err
				return
			}
			f, err := os.Open(name)
			if err != nil {
				errs <- err
				return
			}
			defer f.Close()
			h := sha256.New()
			if _, err := io.Copy(h, f); err != nil || !bytes.Equal(h.Sum(nil), want[:]) {
				errs <- fmt.Errorf("file %d: %v", i, err)
			}
		}()
	}
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 20 {
		return fmt.Errorf("%d entries, %v", len(entries), err)
	}
	_, err = os.Stat(filepath.Join(dir, "none"))
	if !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("stat of nothing: %v", err)
	}
	return nil
}

func signals() error {
	c := make(chan os.Signal, 4)
	signal.Notify(c, syscall.SIGUSR1, syscall.SIGTERM)
	defer signal.Stop(c)
	for _, s := range []syscall.Signal{syscall.SIGUSR1, syscall.SIGTERM} {
		if err := syscall.Kill(os.Getpid(), s); err != nil {
			return err
		}
		select {
		case got := <-c:
			if got != s {
				return fmt.Errorf("got %v", got)
			}
		case <-time.After(20 * time.Second):
			return fmt.Errorf("%v did not arrive", s)
		}
	}
	return nil
}

func recovered(f func()) (v any) {
	defer func() { v = recover() }()
	f()
	return nil
}

func faults() error {
	var p *[1 << 10]int
	zero := 0
	for range 100 {
		if v := recovered(func() { p[1] = 2 }); v == nil {
			return errors.New("nil dereference went through")
		}
		if v := recovered(func() { zero = 1 / zero }); v == nil {
			return errors.New("division by zero went through")
		}
	}
	debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(false)
	m, err := syscall.Mmap(-1, 0, 4096, syscall.PROT_READ, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		return err
	}
	defer syscall.Munmap(m)
	if v := recovered(func() { m[5] = 1 }); v == nil {
		return errors.New("write to a read-only page went through")
	}
	return nil
}

func preemption() error {
	var stop atomic.Bool
	done := make(chan bool)
	for range runtime.GOMAXPROCS(0) {
		go func() {
			for i := 0; !stop.Load(); i++ {
			}
			done <- true
		}()
	}
	time.Sleep(30 * time.Millisecond)
	runtime.GC() // stops the world, loops and all
	stop.Store(true)
	for range runtime.GOMAXPROCS(0) {
		<-done
	}
	return nil
}

func channels() error {
	in, out := make(chan int), make(chan int, 10)
	for range 8 {
		go func() {
			for v := range in {
				out <- v * v
			}
			out <- -1
		}()
	}
	go func() {
		for i := range 2000 {
			in <- i
		}
		close(in)
	}()
	sum, ended := 0, 0
	for ended < 8 {
		select {
		case v := <-out:
			if v < 0 {
				ended++
			} else {
				sum += v
			}
		case <-time.After(30 * time.Second):
			return errors.New("stuck")
		}
	}
	if want := 1999 * 2000 * 3999 / 6; sum != want {
		return fmt.Errorf("%d, want %d", sum, want)
	}
	return nil
}

func memoryReturns() error {
	for range 5 {
		b := make([]byte, 20<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		b = nil
		debug.FreeOSMemory()
	}
	return nil
}
