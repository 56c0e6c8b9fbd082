/* msgq.c - message queues: System V's and POSIX's. */
#include "check.h"
#include <fcntl.h>
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/wait.h>

struct msg { long type; char text[64]; };

static int put(int q, long type, const char *s, int flags)
{
	struct msg m = {type, ""};
	strcpy(m.text, s);
	return msgsnd(q, &m, strlen(s) + 1, flags);
}

static const char *get(int q, long type, int flags)
{
	static struct msg m;
	ssize_t n = msgrcv(q, &m, sizeof m.text, type, flags);
	if (n < 0)
		return errno == ENOMSG ? "ENOMSG" : "error";
	return m.text;
}

#define IS(a, b) do { const char *is = a; if (strcmp(is, b)) FAIL("%s is %s, should be %s", #a, is, b); } while (0)

/* A name and a key of this process alone: Linux keeps queues when a run of the test is killed. */
static const char *name(void)
{
	static char n[32];
	snprintf(n, sizeof n, "/gosv-%d", getpid());
	return n;
}

static key_t key(void)
{
	return getpid() << 4 | 1;
}

TEST(sysv_order)
{
	int q = msgget(IPC_PRIVATE, 0600);
	NEED(q >= 0);
	EXPECT(put(q, 3, "three", 0), 0);
	EXPECT(put(q, 1, "one", 0), 0);
	EXPECT(put(q, 2, "two", 0), 0);
	EXPECT(put(q, 1, "uno", 0), 0);
	EXPECT(put(q, 0, "x", 0), EINVAL);
	IS(get(q, 2, 0), "two");
	IS(get(q, 1, MSG_EXCEPT), "three");
	IS(get(q, 7, IPC_NOWAIT), "ENOMSG");
	IS(get(q, -5, 0), "one");
	IS(get(q, 0, 0), "uno");
	IS(get(q, 0, IPC_NOWAIT), "ENOMSG");
	EXPECT(put(q, 5, "a long text", 0), 0);
	struct msg m;
	EXPECT(msgrcv(q, &m, 3, 0, 0), E2BIG);
	SAME(msgrcv(q, &m, 3, 0, MSG_NOERROR), 3);
	struct msqid_ds d;
	EXPECT(msgctl(q, IPC_STAT, &d), 0);
	SAME(d.msg_qnum, 0);
	SAME(d.msg_cbytes, 0);
	SAME(d.msg_qbytes, 16384);
	SAME(d.msg_lspid, getpid());
	SAME(d.msg_lrpid, getpid());
	EXPECT(msgctl(q, IPC_RMID, 0), 0);
	EXPECT(msgctl(q, IPC_RMID, 0), EINVAL);
	EXPECT(put(q, 1, "x", 0), EINVAL);
}

TEST(sysv_limits)
{
	int q = msgget(key(), IPC_CREAT | IPC_EXCL | 0600), n = 0;
	NEED(q >= 0);
	EXPECT(msgget(key(), IPC_CREAT | IPC_EXCL | 0600), EEXIST);
	SAME(msgget(key(), 0), q);
	EXPECT(msgget(key() + 1, 0), ENOENT);
	static struct { long type; char text[8193]; } big = {1, ""};
	EXPECT(msgsnd(q, &big, 8193, 0), EINVAL);
	while (msgsnd(q, &big, 8192, IPC_NOWAIT) == 0)
		n++;
	SAME(errno, EAGAIN);
	SAME(n, 2);
	int sent[2];
	char c;
	NEED(pipe(sent) == 0);
	pid_t p = fork();
	if (p == 0) { /* waits for room, then for the end of the queue */
		if (msgsnd(q, &big, 8192, 0) != 0 || write(sent[1], "s", 1) != 1)
			_exit(1);
		/* EINVAL when it comes to wait only after the end, on a busy machine. */
		_exit(msgrcv(q, &big, 8192, 99, 0) == -1 && (errno == EIDRM || errno == EINVAL) ? 0 : 2);
	}
	sleep_ms(30);
	SAME(msgrcv(q, &big, 8192, 0, 0), 8192);
	SAME(read(sent[0], &c, 1), 1);
	sleep_ms(30);
	EXPECT(msgctl(q, IPC_RMID, 0), 0);
	int s;
	SAME(waitpid(p, &s, 0), p);
	SAME(s, 0);
}

