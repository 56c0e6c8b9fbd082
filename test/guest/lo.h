/* lo.h - for programs that look at sockets which packets on lo reach. */
#ifndef LO_H
#define LO_H
#include <netinet/in.h>
#include <sys/socket.h>

/* settle_lo waits until what was sent has come: packets on lo keep their order. It sends some of its own, ms apart. */
static void settle_lo(int rounds, int ms)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof a;
	char b;
	int u = socket(AF_INET, SOCK_DGRAM, 0);
	bind(u, (struct sockaddr *)&a, n);
	getsockname(u, (struct sockaddr *)&a, &n);
	for (int i = 0; i < rounds; i++) {
		if (sendto(u, "", 1, 0, (struct sockaddr *)&a, n) == 1)
			recv(u, &b, 1, 0);
		sleep_ms(ms);
	}
	close(u);
}
#endif
