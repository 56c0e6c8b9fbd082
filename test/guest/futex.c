/* futex.c - futex(2) itself: values, timeouts, counts, bitsets, requeue, wake-op, private and shared keys. */
#include "check.h"
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>

static u32 word, other;

static long futex(u32 *a, int op, u32 val, const void *t, u32 *b, u32 val3)
{
	return syscall(SYS_futex, a, op, val, t, b, val3);
}

TEST(value_differs)
{
	word = 5;
	EXPECT(futex(&word, FUTEX_WAIT, 4, 0, 0, 0), EAGAIN);
	EXPECT(futex(&word, FUTEX_WAIT_PRIVATE, 4, 0, 0, 0), EAGAIN);
	SAME(futex(&word, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0), 0);
}

TEST(timeouts)
{
	struct timespec rel = {0, 20000000}, bad = {0, 1000000000}, neg = {-1, 0}, zero = {0, 0}, abs;
	u64 start = now_ns(CLOCK_MONOTONIC);
	word = 0;
	EXPECT(futex(&word, FUTEX_WAIT_PRIVATE, 0, &rel, 0, 0), ETIMEDOUT);
	CHECK(now_ns(CLOCK_MONOTONIC) - start >= 20000000);
	EXPECT(futex(&word, FUTEX_WAIT_PRIVATE, 0, &zero, 0, 0), ETIMEDOUT);
	EXPECT(futex(&word, FUTEX_WAIT_PRIVATE, 0, &bad, 0, 0), EINVAL);
	EXPECT(futex(&word, FUTEX_WAIT_PRIVATE, 0, &neg, 0, 0), EINVAL);
	/* WAIT_BITSET takes an absolute time, on either clock. */
	clock_gettime(CLOCK_MONOTONIC, &abs);
	EXPECT(futex(&word, FUTEX_WAIT_BITSET_PRIVATE, 0, &abs, 0, ~0u), ETIMEDOUT);
	clock_gettime(CLOCK_REALTIME, &abs);
	start = now_ns(CLOCK_MONOTONIC);
	abs.tv_nsec += 20000000;
	if (abs.tv_nsec >= 1000000000) {
		abs.tv_nsec -= 1000000000;
		abs.tv_sec++;
	}
	EXPECT(futex(&word, FUTEX_WAIT_BITSET_PRIVATE | FUTEX_CLOCK_REALTIME, 0, &abs, 0, ~0u), ETIMEDOUT);
	CHECK(now_ns(CLOCK_MONOTONIC) - start >= 19000000);
}

TEST(errors)
{
	EXPECT(futex((u32 *)((char *)&word + 1), FUTEX_WAIT_PRIVATE, 0, 0, 0, 0), EINVAL);
	EXPECT(futex((u32 *)((char *)&word + 2), FUTEX_WAKE, 1, 0, 0, 0), EINVAL);
	EXPECT(futex(0, FUTEX_WAIT_PRIVATE, 0, 0, 0, 0), EFAULT);
	EXPECT(futex((u32 *)4096, FUTEX_WAKE, 1, 0, 0, 0), EFAULT);
	EXPECT(futex(&word, 77, 0, 0, 0, 0), ENOSYS);
	EXPECT(futex(&word, FUTEX_WAIT_BITSET_PRIVATE, 0, 0, 0, 0), EINVAL);
	EXPECT(futex(&word, FUTEX_WAKE_BITSET_PRIVATE, 1, 0, 0, 0), EINVAL);
	EXPECT(futex(&word, FUTEX_FD, 0, 0, 0, 0), ENOSYS);
	EXPECT(futex(&word, FUTEX_UNLOCK_PI_PRIVATE, 0, 0, 0, 0), EPERM);
}

static volatile int waiting, woken;

struct waiter {
	u32 *word;
	int op;
	u32 bits;
	long result;
	int err;
	int tid;
};

static void *wait_on(void *v)
{
	struct waiter *w = v;
	w->tid = syscall(SYS_gettid);
	__atomic_add_fetch(&waiting, 1, __ATOMIC_SEQ_CST);
	do {
		w->result = futex(w->word, w->op, 0, 0, 0, w->bits);
		w->err = errno;
	} while (w->result < 0 && w->err == EINTR);
	__atomic_add_fetch(&woken, 1, __ATOMIC_SEQ_CST);
	return 0;
}

static pthread_t threads[32];
static struct waiter waiters[32];

static void start(int n, u32 *w, int op, u32 bits)
{
	static int have;
	if (n == 0) {
		have = 0;
		waiting = woken = 0;
		return;
	}
	for (int i = 0; i < n; i++, have++) {
		waiters[have] = (struct waiter){w, op, bits, 0, 0, 0};
		pthread_create(&threads[have], 0, wait_on, &waiters[have]);
	}
	while (waiting < have)
		sleep_ms(1);
	for (int i = 0; i < have; i++)
		asleep(waiters[i].tid);	/* in the wait itself */
}