TEST(posix_priorities)
{
	struct mq_attr a = {.mq_maxmsg = 4, .mq_msgsize = 32}, g;
	mq_unlink(name());
	EXPECT(mq_open(name(), O_RDWR), ENOENT);
	EXPECT(mq_open("/a/b", O_RDWR | O_CREAT, 0600, &a), EACCES);
	a.mq_maxmsg = 0;
	EXPECT(mq_open(name(), O_RDWR | O_CREAT, 0600, &a), EINVAL);
	a.mq_maxmsg = 4;
	mqd_t q = mq_open(name(), O_RDWR | O_CREAT | O_EXCL | O_NONBLOCK, 0600, &a);
	NEED(q >= 0);
	EXPECT(mq_open(name(), O_RDWR | O_CREAT | O_EXCL, 0600, &a), EEXIST);
	char b[64];
	unsigned prio;
	EXPECT(mq_receive(q, b, 32, &prio), EAGAIN);
	EXPECT(mq_receive(q, b, 31, &prio), EMSGSIZE);
	struct pollfd f = {q, POLLIN | POLLOUT, 0};
	SAME(poll(&f, 1, 0), 1);
	SAME(f.revents, POLLOUT);
	EXPECT(mq_send(q, "low", 3, 1), 0);
	EXPECT(mq_send(q, "high", 4, 9), 0);
	EXPECT(mq_send(q, "low2", 4, 1), 0);
	EXPECT(mq_send(q, "x", 1, 32768), EINVAL);
	EXPECT(mq_send(q, b, 33, 1), EMSGSIZE);
	EXPECT(mq_send(q, "mid", 3, 5), 0);
	EXPECT(mq_send(q, "more", 4, 5), EAGAIN);
	SAME(poll(&f, 1, 0), 1);
	SAME(f.revents, POLLIN);
	EXPECT(mq_getattr(q, &g), 0);
	SAME(g.mq_curmsgs, 4);
	SAME(g.mq_maxmsg, 4);
	SAME(g.mq_msgsize, 32);
	SAME(g.mq_flags, O_NONBLOCK);
	SAME(mq_receive(q, b, 32, &prio), 4);
	SAME(prio, 9);
	SAME(mq_receive(q, b, 32, &prio), 3);
	SAME(prio, 5);
	SAME(mq_receive(q, b, 32, &prio), 3);
	CHECK(!memcmp(b, "low", 3));
	SAME(mq_receive(q, b, 32, 0), 4);
	CHECK(!memcmp(b, "low2", 4));
	mqd_t r = mq_open(name(), O_RDONLY), w = mq_open(name(), O_WRONLY);
	EXPECT(mq_send(r, "x", 1, 0), EBADF);
	EXPECT(mq_receive(w, b, 32, 0), EBADF);
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	t.tv_nsec += 20000000;
	if (t.tv_nsec >= 1000000000)
		t.tv_sec++, t.tv_nsec -= 1000000000;
	EXPECT(mq_timedreceive(r, b, 32, 0, &t), ETIMEDOUT);
	pid_t p = fork();
	if (p == 0)
		_exit(mq_receive(r, b, 32, 0) == 5 ? 0 : 1);
	sleep_ms(20);
	EXPECT(mq_send(w, "hello", 5, 0), 0);
	int s;
	SAME(waitpid(p, &s, 0), p);
	SAME(s, 0);
	mq_close(r);
	mq_close(w);
	EXPECT(mq_unlink(name()), 0);
	EXPECT(mq_unlink(name()), ENOENT);
	EXPECT(mq_send(q, "x", 1, 0), 0); /* still open */
	mq_close(q);
	EXPECT(mq_send(q, "x", 1, 0), EBADF);
}

static volatile int notified;
static siginfo_t seen;
static void on(int sig, siginfo_t *i, void *u)
{
	(void)u;
	seen = *i;
	notified = sig;
}

