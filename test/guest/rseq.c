/* rseq.c - restartable sequences, membarrier(2), and CPU affinity that holds. */
#include "check.h"
#include <linux/membarrier.h>
#include <linux/rseq.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static struct rseq *own(void) { return (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset); }
static long rseq(void *p, u32 len, int flags, u32 sig) { return syscall(SYS_rseq, p, len, flags, sig); }

static unsigned real_cpu(void) /* as the segment limit tells, at the instruction */
{
	unsigned p;
	__asm__ volatile("lsl %1, %0" : "=r"(p) : "r"(0x7b));
	return p & 0xfff;
}

TEST(registered)
{
	CHECK(__rseq_size >= 20);
	CHECK((int)own()->cpu_id >= 0);
	SAME(own()->cpu_id, own()->cpu_id_start);
	EXPECT(rseq(own(), 32, 0, RSEQ_SIG), EBUSY);
	EXPECT(rseq(own(), 32, 0, 1), EPERM);
	EXPECT(rseq(own(), 64, 0, RSEQ_SIG), EINVAL);
	EXPECT(rseq(own(), 32, 4, RSEQ_SIG), EINVAL);
	EXPECT(rseq(own(), 32, RSEQ_FLAG_UNREGISTER, 1), EPERM);
	EXPECT(rseq(own(), 32, RSEQ_FLAG_UNREGISTER, RSEQ_SIG), 0);
	SAME((int)own()->cpu_id, RSEQ_CPU_ID_UNINITIALIZED);
	EXPECT(rseq(own(), 32, RSEQ_FLAG_UNREGISTER, RSEQ_SIG), EINVAL);
	EXPECT(rseq((char *)own() + 8, 32, 0, RSEQ_SIG), EINVAL);
	EXPECT(rseq(own(), 31, 0, RSEQ_SIG), EINVAL);
	EXPECT(rseq(own(), 32, 0, RSEQ_SIG), 0);
	CHECK((int)own()->cpu_id >= 0);
	pid_t p = fork();
	if (p == 0)
		_exit((int)own()->cpu_id < 0 || rseq(own(), 32, 0, RSEQ_SIG) != -1);
	int s;
	SAME(waitpid(p, &s, 0), p);
	SAME(s, 0);
}

/*
 * A sequence that spins until it is aborted: spins counts down, and the
 * result is 1 when the abort handler was taken, 0 when the count ran out.
 */
__attribute__((noinline)) static int spin(long n)
{
	int r;
	__asm__ volatile(".pushsection __rseq_cs, \"aw\"\n.balign 32\n"
			 "3: .long 0, 0\n.quad 1f, 2f - 1f, 4f\n.popsection\n"
			 "leaq 3b(%%rip), %%rax\n"
			 "movq %%rax, %[cs]\n"
			 "1: cmpq $0, %[n]\n"
			 "jz 2f\n"
			 "decq %[n]\n"
			 "jmp 1b\n"
			 "2: xorl %[r], %[r]\n"
			 "jmp 5f\n"
			 ".byte 0x0f, 0xb9, 0x3d\n.long %c[sig]\n"
			 "4: movl $1, %[r]\n"
			 "5:\n"
			 : [r] "=&r"(r), [n] "+r"(n), [cs] "=m"(own()->rseq_cs)
			 : [sig] "i"(RSEQ_SIG)
			 : "rax", "memory", "cc");
	return r;
}

static volatile int handled;
static void on(int sig) { handled = sig; }

TEST(abort_by_signal)
{
	struct sigaction a = {.sa_handler = on};
	sigaction(SIGALRM, &a, 0);
	SAME(spin(10), 0);
	timer_t t;
	struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
	NEED(timer_create(CLOCK_MONOTONIC, &e, &t) == 0);
	struct itimerspec i = {.it_value = {0, 50000000}};
	timer_settime(t, 0, &i, 0);
	SAME(spin(1L << 60), 1);
	/* with no other thread the handler may have to wait a moment */
	for (int n = 0; n < 1000 && !handled; n++)
		sleep_ms(1);
	SAME(handled, SIGALRM);
	timer_delete(t);
	SAME(own()->rseq_cs, 0);
}

static volatile int stop;
static void *busy(void *p)
{
	while (!stop)
		;
	return p;
}

TEST(abort_by_preemption)
{
	cpu_set_t all, one;
	sched_getaffinity(0, sizeof all, &all);
	CPU_ZERO(&one);
	CPU_SET(0, &one);
	EXPECT(sched_setaffinity(0, sizeof one, &one), 0);
	SAME(sched_getcpu(), 0);
	pthread_t t;
	pthread_create(&t, 0, busy, 0); /* on the same processor */
	SAME(spin(1L << 60), 1);
	stop = 1;
	pthread_join(t, 0);
	stop = 0;
	sched_setaffinity(0, sizeof all, &all);
}

static pid_t bad_sequence(int how)
{
	static struct rseq_cs cs __attribute__((aligned(32)));
	pid_t p = fork();
	if (p)
		return p;
	cs.start_ip = (u64)spin;
	cs.post_commit_offset = 16;
	cs.abort_ip = (u64)spin + 64; /* no signature there */
	own()->rseq_cs = how ? (u64)&cs : 8;
	for (;;)
		sched_yield(), sleep_ms(1);
}

TEST(bad_sequences)
{
	for (int i = 0; i < 2; i++) {
		pid_t p = bad_sequence(i);
		int s;
		SAME(waitpid(p, &s, 0), p);
		SAME(s & 0x7f, SIGSEGV);
	}
}

