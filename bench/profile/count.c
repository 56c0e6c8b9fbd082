// A plugin for QEMU's TCG (docs/devel/tcg-plugins.rst) that counts how often each translation block runs.
//
//     -plugin count.so,control=FIFO,out=FILE
//
// 'r' written to the FIFO sets all counts to 0; 'd' writes FILE, a line "address instructions count" for each block that ran
// since, under another name first, so that FILE is whole when it is there. A block whose last instruction faults counts as a whole.
//
// The declarations are those of QEMU 7.2's qemu-plugin.h, version 1 of the interface, which Debian does not package.
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int op, void *counter, uint64_t add);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);

EXPORT int qemu_plugin_version = 1;

enum { ADD_U64 = 0, BITS = 20, BLOCKS = 1 << BITS };

static struct block {
	uint64_t address, instructions, count;
} *blocks; // a table of hashes; an empty place has no instructions
static int used;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; // guards the table's places
static const char *control, *out;

// find returns the place of a block; 0 when the table is full.
static struct block *find(uint64_t address, uint64_t instructions)
{
	struct block *b = 0;
	pthread_mutex_lock(&lock);
	for (uint64_t h = (address ^ instructions << 48) * 0x9e3779b97f4a7c15u >> (64 - BITS);; h = (h + 1) % BLOCKS) {
		b = &blocks[h];
		if (b->address == address && b->instructions == instructions)
			break;
		if (b->instructions)
			continue;
		if (used == BLOCKS * 3 / 4) {
			b = 0;
			break;
		}
		used++;
		b->address = address;
		b->instructions = instructions;
		break;
	}
	pthread_mutex_unlock(&lock);
	return b;
}

static void translated(plugin_id id, struct qemu_plugin_tb *tb)
{
	(void)id;
	struct block *b = find(qemu_plugin_tb_vaddr(tb), qemu_plugin_tb_n_insns(tb));
	if (b)
		qemu_plugin_register_vcpu_tb_exec_inline(tb, ADD_U64, &b->count, 1);
	else
		fprintf(stderr, "count: too many blocks, some are not counted\n");
}

static void dump(void)
{
	char name[4096];
	snprintf(name, sizeof name, "%s.part", out);
	FILE *f = fopen(name, "w");
	if (!f) {
		perror(name);
		return;
	}
	for (int i = 0; i < BLOCKS; i++)
		if (blocks[i].count)
			fprintf(f, "%lx %lu %lu\n", blocks[i].address, blocks[i].instructions, blocks[i].count);
	if (fclose(f) || rename(name, out))
		perror(out);
}

// serve does what is written to the FIFO, whose writers come and go.
static void *serve(void *unused)
{
	(void)unused;
	for (;;) {
		int fd = open(control, O_RDONLY);
		if (fd < 0) {
			perror(control);
			return 0;
		}
		for (char c; read(fd, &c, 1) == 1;) {
			if (c == 'r')
				for (int i = 0; i < BLOCKS; i++)
					blocks[i].count = 0;
			if (c == 'd')
				dump();
		}
		close(fd);
	}
}

EXPORT int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv)
{
	(void)info;
	for (int i = 0; i < argc; i++) {
		if (!strncmp(argv[i], "control=", 8))
			control = strdup(argv[i] + 8);
		if (!strncmp(argv[i], "out=", 4))
			out = strdup(argv[i] + 4);
	}
	blocks = calloc(BLOCKS, sizeof *blocks);
	pthread_t thread;
	if (!control || !out || !blocks || pthread_create(&thread, 0, serve, 0)) {
		fprintf(stderr, "count: control=FIFO and out=FILE are needed\n");
		return 1;
	}
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	return 0;
}
