/* bomb.c - fork bombs under RLIMIT_NPROC (getrlimit(2)): the limit holds, others go on, and all can be killed. */
#include "check.h"
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum { USER = 23456, LIMIT = 60, CPUS = 16 };

struct seen {
	int forks, refused, other;
};

static void *idle(void *v)
{
	pause();
	return v;
}

/* explode forks for ever, as its children do; with threads it makes those too. */
static void explode(struct seen *s, int threads)
{
	for (;;) {
		pid_t pid = fork();
		if (pid == 0)
			continue;
		__atomic_add_fetch(pid > 0 ? &s->forks : errno == EAGAIN ? &s->refused : &s->other, 1, __ATOMIC_RELAXED);
		pthread_t t;
		if (threads && pthread_create(&t, 0, idle, 0) == 0)
			__atomic_add_fetch(&s->forks, 1, __ATOMIC_RELAXED);
		if (pid < 0)
			sched_yield();
	}
}

static void bomb(int threads)
{
	struct seen *s = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	prctl(PR_SET_CHILD_SUBREAPER, 1); /* what loses its parent is reaped here */
	pid_t first = fork();
	CHECK(first >= 0);
	if (first == 0) {
		struct rlimit l = {LIMIT, LIMIT};
		setpgid(0, 0);
		if (setrlimit(RLIMIT_NPROC, &l) || setresgid(USER, USER, USER) || setresuid(USER, USER, USER))
			_exit(9);
		explode(s, threads);
	}
	/* A parent counts its fork when it runs again, which may be late. */
	for (int i = 0; i < 2000 && (__atomic_load_n(&s->refused, __ATOMIC_RELAXED) < 200 || __atomic_load_n(&s->forks, __ATOMIC_RELAXED) < LIMIT / 2); i++)
		sleep_ms(10);
	CHECK(s->refused >= 200);
	SAME(s->other, 0);
	/* one may slip through on each processor */
	CHECK(s->forks >= LIMIT / 2 && s->forks <= LIMIT + CPUS);
	/* others go on meanwhile */
	int status;
	pid_t pid = fork();
	if (pid == 0)
		_exit(7);
	SAME(waitpid(pid, &status, 0), pid);
	SAME(status, 7 << 8);
	for (int i = 0; i < 20000 && kill(-first, SIGKILL) == 0; i++) {
		while (waitpid(-1, &status, WNOHANG) > 0)
			;
		sleep_ms(1);
	}
	EXPECT(kill(-first, SIGKILL), ESRCH);
	munmap(s, 4096);
}

TEST(processes) { bomb(0); }

TEST(processes_and_threads) { bomb(1); }
