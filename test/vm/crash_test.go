package vm

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestKilled kills the emulator while a machine writes to an ext4 disk: afterwards the journal is replayed, the file system is whole, and
// whatever the machine said that it had synced is there. Every third machine has the disk behind NVM Express, the others behind virtio-blk.
// GOSV_KILLS says how often, by default 3 times; make soak does it 50 times.
func TestKilled(t *testing.T) {
	t.Parallel()
	kills := 3
	if n, err := strconv.Atoi(os.Getenv("GOSV_KILLS")); err == nil {
		kills = n
	} else if os.Getenv("GOSV_SOAK") != "" {
		kills = 50
	}
	if _, err := os.Stat("/sbin/debugfs"); err != nil {
		t.Skip("needs debugfs")
	}
	image := ext4Image(t, 64<<20)
	for i := range kills {
		synced := killOnce(t, image, i, time.Duration(500+rand.IntN(3000))*time.Millisecond)
		// Each other time a copy is checked, and the next machine replays the journal itself.
		checked := image
		if i%2 == 0 {
			b, err := os.ReadFile(image)
			if err != nil {
				t.Fatal(err)
			}
			checked = filepath.Join(t.TempDir(), "copy")
			if err := os.WriteFile(checked, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if out, err := exec.Command("/sbin/e2fsck", "-p", checked).CombinedOutput(); err != nil {
			if e, ok := err.(*exec.ExitError); !ok || e.ExitCode() > 1 {
				t.Fatalf("kill %d: e2fsck -p: %v\n%s", i, err, out)
			}
		}
		tool(t, "e2fsck", "-fn", checked)
		lost := 0
		for name, text := range synced {
			out, err := exec.Command("/sbin/debugfs", "-R", "cat /"+name, checked).Output()
			if err != nil || string(out) != text {
				t.Errorf("kill %d: %s was synced, and has %q, want %q", i, name, shorten(string(out)), text)
				lost++
			}
		}
		t.Logf("kill %d: %d files were synced, %d are lost", i, len(synced), lost)
	}
}

// killOnce lets a machine write until some time after its first sync, and returns the files that it said it had synced.
func killOnce(t *testing.T, image string, round int, after time.Duration) map[string]string {
	t.Helper()
	slots <- struct{}{}
	defer func() { <-slots }()
	const script = `mkdir -p /m; mount -t ext4 /dev/$DISK /m || exit 9
i=0
while :; do
	mkdir /m/d$ROUND.$i
	echo "contents of $ROUND.$i" > /m/d$ROUND.$i/f
	dd if=/dev/zero of=/m/noise$((i%5)) bs=8k count=20 status=none
	sync /m/d$ROUND.$i/f /m/d$ROUND.$i
	echo $ROUND.$i
	[ $i -lt 3 ] || rm -r /m/d$ROUND.$((i-3))
	i=$((i+1))
done`
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	pid := filepath.Join(t.TempDir(), fmt.Sprint("pid", round))
	args := append([]string{"run", "--accel", "tcg", "-e", fmt.Sprint("ROUND=", round), "--qemu-arg=-pidfile", "--qemu-arg=" + pid},
		with("mkdir", "mount", "dd", "sync", "rm")...)
	if round%3 == 2 {
		args = append(append(args, "--machine", "q35", "-e", "DISK=nvme0n1"), nvme(image)...)
	} else {
		args = append(args, "--disk", image, "-e", "DISK=vda")
	}
	c := exec.CommandContext(ctx, gosv, append(args, "--", "/bin/sh", "-c", script)...)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errs strings.Builder
	c.Stderr = &errs
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	first, err := lines.ReadString('\n')
	if err != nil {
		_ = c.Wait()
		t.Fatalf("no file was synced: %v\n%s", err, errs.String())
	}
	time.Sleep(after)
	text, err := os.ReadFile(pid)
	if err != nil {
		t.Fatal(err)
	}
	emulator, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(emulator, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	rest, _ := io.ReadAll(lines)
	_ = c.Wait() // it was killed
	all := strings.Fields(first + string(rest))
	// The last three are not removed yet, whatever came after they were synced.
	synced := map[string]string{}
	for _, name := range all[max(0, len(all)-2):] {
		synced["d"+name+"/f"] = "contents of " + name + "\n"
	}
	return synced
}