TEST(posix_notify)
{
	struct sigaction a = {.sa_sigaction = on, .sa_flags = SA_SIGINFO};
	sigaction(SIGUSR1, &a, 0);
	mqd_t q = mq_open(name(), O_RDWR | O_CREAT | O_NONBLOCK, 0600, 0);
	NEED(q >= 0);
	struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_int = 77};
	EXPECT(mq_notify(q, &e), 0);
	EXPECT(mq_notify(q, &e), EBUSY);
	EXPECT(mq_notify(q, 0), 0);
	EXPECT(mq_notify(q, &e), 0);
	EXPECT(mq_send(q, "x", 1, 0), 0);
	SAME(notified, SIGUSR1);
	SAME(seen.si_code, SI_MESGQ);
	SAME(seen.si_value.sival_int, 77);
	SAME(seen.si_pid, getpid());
	notified = 0;
	EXPECT(mq_send(q, "y", 1, 0), 0); /* once only, and not while there is one */
	SAME(notified, 0);
	EXPECT(mq_notify(q, &e), 0);
	EXPECT(mq_send(q, "z", 1, 0), 0);
	SAME(notified, 0);
	char b[8192];
	while (mq_receive(q, b, sizeof b, 0) > 0)
		;
	EXPECT(mq_send(q, "z", 1, 0), 0);
	SAME(notified, SIGUSR1);
	e.sigev_signo = 65;
	EXPECT(mq_notify(q, &e), EINVAL);
	e.sigev_signo = 0; /* no signal, and nobody else can have one */
	EXPECT(mq_notify(q, &e), 0);
	e.sigev_signo = SIGUSR1;
	EXPECT(mq_notify(q, &e), EBUSY);
	mq_close(q);
	mq_unlink(name());
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static int called;

static void in_thread(union sigval v)
{
	pthread_mutex_lock(&lock);
	called = v.sival_int;
	pthread_cond_signal(&cond);
	pthread_mutex_unlock(&lock);
}

/* The C library has the kernel write to a netlink socket of its own, and makes a thread then. */
TEST(posix_notify_thread)
{
	mqd_t q = mq_open(name(), O_RDWR | O_CREAT | O_NONBLOCK, 0600, 0);
	NEED(q >= 0);
	struct sigevent e = {.sigev_notify = SIGEV_THREAD, .sigev_notify_function = in_thread, .sigev_value.sival_int = 5};
	EXPECT(mq_notify(q, &e), 0);
	EXPECT(mq_notify(q, &e), EBUSY);
	EXPECT(mq_notify(q, 0), 0);
	e.sigev_value.sival_int = 6;
	EXPECT(mq_notify(q, &e), 0);
	EXPECT(mq_send(q, "x", 1, 0), 0);
	pthread_mutex_lock(&lock);
	while (!called)
		pthread_cond_wait(&cond, &lock);
	pthread_mutex_unlock(&lock);
	SAME(called, 6);
	mq_close(q);
	mq_unlink(name());
}

/* A notification ends when the process closes any descriptor of the queue. */
TEST(posix_notify_closed)
{
	mqd_t q = mq_open(name(), O_RDWR | O_CREAT | O_NONBLOCK, 0600, 0), other = mq_open(name(), O_RDWR);
	NEED(q >= 0 && other >= 0);
	struct sigevent e = {.sigev_notify = SIGEV_NONE};
	EXPECT(mq_notify(q, &e), 0);
	EXPECT(mq_notify(other, &e), EBUSY);
	pid_t p = fork();
	if (p == 0) { /* another process' descriptor says nothing */
		mq_close(q);
		_exit(0);
	}
	waitpid(p, 0, 0);
	EXPECT(mq_notify(other, &e), EBUSY);
	mq_close(other);
	EXPECT(mq_notify(q, &e), 0);
	mq_close(q);
	mq_unlink(name());
	char s[300];
	memset(s, 'x', sizeof s - 1);
	s[0] = '/';
	s[sizeof s - 1] = 0;
	EXPECT(mq_unlink(s), ENAMETOOLONG);
}
