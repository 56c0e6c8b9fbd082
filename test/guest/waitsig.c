/* waitsig.c - prints "ready", then each signal that arrives; SIGTERM ends it with status 3. */
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static void on_signal(int s)
{
	char m[] = "handled 00\n";
	m[8] = (char)('0' + s / 10);
	m[9] = (char)('0' + s % 10);
	if (write(1, m, sizeof m - 1) < 0)
		_exit(1);
	if (s == SIGTERM)
		_exit(3);
}

int main(void)
{
	static const int all[] = {SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGTERM};
	for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
		signal(all[i], on_signal);
	if (write(1, "ready\n", 6) < 0)
		return 1;
	for (;;)
		pause();
}
