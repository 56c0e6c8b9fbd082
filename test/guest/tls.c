/* tls.c - thread-local storage in all models (ELF TLS, 4): local and initial exec, and, with libtls.so, general dynamic and dlopen. */
#include "check.h"
#include <dlfcn.h>
#include <pthread.h>

static __thread int initialised = 42;
static __thread long zeroed[1000];
static __thread char aligned[64] __attribute__((aligned(256))) = "aligned";
__thread int exported = 7;

static void check_mine(int who)
{
	SAME(initialised, 42);
	SAME(zeroed[999], 0);
	SAME(((u64)aligned & 255), 0);
	CHECK(!strcmp(aligned, "aligned"));
	SAME(exported, 7);
	initialised = who;
	zeroed[999] = who;
	aligned[0] = (char)who;
}

static void *thread(void *v)
{
	check_mine((int)(long)v);
	sleep_ms(2);
	SAME(initialised, (long)v);
	SAME(zeroed[999], (long)v);
	return &initialised;
}

TEST(exec_models)
{
	pthread_t t[20];
	for (long i = 0; i < 20; i++)
		pthread_create(&t[i], 0, thread, (void *)(i + 1));
	for (int i = 0; i < 20; i++)
		pthread_join(t[i], 0);
	check_mine(99);
}

/* %fs:0 points to itself: the ABI's thread pointer. */
TEST(thread_pointer)
{
	u64 self, base;
	__asm__ volatile("mov %%fs:0, %0" : "=r"(self));
	SAME(self, (u64)pthread_self());
	__asm__ volatile("mov %%fs:16, %0" : "=r"(base));
	SAME(base, self);
}

#ifdef WITH_LIBRARY
extern int *tls_counter(void);

static void *in_library(void *v)
{
	int *c = tls_counter();
	SAME(*c, 1000);
	*c += (int)(long)v;
	sleep_ms(2);
	SAME(*tls_counter(), 1000 + (long)v);
	return c;
}

TEST(general_dynamic)
{
	pthread_t t[20];
	for (long i = 0; i < 20; i++)
		pthread_create(&t[i], 0, in_library, (void *)(i + 1));
	for (int i = 0; i < 20; i++)
		pthread_join(t[i], 0);
	SAME(*tls_counter(), 1000);
}

static void *in_plugin(void *fn)
{
	int *(*f)(void) = (int *(*)(void))fn;
	SAME(*f(), 2000);
	++*f();
	SAME(*f(), 2001);
	return 0;
}

TEST(dlopen_with_tls)
{
	pthread_t t[20];
	void *h = dlopen("/lib/libplugin.so", RTLD_NOW);
	if (!h)
		h = dlopen(getenv("PLUGIN") ? getenv("PLUGIN") : "", RTLD_NOW);
	if (!h)
		FAIL("%s", dlerror());
	NEED(h);
	void *f = dlsym(h, "plugin_counter");
	NEED(f);
	for (int i = 0; i < 20; i++)
		pthread_create(&t[i], 0, in_plugin, f);
	for (int i = 0; i < 20; i++)
		pthread_join(t[i], 0);
	in_plugin(f);
	CHECK(dlclose(h) == 0);
	CHECK(!dlopen("/no/such.so", RTLD_NOW));
}
#endif
