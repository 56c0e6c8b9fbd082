/*
 * netpeer.c - talks over TCP with another machine, or itself elsewhere. Commands follow each other:
 *
 *   serve PORT N           answers N connections, all at once, with what they send; prints "serves" when it listens
 *   talk ADDRESS PORT N    sends N bytes and compares the answer; tries for a minute to connect
 *   nobody ADDRESS PORT    succeeds when nobody can be reached there within 4 s
 *   addresses              prints interface and address of all, but for lo and link-local ones
 *   show FILE              prints it
 *   host                   prints the host name
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void *echo(void *arg)
{
	int s = (int)(long)arg;
	char *b = malloc(65536);
	for (ssize_t n; (n = read(s, b, 65536)) > 0;)
		for (ssize_t k, done = 0; done < n; done += k)
			if ((k = write(s, b + done, n - done)) <= 0)
				die("echo");
	close(s);
	free(b);
	return 0;
}

static void serve(int port, int count)
{
	int l = socket(AF_INET6, SOCK_STREAM, 0), on = 1;
	struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(l, (struct sockaddr *)&a, sizeof a) || listen(l, 100))
		die("listen");
	puts("serves");
	fflush(stdout);
	pthread_t t[count];
	for (int i = 0; i < count; i++) {
		int s = accept(l, 0, 0);
		if (s < 0 || pthread_create(&t[i], 0, echo, (void *)(long)s))
			die("accept");
	}
	for (int i = 0; i < count; i++)
		pthread_join(t[i], 0);
	close(l);
}

/* A connection within a time, in ms; -1 when there is none. */
static int reach(const char *address, const char *port, int ms)
{
	struct addrinfo hint = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM}, *a;
	if (getaddrinfo(address, port, &hint, &a))
		die(address);
	int s = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK, 0), err = 0;
	socklen_t n = sizeof err;
	int r = connect(s, a->ai_addr, a->ai_addrlen);
	struct pollfd p = {s, POLLOUT, 0};
	if (r && errno == EINPROGRESS && poll(&p, 1, ms) == 1 && !getsockopt(s, SOL_SOCKET, SO_ERROR, &err, &n) && !err)
		r = 0;
	freeaddrinfo(a);
	if (!r) {
		fcntl(s, F_SETFL, 0);
		return s;
	}
	close(s);
	return -1;
}

static char byte(long i) { return (char)(i * 31 + i / 251); }

struct sending { int s; long n; };

static void *sender(void *arg)
{
	struct sending *w = arg;
	char b[30000];
	for (long done = 0; done < w->n;) {
		long k = w->n - done < (long)sizeof b ? w->n - done : (long)sizeof b;
		for (long i = 0; i < k; i++)
			b[i] = byte(done + i);
		if ((k = write(w->s, b, k)) <= 0)
			die("send");
		done += k;
	}
	shutdown(w->s, SHUT_WR);
	return 0;
}

static void talk(const char *address, const char *port, long n)
{
	int s = -1;
	for (int i = 0; i < 300 && (s = reach(address, port, 2000)) < 0; i++)
		usleep(200000);
	if (s < 0)
		die(address);
	struct sending w = {s, n};
	pthread_t t;
	pthread_create(&t, 0, sender, &w);
	char b[50000];
	long got = 0;
	for (ssize_t k; (k = read(s, b, sizeof b)) > 0; got += k)
		for (ssize_t i = 0; i < k; i++)
			if (b[i] != byte(got + i)) {
				printf("%s: byte %ld is wrong\n", address, got + i);
				exit(1);
			}
	pthread_join(t, 0);
	if (got != n) {
		printf("%s: %ld of %ld bytes came back\n", address, got, n);
		exit(1);
	}
	printf("talked to %s\n", address);
	fflush(stdout);
	close(s);
}

static void addresses(void)
{
	struct ifaddrs *list, *a;
	if (getifaddrs(&list))
		die("getifaddrs");
	for (a = list; a; a = a->ifa_next) {
		char text[100];
		if (!a->ifa_addr || !strcmp(a->ifa_name, "lo") || (a->ifa_addr->sa_family != AF_INET && a->ifa_addr->sa_family != AF_INET6))
			continue;
		socklen_t n = a->ifa_addr->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
		getnameinfo(a->ifa_addr, n, text, sizeof text, 0, 0, NI_NUMERICHOST);
		if (strncmp(text, "fe80", 4))
			printf("%s %s\n", a->ifa_name, text);
	}
	freeifaddrs(list);
}

static void show(const char *name)
{
	char b[4096];
	int fd = open(name, O_RDONLY);
	if (fd < 0)
		die(name);
	fflush(stdout);
	for (ssize_t n; (n = read(fd, b, sizeof b)) > 0;)
		if (write(1, b, n) != n)
			die("write");
	close(fd);
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		char *w = argv[i];
		if (!strcmp(w, "serve") && i + 2 < argc) {
			serve(atoi(argv[i + 1]), atoi(argv[i + 2]));
			i += 2;
		} else if (!strcmp(w, "talk") && i + 3 < argc) {
			talk(argv[i + 1], argv[i + 2], atol(argv[i + 3]));
			i += 3;
		} else if (!strcmp(w, "nobody") && i + 2 < argc) {
			if (reach(argv[i + 1], argv[i + 2], 4000) >= 0) {
				printf("%s is there\n", argv[i + 1]);
				return 1;
			}
			printf("nobody at %s\n", argv[i + 1]);
			i += 2;
		} else if (!strcmp(w, "addresses")) {
			addresses();
		} else if (!strcmp(w, "show") && i + 1 < argc) {
			show(argv[++i]);
		} else if (!strcmp(w, "host")) {
			char b[300] = "";
			gethostname(b, sizeof b - 1);
			puts(b);
		} else {
			fprintf(stderr, "netpeer: %s?\n", w);
			return 2;
		}
		fflush(stdout);
	}
	return 0;
}
