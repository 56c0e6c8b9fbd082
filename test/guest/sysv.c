/* sysv.c - System V shared memory and semaphores: sysvipc(7). */
#include "check.h"
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/wait.h>

union semun {
	int val;
	struct semid_ds *buf;
	unsigned short *array;
};

TEST(shared_between_processes)
{
	int id = shmget(IPC_PRIVATE, 10000, 0600);
	NEED(id >= 0);
	int *p = shmat(id, 0, 0);
	NEED(p != (void *)-1);
	SAME(p[2000], 0);
	pid_t c = fork();
	if (!c) {
		p[2000] = 42;
		_exit(shmdt(p) == 0 ? 0 : 1);
	}
	int st;
	SAME(waitpid(c, &st, 0), c);
	SAME(st, 0);
	SAME(p[2000], 42);
	struct shmid_ds ds;
	EXPECT(shmctl(id, IPC_STAT, &ds), 0);
	SAME(ds.shm_segsz, 10000);
	SAME(ds.shm_nattch, 1);
	SAME(ds.shm_cpid, getpid());
	SAME(ds.shm_lpid, c);
	SAME(ds.shm_perm.mode, 0600);
	/* Read-only, at an address of our own. */
	char *q = (char *)p + (64 << 20);
	EXPECT(shmat(id, q + 1, 0), EINVAL);
	SAME(shmat(id, q + 1, SHM_RND | SHM_RDONLY), q);
	SAME(((int *)q)[2000], 42);
	TRAPS(*(volatile char *)q = 1, SIGSEGV, SEGV_ACCERR);
	EXPECT(mprotect(q, 4096, PROT_READ | PROT_WRITE), EACCES);
	EXPECT(shmat(id, q, 0), EINVAL);
	SAME(shmat(id, q, SHM_REMAP), q);
	*q = 1;
	SAME(*(char *)p, 1);
	EXPECT(shmctl(id, IPC_RMID, 0), 0);
	EXPECT(shmctl(id, IPC_STAT, &ds), 0);
	SAME(ds.shm_nattch, 2);
	SAME(ds.shm_perm.mode, 01600);
	EXPECT(shmdt(q), 0);
	EXPECT(shmdt(q), EINVAL);
	EXPECT(shmdt(p), 0);
	EXPECT(shmctl(id, IPC_STAT, &ds), EINVAL);
}

TEST(keys)
{
	key_t k = 0x6f736776;
	EXPECT(shmget(k, 4096, 0), ENOENT);
	int id = shmget(k, 4096, IPC_CREAT | IPC_EXCL | 0600);
	NEED(id >= 0);
	SAME(shmget(k, 100, 0), id);
	EXPECT(shmget(k, 4097, 0), EINVAL);
	EXPECT(shmget(k, 1, IPC_CREAT | IPC_EXCL), EEXIST);
	EXPECT(shmctl(id, IPC_RMID, 0), 0);
	EXPECT(shmget(k, 4096, 0), ENOENT);
	EXPECT(shmget(IPC_PRIVATE, 0, 0600), EINVAL);
	EXPECT(shmat(-1, 0, 0), EINVAL);
	EXPECT(shmctl(id, 99, 0), EINVAL);
}

TEST(semaphores)
{
	int id = semget(IPC_PRIVATE, 2, 0600);
	NEED(id >= 0);
	union semun u = {.val = 1};
	EXPECT(semctl(id, 0, SETVAL, u), 0);
	struct sembuf down = {0, -1, 0}, up = {0, 1, 0}, try = {0, -1, IPC_NOWAIT};
	EXPECT(semop(id, &down, 1), 0);
	EXPECT(semop(id, &try, 1), EAGAIN);
	struct timespec ts = {0, 20000000};
	u64 start = now_ns(CLOCK_MONOTONIC);
	EXPECT(semtimedop(id, &down, 1, &ts), EAGAIN);
	CHECK(now_ns(CLOCK_MONOTONIC) - start >= 20000000);
	/* A child waits until its parent raises the semaphore. */
	pid_t c = fork();
	if (!c) {
		struct sembuf undo = {1, 3, SEM_UNDO};
		_exit(semop(id, &down, 1) == 0 && semop(id, &undo, 1) == 0 && semctl(id, 1, GETVAL) == 3 ? 0 : 1);
	}
	while (semctl(id, 0, GETNCNT) == 0)
		sleep_ms(1);
	EXPECT(semop(id, &up, 1), 0);
	int st;
	SAME(waitpid(c, &st, 0), c);
	SAME(st, 0);
	SAME(semctl(id, 0, GETPID), c);
	SAME(semctl(id, 1, GETVAL), 0); /* undone */
	unsigned short v[2] = {7, 9}, w[2];
	u.array = v;
	EXPECT(semctl(id, 0, SETALL, u), 0);
	u.array = w;
	EXPECT(semctl(id, 0, GETALL, u), 0);
	SAME(w[0], 7);
	SAME(w[1], 9);
	/* Removing the set ends the wait. */
	c = fork();
	if (!c) {
		struct sembuf zero = {1, 0, 0};
		_exit(semop(id, &zero, 1) == -1 ? errno : 0);
	}
	while (semctl(id, 1, GETZCNT) == 0)
		sleep_ms(1);
	EXPECT(semctl(id, 0, IPC_RMID), 0);
	SAME(waitpid(c, &st, 0), c);
	SAME(WEXITSTATUS(st), EIDRM);
	EXPECT(semop(id, &up, 1), EINVAL);
	EXPECT(semget(IPC_PRIVATE, 0, 0600), EINVAL);
}

static void on_alarm(int s) { (void)s; }

TEST(interrupted)
{
	int id = semget(IPC_PRIVATE, 1, 0600);
	NEED(id >= 0);
	struct sigaction sa = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
	sigaction(SIGALRM, &sa, 0);
	ualarm(20000, 0);
	struct sembuf down = {0, -1, 0};
	EXPECT(semop(id, &down, 1), EINTR);
	struct sembuf many[501] = {{0, 0, 0}}, far = {5, 1, 0};
	EXPECT(semop(id, many, 501), E2BIG);
	EXPECT(semop(id, many, 0), EINVAL);
	EXPECT(semop(id, &far, 1), EFBIG);
	EXPECT(semctl(id, 0, IPC_RMID), 0);
}