static void settle(int n)
{
	for (int i = 0; i < 20000 && woken < n; i++)
		sleep_ms(1);
	sleep_ms(10);
	SAME(woken, n);
}

static void join(int n)
{
	for (int i = 0; i < n; i++) {
		pthread_join(threads[i], 0);
		SAME(waiters[i].result, 0);
	}
}

TEST(wake_counts)
{
	word = 0;
	start(0, 0, 0, 0);
	start(10, &word, FUTEX_WAIT_PRIVATE, 0);
	SAME(futex(&word, FUTEX_WAKE_PRIVATE, 3, 0, 0, 0), 3);
	settle(3);
	SAME(futex(&word, FUTEX_WAKE_PRIVATE, 0x7fffffff, 0, 0, 0), 7);
	settle(10);
	SAME(futex(&word, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0), 0);
	join(10);
}

TEST(bitsets)
{
	word = 0;
	start(0, 0, 0, 0);
	start(4, &word, FUTEX_WAIT_BITSET_PRIVATE, 1);
	start(3, &word, FUTEX_WAIT_BITSET_PRIVATE, 2);
	SAME(futex(&word, FUTEX_WAKE_BITSET_PRIVATE, 100, 0, 0, 4), 0);
	SAME(futex(&word, FUTEX_WAKE_BITSET_PRIVATE, 100, 0, 0, 2), 3);
	settle(3);
	SAME(futex(&word, FUTEX_WAKE_BITSET_PRIVATE, 100, 0, 0, 3), 4);
	join(7);
}

TEST(requeue)
{
	word = other = 0;
	start(0, 0, 0, 0);
	start(8, &word, FUTEX_WAIT_PRIVATE, 0);
	EXPECT(futex(&word, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)100, &other, 9), EAGAIN);
	SAME(futex(&word, FUTEX_CMP_REQUEUE_PRIVATE, 2, (void *)3, &other, 0), 5);
	settle(2);
	SAME(futex(&other, FUTEX_WAKE_PRIVATE, 100, 0, 0, 0), 3);
	settle(5);
	SAME(futex(&word, FUTEX_REQUEUE_PRIVATE, 0, (void *)100, &other, 0), 0 + 3);
	SAME(futex(&other, FUTEX_WAKE_PRIVATE, 100, 0, 0, 0), 3);
	join(8);
}

TEST(wake_op)
{
	word = other = 0;
	start(0, 0, 0, 0);
	start(2, &word, FUTEX_WAIT_PRIVATE, 0);
	start(2, &other, FUTEX_WAIT_PRIVATE, 0);
	other = 5;
	/* other += 3, and if it was > 4, wake there too. */
	SAME(futex(&word, FUTEX_WAKE_OP_PRIVATE, 1, (void *)1, &other, FUTEX_OP(FUTEX_OP_ADD, 3, FUTEX_OP_CMP_GT, 4)), 2);
	SAME(other, 8);
	settle(2);
	SAME(futex(&word, FUTEX_WAKE_OP_PRIVATE, 1, (void *)1, &other, FUTEX_OP(FUTEX_OP_ANDN, 8, FUTEX_OP_CMP_EQ, 1)), 1);
	SAME(other, 0);
	SAME(futex(&other, FUTEX_WAKE_PRIVATE, 100, 0, 0, 0), 1);
	join(4);
}

/* Shared futexes are found by what is mapped, not by where. */
TEST(shared_by_file)
{
	int fd = open("/tmp/futex.shared", O_RDWR | O_CREAT | O_TRUNC, 0600);
	NEED(fd >= 0);
	unlink("/tmp/futex.shared");
	NEED(ftruncate(fd, 4096) == 0);
	u32 *a = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	u32 *b = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	NEED(a != MAP_FAILED && b != MAP_FAILED);
	start(0, 0, 0, 0);
	start(2, a, FUTEX_WAIT, 0);
	SAME(futex(b, FUTEX_WAKE, 100, 0, 0, 0), 2);
	join(2);
	*a = 7;
	SAME(*b, 7);
	munmap(a, 4096);
	munmap(b, 4096);
	close(fd);
}

/* Many threads through one word: nothing is lost. */
static u32 turn;
static void *take_turns(void *v)
{
	u32 me = (u32)(long)v;
	for (int i = 0; i < 200; i++) {
		u32 t;
		while ((t = __atomic_load_n(&turn, __ATOMIC_ACQUIRE)) % 8 != me)
			futex(&turn, FUTEX_WAIT_PRIVATE, t, 0, 0, 0);
		__atomic_store_n(&turn, t + 1, __ATOMIC_RELEASE);
		futex(&turn, FUTEX_WAKE_PRIVATE, 0x7fffffff, 0, 0, 0);
	}
	return 0;
}

