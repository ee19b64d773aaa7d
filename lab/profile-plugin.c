// SPDX-License-Identifier: GPL-2.0
/*
 * A plugin for QEMU's emulation: executed guest instructions, by address, between two markers.
 *
 * The markers are NOPs that a guest's program executes, here in C:
 *
 *	asm volatile(".byte 0x0f,0x1f,0x80,0x42,0x4d,0x47,0x31");	start (and set to zero)
 *	asm volatile(".byte 0x0f,0x1f,0x80,0x42,0x4d,0x47,0x32");	stop (and write)
 *
 * Loaded by -plugin FILE.so,out=COUNTS. COUNTS gets "WINDOW n" for each pair of markers, then lines "ADDRESS INSTRUCTIONS EXECUTIONS", a
 * translated block each; lab/profile-symbols makes functions of them. One virtual CPU. A block that is left early, by an exception, counts as a
 * whole: an error of a few per cent at the most.
 *
 * INTERFACE is the version of the plugins' interface: 1 up to QEMU 8.1, 2 up to 9.0, 3 up to 10, 7 later (seen to work: 1 and 7). Prototypes are
 * declared here since Debian has no package with the header.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef void (*udata_cb)(unsigned int vcpu, void *udata);

#if INTERFACE < 7
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, void (*cb)(qemu_plugin_id_t id, struct qemu_plugin_tb *tb));
#else
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, void (*cb)(struct qemu_plugin_tb *tb, void *udata), void *udata);
#endif
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, udata_cb cb, int flags, void *udata);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn, udata_cb cb, int flags, void *udata);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t idx);
#if INTERFACE < 3
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
#else
size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *insn, void *dest, size_t len);
#endif
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);

__attribute__((visibility("default"))) int qemu_plugin_version = INTERFACE;

struct block {
	uint64_t address, size, executed;
	struct block *next;
};

static struct block *blocks;
static const char *path = "iprof.out";
static int on, windows;

static void executed(unsigned int vcpu, void *block)
{
	(void)vcpu;
	if (on)
		((struct block *)block)->executed++;
}

static void start(unsigned int vcpu, void *unused)
{
	(void)vcpu, (void)unused;
	for (struct block *b = blocks; b; b = b->next)
		b->executed = 0;
	on = 1;
}

static void stop(unsigned int vcpu, void *unused)
{
	FILE *out;

	(void)vcpu, (void)unused;
	if (!on)
		return;
	on = 0;
	out = fopen(path, windows ? "a" : "w");
	if (!out) {
		perror(path);
		exit(1);
	}
	fprintf(out, "WINDOW %d\n", windows++);
	for (struct block *b = blocks; b; b = b->next) {
		if (b->executed)
			fprintf(out, "%" PRIx64 " %" PRIu64 " %" PRIu64 "\n", b->address, b->executed * b->size, b->executed);
	}
	fclose(out);
}

static void translate(struct qemu_plugin_tb *tb)
{
	static const uint8_t marker[] = { 0x0f, 0x1f, 0x80, 0x42, 0x4d, 0x47 };
	struct block *b = calloc(1, sizeof(*b));

	if (!b)
		abort();
	b->size = qemu_plugin_tb_n_insns(tb);
	b->address = qemu_plugin_tb_vaddr(tb);
	b->next = blocks;
	blocks = b;
	qemu_plugin_register_vcpu_tb_exec_cb(tb, executed, 0, b);

	for (size_t i = 0; i < b->size; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
		uint8_t byte[7];

		if (qemu_plugin_insn_size(insn) != sizeof(byte))
			continue;
#if INTERFACE < 3
		memcpy(byte, qemu_plugin_insn_data(insn), sizeof(byte));
#else
		qemu_plugin_insn_data(insn, byte, sizeof(byte));
#endif
		if (memcmp(byte, marker, sizeof(marker)))
			continue;
		if (byte[6] == 0x31)
			qemu_plugin_register_vcpu_insn_exec_cb(insn, start, 0, NULL);
		if (byte[6] == 0x32)
			qemu_plugin_register_vcpu_insn_exec_cb(insn, stop, 0, NULL);
	}
}

#if INTERFACE < 7
static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	(void)id;
	translate(tb);
}
#else
static void translated(struct qemu_plugin_tb *tb, void *unused)
{
	(void)unused;
	translate(tb);
}
#endif

__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv)
{
	(void)info;
	for (int i = 0; i < argc; i++) {
		if (!strncmp(argv[i], "out=", 4))
			path = strdup(argv[i] + 4);
	}
#if INTERFACE < 7
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
#else
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated, NULL);
#endif
	return 0;
}
