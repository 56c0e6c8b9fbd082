// Command gohello is a small Go program for the checks of applications: goroutines, garbage collection, files and
// processes.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
)

func main() {
	var wg sync.WaitGroup
	var mu sync.Mutex
	sum := 0
	for i := range 100 {
		wg.Go(func() {
			b := make([]byte, 1<<16)
			mu.Lock()
			sum += i + len(b)
			mu.Unlock()
		})
	}
	wg.Wait()
	runtime.GC()
	out, err := exec.Command("echo", "child").Output()
	if err != nil || string(out) != "child\n" {
		fmt.Println("child:", err, string(out))
		os.Exit(1)
	}
	fmt.Println("okgo", sum)
}