TEST(round_robin)
{
	for (long i = 0; i < 8; i++)
		pthread_create(&threads[i], 0, take_turns, (void *)i);
	for (int i = 0; i < 8; i++)
		pthread_join(threads[i], 0);
	SAME(turn, 8 * 200);
}

TEST(robust_list)
{
	struct robust_list_head *h = 0;
	size_t n = 0;
	CHECK(syscall(SYS_get_robust_list, 0, &h, &n) == 0);
	SAME(n, sizeof *h);
	CHECK(h != 0);
	EXPECT(syscall(SYS_set_robust_list, h, 23), EINVAL);
	EXPECT(syscall(SYS_get_robust_list, 0x3fffffff, &h, &n), ESRCH);
}

static void *exiting(void *v)
{
	/* CLONE_CHILD_CLEARTID's word is where pthread_join waits; set another one. */
	syscall(SYS_set_tid_address, v);
	syscall(SYS_exit, 0);
	return 0;
}

TEST(clear_child_tid)
{
	static u32 tid = 1;
	pthread_t t;
	pthread_create(&t, 0, exiting, &tid);
	while (__atomic_load_n(&tid, __ATOMIC_ACQUIRE))
		futex(&tid, FUTEX_WAIT, 1, &(struct timespec){0, 50000000}, 0, 0);
	SAME(tid, 0);
}

#ifndef FUTEX_WAIT_REQUEUE_PI
#define FUTEX_WAIT_REQUEUE_PI 11
#define FUTEX_CMP_REQUEUE_PI 12
#endif
static u32 cond, mutex;
static volatile int got, failed;
static void *requeued(void *v)
{
	u32 tid = syscall(SYS_gettid);
	struct timespec *t = v;
	if (futex(&cond, FUTEX_WAIT_REQUEUE_PI, 0, t, &mutex, 0) != 0)
		return (void *)(long)errno;
	if ((mutex & FUTEX_TID_MASK) != tid)
		failed = 1;
	got++;
	if (!__sync_bool_compare_and_swap(&mutex, tid, 0) && futex(&mutex, FUTEX_UNLOCK_PI, 0, 0, 0, 0) != 0)
		failed = 2;
	return 0;
}

TEST(requeue_pi)
{
	EXPECT(futex(&cond, FUTEX_WAIT_REQUEUE_PI, 0, 0, &cond, 0), EINVAL);
	EXPECT(futex(&cond, FUTEX_WAIT_REQUEUE_PI, 1, 0, &mutex, 0), EAGAIN);
	EXPECT(futex(&cond, FUTEX_CMP_REQUEUE_PI, 2, (void *)1, &mutex, 0), EINVAL);
	EXPECT(futex(&cond, FUTEX_CMP_REQUEUE_PI, 1, (void *)1, &cond, 0), EINVAL);
	EXPECT(futex(&cond, FUTEX_CMP_REQUEUE_PI, 1, (void *)1, &mutex, 1), EAGAIN);
	SAME(futex(&cond, FUTEX_CMP_REQUEUE_PI, 1, (void *)1, &mutex, 0), 0);
	struct timespec past = {1, 0};
	EXPECT(futex(&cond, FUTEX_WAIT_REQUEUE_PI, 0, &past, &mutex, 0), ETIMEDOUT);
	/* the lock is held: all are moved, and get it one after the other */
	EXPECT(futex(&mutex, FUTEX_LOCK_PI, 0, 0, 0, 0), 0);
	for (int i = 0; i < 3; i++)
		pthread_create(&threads[i], 0, requeued, 0);
	int n = 0;
	while (n < 3) {
		int k = futex(&cond, FUTEX_CMP_REQUEUE_PI, 1, (void *)10, &mutex, 0);
		NEED(k >= 0);
		n += k;
		sleep_ms(1);
	}
	SAME(n, 3);
	SAME(got, 0);
	CHECK(mutex & FUTEX_WAITERS);
	EXPECT(futex(&mutex, FUTEX_UNLOCK_PI, 0, 0, 0, 0), 0);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], 0);
	SAME(got, 3);
	SAME(failed, 0);
	SAME(mutex, 0);
	/* it is free: the first takes it at once */
	pthread_create(&threads[0], 0, requeued, 0);
	while ((n = futex(&cond, FUTEX_CMP_REQUEUE_PI, 1, (void *)0, &mutex, 0)) == 0)
		sleep_ms(1);
	SAME(n, 1);
	pthread_join(threads[0], 0);
	SAME(got, 4);
	/* nobody may wake such a waiter another way */
	struct timespec soon;
	clock_gettime(CLOCK_MONOTONIC, &soon);
	soon.tv_sec += 1;
	pthread_create(&threads[0], 0, requeued, &soon);
	sleep_ms(100);
	EXPECT(futex(&cond, FUTEX_WAKE, 1, 0, 0, 0), EINVAL);
	void *r;
	pthread_join(threads[0], &r);
	SAME((long)r, ETIMEDOUT);
}
