/*
 * disk - as pid 1: how fast disks and file systems are, in wall time.
 *
 * Without an argument /dev/vda is read from one end to the other, by the page
 * cache and then past it; with the argument ext4, the file system of that
 * type on /dev/vda is written, read and filled with files, and with virtiofs
 * the one with the tag bench.
 *
 * Lines as lat prints them. Each figure is made several times, and the first
 * time, while QEMU translates the code, does not count. Linux's modules are
 * loaded from / when they lie there.
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
    printf("disk E%d\n# %s: %s\n", errno, what, strerror(errno));
    end();
}

static void modules(void)
{
    static const char *const names[] = { "virtio", "virtio_ring", "virtio_mmio", "virtio_blk", "fuse", "virtiofs" };
    char path[64];
    for (int i = 0; i < 6; i++) {
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

/* report prints what v[1] to v[n-1] are, in MB/s or µs. */
static void report(const char *name, double *v, int n, const char *unit)
{
    int best = *unit == 'M' ? n - 1 : 1, worst = n - best;
    qsort(v + 1, n - 1, sizeof *v, cmp);
    printf("%s %.2f %s best=%.2f worst=%.2f n=%d\n", name, v[1 + (n - 1) / 2], unit, v[best], v[worst], n - 1);
    fflush(stdout);
}

static char *buffer;

/* move reads or writes PART bytes and returns the rate, or 0 when the file ends before. */
static double move(int fd, ssize_t (*do_)(int, char *, size_t), int sync)
{
    double t = now();
    for (size_t done = 0; done < PART;) {
        ssize_t k = do_(fd, buffer, PIECE);
        if (k < 0) fail("moving bytes");
        if (k == 0) return 0;
        done += k;
    }
    if (sync && fsync(fd) < 0) fail("fsync");
    return PART / (now() - t) * 1000;
}

static ssize_t get(int fd, char *p, size_t n) { return read(fd, p, n); }
static ssize_t put(int fd, char *p, size_t n) { return write(fd, p, n); }

static void device(const char *name, int flags)
{
    double v[MOST];
    int fd, n = 0;
    for (int i = 0; (fd = open("/dev/vda", O_RDONLY | flags)) < 0; i++) {
        if (i == 5000) fail("/dev/vda");
        usleep(1000);
    }
    while (n < MOST && (v[n] = move(fd, get, 0)) != 0) n++;
    close(fd);
    if (n < 2) fail("the disk is too small");
    report(name, v, n, "MB/s");
}

#define FILES 1000
#define ROUNDS 4

static void mount_at(const char *type)
{
    for (int i = 0; mount(*type == 'e' ? "/dev/vda" : "bench", "/mnt", type, 0, 0) < 0; i++) {
        if (i == 5000) fail("mount");
        usleep(1000);
    }
}

/* again forgets what is in memory of the file system. */
static void again(const char *type)
{
    if (chdir("/") < 0 || umount("/mnt") < 0) fail("umount");
    mount_at(type);
    if (chdir("/mnt") < 0) fail("/mnt");
}

static double each(int (*do_)(const char *))
{
    char name[16];
    double t = now();
    for (int i = 0; i < FILES; i++) {
        snprintf(name, sizeof name, "f%d", i);
        if (do_(name) < 0) fail(name);
    }
    return (now() - t) / FILES / 1000;
}

static int create(const char *name)
{
    int fd = open(name, O_CREAT | O_EXCL | O_WRONLY, 0644);
    return fd < 0 || write(fd, "x", 1) != 1 ? -1 : close(fd);
}

static int look(const char *name)
{
    struct stat st;
    return stat(name, &st);
}

static void files(const char *type)
{
    static const char *const names[] = { "fs_write", "fs_read", "fs_create", "fs_stat_cold", "fs_stat", "fs_unlink" };
    double v[6][ROUNDS];

    mkdir("/mnt", 0755);
    mount_at(type);
    if (chdir("/mnt") < 0) fail("/mnt");
    for (int i = 0; i < ROUNDS; i++) {
        int fd = open("big", O_CREAT | O_TRUNC | O_RDWR, 0644);
        if (fd < 0) fail("big");
        v[0][i] = move(fd, put, 1);
        close(fd);
        again(type);
        if ((fd = open("big", O_RDONLY)) < 0) fail("big");
        v[1][i] = move(fd, get, 0);
        close(fd);
        v[2][i] = each(create);
        again(type);
        v[3][i] = each(look);
        v[4][i] = each(look);
        v[5][i] = each(unlink);
    }
    for (int i = 0; i < 6; i++) report(names[i], v[i], ROUNDS, i < 2 ? "MB/s" : "us");
}

int main(int argc, char **argv)
{
    mkdir("/proc", 0755);
    mount("proc", "/proc", "proc", 0, 0);
    mount("devtmpfs", "/dev", "devtmpfs", 0, 0);
    if (posix_memalign((void **)&buffer, 4096, PIECE) != 0) fail("memory");
    memset(buffer, 'x', PIECE);
    modules();
    if (argc > 1) {
        files(argv[1]);
    } else {
        device("blk_read", 0);
        device("blk_direct", O_DIRECT);
    }
    end();
}
