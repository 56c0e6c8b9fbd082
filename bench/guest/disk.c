/*
 * disk - as pid 1: how fast /dev/vda is read from one end to the other, in wall time.
 *
 * One line as lat prints it. The disk is read in pieces of 128 KiB, in as many
 * parts as fit, each timed for itself, so that nothing is read twice; the
 * first part, while QEMU translates the code, does not count. Linux's modules
 * are loaded from / when they lie there.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PIECE (128 << 10)
#define PART (64 << 20)
#define MOST 16

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static void end(void)
{
    printf("lat_end 0 s\n");
    fflush(stdout);
    sync();
    reboot(RB_AUTOBOOT);
    _exit(0);
}

static void fail(const char *what)
{
    printf("blk_read E%d\n# %s: %s\n", errno, what, strerror(errno));
    end();
}

static void modules(void)
{
    static const char *const names[] = { "virtio", "virtio_ring", "virtio_mmio", "virtio_blk" };
    char path[64];
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "/%s.ko", names[i]);
        int fd = open(path, O_RDONLY);
        if (fd < 0) continue;
        if (syscall(SYS_finit_module, fd, "", 0) < 0) fail(path);
        close(fd);
    }
}

static int cmp(const void *a, const void *b)
{
    double x = *(double *)a, y = *(double *)b;
    return x < y ? -1 : x > y;
}

int main(void)
{
    static char b[PIECE];
    double v[MOST];
    int fd, n = 0;

    mkdir("/proc", 0755);
    mount("proc", "/proc", "proc", 0, 0);
    mount("devtmpfs", "/dev", "devtmpfs", 0, 0);
    modules();
    for (int i = 0; (fd = open("/dev/vda", O_RDONLY)) < 0; i++) {
        if (i == 5000) fail("/dev/vda");
        usleep(1000);
    }
    for (;;) {
        double t = now();
        size_t done = 0;
        while (done < PART) {
            ssize_t k = read(fd, b, sizeof b);
            if (k < 0) fail("read");
            if (k == 0) break;
            done += k;
        }
        if (done < PART || n == MOST) break;
        v[n++] = PART / (now() - t) * 1000;
    }
    if (n < 2) fail("the disk is too small");
    qsort(v + 1, n - 1, sizeof *v, cmp);
    printf("blk_read %.2f MB/s best=%.2f worst=%.2f n=%d\n", v[1 + (n - 1) / 2], v[n - 1], v[1], n - 1);
    end();
}
