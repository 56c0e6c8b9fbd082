/* bulk.h - for programs that send much and look at what arrives. */
#ifndef BULK_H
#define BULK_H

#define BULK (1 << 20)

/* bulk sends BULK bytes, or receives and compares them; 0 when all went well. */
static int bulk(int fd, int sending)
{
	static u8 b[8192];
	u32 x = 1;
	for (int at = 0; at < BULK;) {
		long n = sizeof b < (size_t)(BULK - at) ? (long)sizeof b : BULK - at;
		if (sending)
			for (int i = 0; i < n; i++)
				b[i] = (x = x * 1664525 + 1013904223) >> 24;
		n = sending ? write(fd, b, n) : read(fd, b, n);
		if (n <= 0)
			return 1;
		if (!sending)
			for (int i = 0; i < n; i++)
				if (b[i] != (u8)((x = x * 1664525 + 1013904223) >> 24))
					return 2;
		at += n;
	}
	return 0;
}
#endif