/* cpu_id is the processor, on every processor. */
static volatile int wrong;
static void *watch(void *p)
{
	for (int i = 0; i < 20000; i++) {
		unsigned a = own()->cpu_id, c = real_cpu(), b = own()->cpu_id;
		if (a == b && c != a)
			__atomic_add_fetch(&wrong, 1, __ATOMIC_SEQ_CST);
		if (i % 100 == 0)
			sched_yield();
	}
	return p;
}

TEST(cpu_id)
{
	pthread_t t[4];
	for (int i = 0; i < 4; i++)
		pthread_create(&t[i], 0, watch, 0);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], 0);
	CHECK(wrong < 3); /* it may move there and back between the three looks */
}

static void *pinned(void *p)
{
	long bad = 0;
	cpu_set_t one;
	CPU_ZERO(&one);
	CPU_SET((long)p, &one);
	if (sched_setaffinity(0, sizeof one, &one) != 0)
		return (void *)1;
	for (int i = 0; i < 3000; i++) {
		bad += real_cpu() != (unsigned)(long)p;
		if (i % 10 == 0)
			sched_yield();
		if (i % 500 == 0)
			sleep_ms(1);
	}
	cpu_set_t got;
	sched_getaffinity(0, sizeof got, &got);
	return (void *)(bad + !CPU_EQUAL(&got, &one));
}

TEST(affinity)
{
	cpu_set_t all;
	sched_getaffinity(0, sizeof all, &all);
	pthread_t t[8];
	int n = 0, cpus[8];
	for (int i = 0; i < 64 && n < 8; i++)
		if (CPU_ISSET(i, &all))
			cpus[n++] = i;
	for (int i = 0; i < n; i++)
		pthread_create(&t[i], 0, pinned, (void *)(long)cpus[i]);
	for (int i = 0; i < n; i++) {
		void *r;
		pthread_join(t[i], &r);
		SAME((long)r, 0);
	}
	/* a child inherits, a program that it starts too */
	cpu_set_t one;
	CPU_ZERO(&one);
	CPU_SET(cpus[n - 1], &one);
	EXPECT(sched_setaffinity(0, sizeof one, &one), 0);
	pid_t p = fork();
	if (p == 0)
		_exit(real_cpu() != (unsigned)cpus[n - 1] || sched_getcpu() != cpus[n - 1]);
	int s;
	SAME(waitpid(p, &s, 0), p);
	SAME(s, 0);
	CPU_ZERO(&one);
	EXPECT(sched_setaffinity(0, sizeof one, &one), EINVAL);
	EXPECT(sched_setaffinity(0, sizeof all, &all), 0);
}

static long barrier(int cmd, unsigned flags) { return syscall(SYS_membarrier, cmd, flags, 0); }

TEST(membarrier)
{
	long all = barrier(MEMBARRIER_CMD_QUERY, 0);
	SAME(all & 0x1ff, 0x1ff);
	EXPECT(barrier(MEMBARRIER_CMD_QUERY, 2), EINVAL);
	EXPECT(barrier(3, 0), EINVAL);
	EXPECT(barrier(1 << 30, 0), EINVAL);
	EXPECT(barrier(MEMBARRIER_CMD_GLOBAL, 0), 0);
	pid_t p = fork();
	if (p == 0) { /* a fresh process, as the C library may have registered something */
		EXPECT(barrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0), EPERM);
		EXPECT(barrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0), 0);
		EXPECT(barrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0), 0);
		EXPECT(barrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED, 1), EINVAL);
		EXPECT(barrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 0), EPERM);
		EXPECT(barrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE, 0), 0);
		EXPECT(barrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 0), 0);
		EXPECT(barrier(MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0), 0);
		EXPECT(barrier(MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0), 0);
		EXPECT(barrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ, 0), 0);
		EXPECT(barrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ, 0), 0);
		_exit(check_failures != 0);
	}
	int s;
	SAME(waitpid(p, &s, 0), p);
	SAME(s, 0);
}

/* Dekker's algorithm with the barrier on one side only: both must never see 0. */
static volatile int x, y, rx, ry;
static pthread_barrier_t gate;
static void *light(void *p)
{
	for (int i = 0; i < 300; i++) {
		pthread_barrier_wait(&gate);
		x = 1;
		__asm__ volatile("" ::: "memory");
		ry = y;
		pthread_barrier_wait(&gate);
	}
	return p;
}

TEST(ordering)
{
	barrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0);
	pthread_barrier_init(&gate, 0, 2);
	pthread_t t;
	pthread_create(&t, 0, light, 0);
	int bad = 0;
	for (int i = 0; i < 300; i++) {
		x = y = 0;
		pthread_barrier_wait(&gate);
		y = 1;
		barrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0);
		rx = x;
		pthread_barrier_wait(&gate);
		bad += rx == 0 && ry == 0;
	}
	pthread_join(t, 0);
	SAME(bad, 0);
}

static void *spinner(void *p) { return (void *)(long)(spin(1L << 60) + 0 * (long)p); }

/* The barrier for sequences ends those of running threads. */
TEST(barrier_rseq)
{
	barrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ, 0);
	pthread_t t;
	void *r;
	pthread_create(&t, 0, spinner, 0);
	sleep_ms(5);
	EXPECT(barrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ, 0), 0);
	pthread_join(t, &r);
	SAME((long)r, 1);
}
