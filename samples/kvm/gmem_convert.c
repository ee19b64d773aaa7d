// SPDX-License-Identifier: GPL-2.0
/*
 * A small VMM that converts guest memory in place
 *
 * The memory of its VM is one guest_memfd, mapped once.  Each page is either
 * shared, and then the VMM reaches it through the mapping, or private, and then
 * only the guest does.  A page changes sides where it lies: nothing is copied,
 * freed or allocated, one ioctl on the guest_memfd says whose it is.
 *
 * The VMM reads a file into shared pages.  The guest asks for them to be made
 * private, computes the SHA-256 of what is now its own memory, and asks to
 * share one page, the one with the digest.  On the way the VMM meets the two
 * refusals that every VMM has to know: of private pages that it touches itself,
 * and EAGAIN for a page that somebody still holds.
 *
 * The same is then done as it has to be done without in-place conversion: with
 * two backings, private pages in a guest_memfd and shared pages in a memfd,
 * where a page that changes sides loses its contents.
 *
 * Software-protected VMs are for development: only the host's kernel keeps the
 * host from their private memory.  SEV-SNP and TDX VMs are created differently,
 * but convert by the same calls.
 *
 * What a VMM has to do for in-place conversion is in gmem_memory.h, which is meant
 * to be copied.  The rest, i.e. this file, is the demonstration.
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/kvm.h>
#include <linux/kvm_para.h>
#include <linux/mman.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gmem_memory.h"

#define PAGE_SIZE	GMEM_PAGE_SIZE
#define PAGE_ALIGN(x)	(((x) + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1))
#define MAX_FILE_SIZE	(64ULL << 20)

/*
 * Guest physical memory, one memslot from 0 on: so an offset in the guest_memfd
 * and a guest physical address are the same number.
 *
 * Code and page tables stay shared, as KVM reads them when it has to emulate an
 * instruction.  The stack and the page for the digest are private from the start.
 */
#define PARAMS_GPA	0x001000ULL
#define PML4_GPA	0x002000ULL
#define PDPT_GPA	0x003000ULL
#define PD_GPA		0x004000ULL
#define CODE_GPA	0x005000ULL
#define STACK_GPA	0x007000ULL
#define DIGEST_GPA	0x00b000ULL
#define INPUT_GPA	0x200000ULL

struct sha256_constants {
	__u32 h[8];
	__u32 k[64];
};

/* What the VMM tells the guest, in the shared page at PARAMS_GPA */
struct params {
	struct sha256_constants sha256;
	__u64 size;		/* of the file, in bytes */
	__u64 work;		/* with two backings: where to copy it; else 0 */
	__u64 use_vmmcall;	/* AMD's hypercall instruction, or Intel's */
	__u64 error;		/* out: the answer to a request that failed */
};

/* What the guest tells the VMM, by a write to this I/O port */
#define REPORT_PORT	0x10

enum report {
	REPORT_READ_INPUT = 1,
	REPORT_HASHED,
	REPORT_DONE,
	REPORT_FAILED,
};

/*
 * The guest
 *
 * This is ordinary C, but what runs is a copy in guest memory, without the rest
 * of this program: no libc, no global variables, no constants in .rodata.  So
 * all of it is inlined into one function with a section of its own, all that it
 * needs comes through the pointer that it is given, and the vector registers are
 * left alone.  (Their constants are in .rodata, and nothing has turned them on.)
 */
#define __guest_main							\
	__attribute__((							\
		section("guest_code"),					\
		target("general-regs-only"), no_stack_protector))

#define __guest								\
	__attribute__((							\
		always_inline,						\
		target("general-regs-only"), no_stack_protector))

/* Read a byte, and do nothing with it */
static inline __guest void touch(const void *byte)
{
	asm volatile("movb %0, %%al" : : "m"(*(const char *)byte) : "al");
}

static inline __guest __u32 ror32(__u32 x, unsigned int n)
{
	return x >> n | x << (32 - n);
}

/* Byte @i of the message when SHA-256 has padded it to @total bytes */
static inline __guest __u8 sha256_byte(const __u8 *data, __u64 size, __u64 total,
				       __u64 i)
{
	if (i < size)
		return data[i];
	if (i == size)
		return 0x80;
	return i >= total - 8 ? size * 8 >> (total - 1 - i) * 8 : 0;
}

/* FIPS 180-4, to be read and not to be fast.  The host uses it as well. */
static inline __guest void sha256(const struct sha256_constants *c, const __u8 *data,
				  __u64 size, __u32 *h)
{
	__u64 total = (size + 9 + 63) & ~63ULL, pos;
	__u32 s[8], w[64], t1, t2;
	unsigned int i;

	for (i = 0; i < 8; i++)
		h[i] = c->h[i];

	for (pos = 0; pos < total; pos += 64) {
		for (i = 0; i < 64; i++)
			w[i / 4] = (i % 4 ? w[i / 4] << 8 : 0) |
				   sha256_byte(data, size, total, pos + i);
		for (i = 16; i < 64; i++) {
			t1 = w[i - 15];
			t2 = w[i - 2];
			w[i] = w[i - 16] + w[i - 7] +
			       (ror32(t1, 7) ^ ror32(t1, 18) ^ t1 >> 3) +
			       (ror32(t2, 17) ^ ror32(t2, 19) ^ t2 >> 10);
		}

		for (i = 0; i < 8; i++)
			s[i] = h[i];
/* a is S(0), h is S(7): all move on by one place in each round */
#define S(n) s[((n) - i) & 7]
		for (i = 0; i < 64; i++) {
			t1 = S(7) + (ror32(S(4), 6) ^ ror32(S(4), 11) ^ ror32(S(4), 25)) +
			     ((S(4) & S(5)) ^ (~S(4) & S(6))) + c->k[i] + w[i];
			t2 = (ror32(S(0), 2) ^ ror32(S(0), 13) ^ ror32(S(0), 22)) +
			     ((S(0) & S(1)) ^ (S(0) & S(2)) ^ (S(1) & S(2)));
			S(3) += t1;
			S(7) = t1 + t2;
		}
		for (i = 0; i < 8; i++)
			h[i] += s[i];
	}
}

static inline __guest void guest_report(__u8 report)
{
	asm volatile("outb %0, %1" : : "a"(report), "Nd"((__u16)REPORT_PORT) : "memory");
}

static inline __guest void guest_map_gpa_range(struct params *p, __u64 gpa, __u64 size,
					       __u64 attributes)
{
	__u64 ret = KVM_HC_MAP_GPA_RANGE, pages = PAGE_ALIGN(size) / PAGE_SIZE;

	if (p->use_vmmcall)
		asm volatile("vmmcall" : "+a"(ret)
			     : "b"(gpa), "c"(pages), "d"(attributes) : "memory");
	else
		asm volatile("vmcall" : "+a"(ret)
			     : "b"(gpa), "c"(pages), "d"(attributes) : "memory");

	if (ret) {
		p->error = ret;
		guest_report(REPORT_FAILED);
	}
}

static __guest_main void guest_main(struct params *p)
{
	__u64 from = INPUT_GPA, to = p->work, bytes = p->size;
	__u32 *shared_digest = (void *)DIGEST_GPA, digest[8], i;

	/* A byte of each page: from here on the guest has all of them mapped. */
	for (; from < INPUT_GPA + p->size; from += PAGE_SIZE)
		touch((void *)from);
	guest_report(REPORT_READ_INPUT);

	/* With two backings, what is to be kept has to be copied. */
	from = INPUT_GPA;
	if (p->work)
		asm volatile("rep movsb" : "+S"(from), "+D"(to), "+c"(bytes) : : "memory");

	guest_map_gpa_range(p, INPUT_GPA, p->size, KVM_MAP_GPA_RANGE_ENCRYPTED);

	sha256(&p->sha256, (void *)(p->work ? p->work : INPUT_GPA), p->size, digest);
	for (i = 0; i < 8; i++)
		shared_digest[i] = digest[i];
	guest_report(REPORT_HASHED);

	guest_map_gpa_range(p, DIGEST_GPA, PAGE_SIZE, KVM_MAP_GPA_RANGE_DECRYPTED);

	/* With two backings, what was written is gone now. */
	for (i = 0; p->work && i < 8; i++)
		shared_digest[i] = digest[i];
	guest_report(REPORT_DONE);

	for (;;)
		asm volatile("hlt");
}

/* The section's bounds are symbols that the linker makes. */
static const char *guest_image(__u64 *size)
{
	const char *start, *stop;

	asm("leaq __start_guest_code(%%rip), %0" : "=r"(start));
	asm("leaq __stop_guest_code(%%rip), %0" : "=r"(stop));
	*size = stop - start;
	return start;
}

/*
 * The host
 */
static const struct sha256_constants sha256_constants = {
	.h = {
		0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
		0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
	},
	.k = {
		0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1,
		0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3,
		0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
		0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
		0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
		0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
		0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
		0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
		0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
		0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
		0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
	},
};

enum figure {
	GMEM_PAGES, MEMFD_PAGES, ALL_PAGES, RSS_KB, PTE_KB, KVM_PTE_KB, HOST_FAULTS,
	GUEST_FAULTS, BYTES_COPIED, NR_FIGURES
};

static const char *const figure_names[NR_FIGURES] = {
	[GMEM_PAGES]	= "guest_memfd pages, at most",
	[MEMFD_PAGES]	= "memfd pages, at most",
	[ALL_PAGES]	= "pages in all, at most",
	[RSS_KB]	= "process RSS, at most, kB",
	[PTE_KB]	= "process page tables, at most, kB",
	[KVM_PTE_KB]	= "KVM page tables (host-wide), at most, kB",
	[HOST_FAULTS]	= "page faults of the process",
	[GUEST_FAULTS]	= "page faults of the guest",
	[BYTES_COPIED]	= "bytes copied by the guest",
};

#define UNKNOWN		(-1LL)

/* What a run leaves to the parent, in memory shared with it */
struct result {
	bool finished;
	bool unsupported;	/* no two backings in this kernel */
	__u32 digest[8];
	__s64 figures[NR_FIGURES];
};

enum range_id { BOOT, STACK, DIGEST, INPUT, WORK, NR_RANGES };

struct range {
	const char *name;
	__u64 gpa;
	__u64 size;
};

struct vm {
	bool in_place;
	int kvm_fd, fd, vcpu_fd;
	struct gmem_memory memory;
	int memfd;		/* with two backings: the shared pages, mapped at memory.mem */
	struct kvm_run *run;
	__u64 size;
	struct range ranges[NR_RANGES];
	const char *states[NR_RANGES][3];	/* at the start, when hashed, at the end */
	int nr_steps;

	/* The page that the VMM holds, so that a conversion is refused */
	__u64 pin_gpa;
	int pin_fds[2];
	bool pinned, refused;

	__s64 kvm_pte_base;
	struct result *result;
};

#define xioctl(fd, cmd, arg)						\
({									\
	int __ret = ioctl(fd, cmd, arg);				\
									\
	if (__ret < 0)							\
		err(1, #cmd);						\
	__ret;								\
})

/* Where the VMM has the page at @gpa, if it is shared */
static void *host_ptr(struct vm *vm, __u64 gpa)
{
	return (__u8 *)vm->memory.mem + gpa;
}

static __u64 count_shared(struct vm *vm, const struct range *r)
{
	__u64 pages = 0, i;

	for (i = 0; i < r->size; i += PAGE_SIZE)
		pages += !vm->memory.is_private[(r->gpa + i) / PAGE_SIZE];
	return pages;
}

static const char *state_of(struct vm *vm, const struct range *r)
{
	__u64 shared = count_shared(vm, r);

	return !shared ? "private" : shared == r->size / PAGE_SIZE ? "shared" : "mixed";
}

/* A line of the table of steps, up to the result */
static void print_columns(struct vm *vm, const char *who, const char *what,
			  const struct range *r, const char *before)
{
	printf(" %2d  %-5s  %-32s  %-6s  %-7s %s %-7s  ", ++vm->nr_steps, who, what, r->name,
	       before ? before : state_of(vm, r), before ? "->" : "  ",
	       before ? state_of(vm, r) : "");
}

#define print_step(vm, who, what, range, before, ...)			\
do {									\
	print_columns(vm, who, what, range, before);			\
	printf(__VA_ARGS__);						\
	putchar('\n');							\
} while (0)

/*
 * Memory use
 */

/* A figure in kB from a file in /proc */
static __s64 proc_kb(const char *path, const char *field)
{
	FILE *f = fopen(path, "r");
	__s64 kb = UNKNOWN;
	char line[256];

	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, field, strlen(field)))
			kb = atoll(line + strlen(field));
	if (f)
		fclose(f);
	return kb;
}

/* The page tables by which KVM maps memory into guests, of all VMs together */
static __s64 kvm_pte_kb(void)
{
	int fd = open("/proc/sys/vm/stat_refresh", O_RDONLY);
	char c;

	/* Each CPU counts for itself.  Only root can have it summed up, by a read. */
	if (fd < 0 || read(fd, &c, 1) < 0)
		return UNKNOWN;
	close(fd);
	return proc_kb("/proc/meminfo", "SecPageTables:");
}

/* A statistic of the vCPU, found by its name */
static __s64 vcpu_stat(struct vm *vm, const char *name)
{
	int fd = ioctl(vm->vcpu_fd, KVM_GET_STATS_FD, NULL);
	static __u64 words[8192];
	char *buf = (char *)words;
	struct kvm_stats_header *header = (void *)buf;
	struct kvm_stats_desc *desc;
	__u32 i;

	if (fd < 0 || read(fd, buf, sizeof(words)) < (ssize_t)sizeof(*header))
		return UNKNOWN;
	close(fd);
	for (i = 0; i < header->num_desc; i++) {
		desc = (void *)(buf + header->desc_offset +
				i * (sizeof(*desc) + header->name_size));
		if (!strcmp(desc->name, name))
			return *(__s64 *)(buf + header->data_offset + desc->offset);
	}
	return UNKNOWN;
}

/* The pages that a memfd or guest_memfd has.  (Of a guest_memfd, fstat() has no idea.) */
static __s64 file_pages(int fd)
{
	struct cachestat_range all = { };
	struct cachestat stat;

	if (fd < 0)
		return 0;
	return syscall(__NR_cachestat, fd, &all, &stat, 0) ? UNKNOWN : (__s64)stat.nr_cache;
}

static void record(struct vm *vm, enum figure which, __s64 value)
{
	if (value > vm->result->figures[which])
		vm->result->figures[which] = value;
}

static void sample_memory(struct vm *vm)
{
	__s64 gmem = file_pages(vm->memory.fd), memfd = file_pages(vm->memfd);
	__s64 kvm_pte = kvm_pte_kb();
	struct rusage usage = { };

	getrusage(RUSAGE_SELF, &usage);
	record(vm, GMEM_PAGES, gmem);
	record(vm, MEMFD_PAGES, memfd);
	record(vm, ALL_PAGES, gmem == UNKNOWN ? UNKNOWN : gmem + memfd);
	record(vm, RSS_KB, proc_kb("/proc/self/status", "VmHWM:"));
	record(vm, PTE_KB, proc_kb("/proc/self/status", "VmPTE:"));
	record(vm, KVM_PTE_KB, kvm_pte == UNKNOWN ? UNKNOWN : kvm_pte - vm->kvm_pte_base);
	record(vm, HOST_FAULTS, usage.ru_minflt);
	record(vm, GUEST_FAULTS, vcpu_stat(vm, "pf_taken"));
}

/*
 * What the host can read
 */
static sigjmp_buf sigbus_env;

static void on_sigbus(int sig)
{
	(void)sig;
	siglongjmp(sigbus_env, 1);
}

static bool can_touch(const void *byte)
{
	if (sigsetjmp(sigbus_env, 1))
		return false;
	touch(byte);
	return true;
}

/* How many pages of a range can be read through the mapping? */
static __u64 count_mapped(struct vm *vm, const struct range *r)
{
	struct sigaction action = { .sa_handler = on_sigbus }, old;
	__u64 pages = 0, i;

	sigaction(SIGBUS, &action, &old);
	for (i = 0; i < r->size; i += PAGE_SIZE)
		pages += can_touch(host_ptr(vm, r->gpa + i));
	sigaction(SIGBUS, &old, NULL);
	return pages;
}

/*
 * How many pages of a range does the kernel refuse to read for us?  It has to say
 * EFAULT, and to leave the buffer as it was.  Negative: this kernel never reads.
 */
static __s64 count_refused(struct vm *vm, const struct range *r)
{
	static __u8 buf[PAGE_SIZE], untouched[PAGE_SIZE];
	struct iovec local = { buf, PAGE_SIZE }, remote = { NULL, PAGE_SIZE };
	__s64 pages = 0;
	__u64 i;

	memset(untouched, 0xa5, PAGE_SIZE);
	for (i = 0; i < r->size; i += PAGE_SIZE) {
		memset(buf, 0xa5, PAGE_SIZE);
		remote.iov_base = host_ptr(vm, r->gpa + i);
		if (process_vm_readv(getpid(), &local, 1, &remote, 1, 0) >= 0)
			continue;
		if (errno != EFAULT)
			return -errno;
		pages += !memcmp(buf, untouched, PAGE_SIZE);
	}
	return pages;
}

/* Private memory is refused to the host, whichever way it asks. */
static void show_refusals(struct vm *vm, const struct range *r)
{
	__s64 pages = r->size / PAGE_SIZE, mapped = count_mapped(vm, r);
	__s64 refused = count_refused(vm, r);

	print_step(vm, "VMM", "reads it through its mapping", r, NULL,
		   "SIGBUS, %lld of %lld pages", pages - mapped, pages);
	if (mapped)
		errx(1, "the mapping has private pages");
	if (refused < 0) {
		print_step(vm, "VMM", "reads it by process_vm_readv()", r, NULL,
			   "not shown: %s (CONFIG_CROSS_MEMORY_ATTACH)", strerror(-refused));
		return;
	}
	print_step(vm, "VMM", "reads it by process_vm_readv()", r, NULL,
		   "EFAULT and no byte, %lld of %lld pages", refused, pages);
	if (refused != pages)
		errx(1, "the kernel reads private pages for the VMM");
}

/* Note the state of all ranges.  In place, the mapping tells if the record is right. */
static void note_states(struct vm *vm, int moment)
{
	int i;

	for (i = 0; i < NR_RANGES; i++) {
		vm->states[i][moment] = state_of(vm, &vm->ranges[i]);
		if (vm->in_place &&
		    count_mapped(vm, &vm->ranges[i]) != count_shared(vm, &vm->ranges[i]))
			errx(1, "the mapping does not agree with the VMM's record");
	}
}

static void print_states(struct vm *vm)
{
	struct range *r;
	int i;

	printf("\n     range   guest physical       pages  start    hashed   end\n");
	for (i = 0; i < NR_RANGES; i++) {
		r = &vm->ranges[i];
		if (r->size)
			printf("     %-6s  0x%07llx-0x%07llx  %5llu  %-7s  %-7s  %s\n", r->name,
			       r->gpa, r->gpa + r->size - 1, r->size / PAGE_SIZE,
			       vm->states[i][0], vm->states[i][1], vm->states[i][2]);
	}
	putchar('\n');
}

/*
 * Hold a page.  A buffer that is registered with io_uring is pinned as long as it
 * is registered, as is all memory that VFIO maps for a device.
 */
static void pin_page(struct vm *vm, const struct range *r, __u64 gpa)
{
	struct iovec iov = { host_ptr(vm, gpa), PAGE_SIZE };
	struct io_uring_params params = { };
	const char *how = "registered with io_uring";

	vm->pin_fds[1] = -1;
	vm->pin_fds[0] = syscall(__NR_io_uring_setup, 1, &params);
	if (vm->pin_fds[0] < 0) {
		how = "in a pipe, for want of io_uring";
		if (pipe(vm->pin_fds) || vmsplice(vm->pin_fds[1], &iov, 1, 0) < 0)
			err(1, "cannot put a page into a pipe");
	} else if (syscall(__NR_io_uring_register, vm->pin_fds[0], IORING_REGISTER_BUFFERS,
			   &iov, 1)) {
		err(1, "cannot register a page with io_uring (see ulimit -l)");
	}
	vm->pin_gpa = gpa;
	vm->pinned = true;
	print_step(vm, "VMM", "pins one page", r, NULL, "0x%llx is %s", gpa, how);
}

/* Let go of the page. */
static void unpin_page(struct vm *vm, const struct range *r)
{
	/* To close the ring unpins the page as well, but some time after close(). */
	if (vm->pin_fds[1] < 0)
		syscall(__NR_io_uring_register, vm->pin_fds[0], IORING_UNREGISTER_BUFFERS, NULL, 0);
	else
		close(vm->pin_fds[1]);
	close(vm->pin_fds[0]);
	vm->pinned = false;
	print_step(vm, "VMM", "unpins it and tries again", r, NULL, "ok");
}

/* EAGAIN names the very page, and no page of the range has changed. */
static void show_again(struct vm *vm, const char *who, const struct range *r)
{
	__u64 mapped;

	print_step(vm, who, "has it made private", r, state_of(vm, r),
		   "EAGAIN, error_offset 0x%llx", vm->pin_gpa);

	mapped = count_mapped(vm, r);
	print_step(vm, "VMM", "reads it through its mapping", r, NULL,
		   "ok, %llu of %llu pages still shared", mapped, r->size / PAGE_SIZE);
	if (mapped != count_shared(vm, r))
		errx(1, "a conversion that was refused changed pages");
	vm->refused = true;
}

/*
 * Convert in place.  A VMM that means to convert lets go of the memory first, see
 * gmem_convert().  This one has kept a page, to show what happens then.
 */
static int set_private(struct vm *vm, const char *who, const struct range *r, __u64 gpa,
		       __u64 pages, bool private)
{
	__u64 error_gpa;
	int ret;

	ret = gmem_convert(&vm->memory, gpa, pages, private, &error_gpa);
	if (ret == -EAGAIN && vm->pinned && error_gpa == vm->pin_gpa) {
		show_again(vm, who, r);
		unpin_page(vm, r);
		ret = gmem_convert(&vm->memory, gpa, pages, private, &error_gpa);
	}
	if (ret)
		warnx("cannot convert 0x%llx: %s", error_gpa, strerror(-ret));
	return ret;
}

/*
 * The same with two backings.  The attribute only says from which of them the
 * guest's page comes; the other has to be freed, or memory would be used twice.
 */
static int set_private_two_backings(struct vm *vm, __u64 gpa, __u64 pages, bool private)
{
	__u64 size = pages * PAGE_SIZE;
	struct kvm_memory_attributes attrs = {
		.address = gpa,
		.size = size,
		.attributes = private ? KVM_MEMORY_ATTRIBUTE_PRIVATE : 0,
	};

	xioctl(vm->fd, KVM_SET_MEMORY_ATTRIBUTES, &attrs);
	if (fallocate(private ? vm->memfd : vm->memory.fd,
		      FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, gpa, size))
		err(1, "cannot free the other side of 0x%llx", gpa);
	memset(vm->memory.is_private + gpa / PAGE_SIZE, private, pages);
	return 0;
}

/*
 * Guests ask for what they like.  This one may have any part of a range converted
 * but those that the VMM and KVM read themselves.  No sum here can wrap.
 */
static int convert(struct vm *vm, const char *who, __u64 gpa, __u64 pages, bool private)
{
	struct range *r = &vm->ranges[STACK];
	const char *before;
	int ret;

	while (r < vm->ranges + NR_RANGES && gpa - r->gpa >= r->size)
		r++;
	if (r == vm->ranges + NR_RANGES || gpa % PAGE_SIZE || !pages ||
	    pages > (r->gpa + r->size - gpa) / PAGE_SIZE)
		return -EINVAL;

	before = state_of(vm, r);
	if (vm->in_place)
		ret = set_private(vm, who, r, gpa, pages, private);
	else
		ret = set_private_two_backings(vm, gpa, pages, private);
	print_step(vm, who, private ? "has it made private" : "has it made shared", r, before,
		   "%s", ret ? strerror(-ret) : "ok");
	return ret;
}

/* True when the guest has done its work */
static bool handle_report(struct vm *vm, enum report report)
{
	struct params *p = host_ptr(vm, PARAMS_GPA);
	struct range *digest = &vm->ranges[DIGEST], *input = &vm->ranges[INPUT];

	switch (report) {
	case REPORT_READ_INPUT:
		print_step(vm, "guest", "reads the file", input, NULL, "ok");
		if (vm->in_place)
			pin_page(vm, input, input->gpa + input->size / PAGE_SIZE / 2 * PAGE_SIZE);
		return false;
	case REPORT_HASHED:
		if (vm->in_place) {
			print_step(vm, "guest", "hashes the file", input, NULL, "ok");
			show_refusals(vm, input);
			show_refusals(vm, digest);
		} else {
			print_step(vm, "guest", "hashes its copy of the file", &vm->ranges[WORK],
				   NULL, "ok");
		}
		note_states(vm, 1);
		return false;
	case REPORT_DONE:
		/* Look first: a guest could have SIGBUS sent to a VMM that trusts it. */
		if (vm->memory.is_private[DIGEST_GPA / PAGE_SIZE])
			errx(1, "the guest does not share its digest");
		memcpy(vm->result->digest, host_ptr(vm, DIGEST_GPA), sizeof(vm->result->digest));
		print_step(vm, "VMM", "reads the digest", digest, NULL, "ok");
		return true;
	default:
		errx(1, "the guest gives up: the answer to its request was %lld", p->error);
	}
}

static void run_guest(struct vm *vm)
{
	struct gmem_request request;
	struct kvm_run *run = vm->run;
	int ret;

	for (;;) {
		ret = gmem_run_vcpu(vm->vcpu_fd, run);
		if (ret == -EINTR)
			continue;
		if (ret)
			errx(1, "KVM_RUN: %s", strerror(-ret));
		sample_memory(vm);

		ret = gmem_get_request(&vm->memory, run, &request);
		if (ret < 0)
			errx(1, "KVM has no page for the guest at 0x%llx", request.gpa);
		if (ret) {
			ret = convert(vm, "guest", request.gpa, request.nr_pages, request.private);
			if (gmem_answer_request(run, ret))
				errx(1, "the guest cannot have the page at 0x%llx %s", request.gpa,
				     request.private ? "private" : "shared");
			continue;
		}

		if (run->exit_reason != KVM_EXIT_IO)
			errx(1, "the guest stopped with exit reason %u", run->exit_reason);
		if (run->io.port == REPORT_PORT &&
		    handle_report(vm, *((__u8 *)run + run->io.data_offset)))
			return;
	}
}

/* The other mode, as of Linux 7.3.  Returns -ENOTTY if this kernel does not have it. */
static int create_vm_two_backings(int kvm_fd)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_EXIT_HYPERCALL,
		.args = { 1 << KVM_HC_MAP_GPA_RANGE },
	};
	int fd;

	fd = xioctl(kvm_fd, KVM_CREATE_VM, KVM_X86_SW_PROTECTED_VM);
	if (ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_MEMORY_ATTRIBUTES) <= 0)
		return -ENOTTY;
	xioctl(fd, KVM_ENABLE_CAP, &cap);
	return fd;
}

static void create_memory_two_backings(struct vm *vm)
{
	struct kvm_create_guest_memfd gmem = { .size = vm->size };
	struct kvm_userspace_memory_region2 slot = {
		.flags = KVM_MEM_GUEST_MEMFD,
		.memory_size = vm->size,
	};

	vm->memfd = memfd_create("shared", MFD_CLOEXEC);
	if (vm->memfd < 0 || ftruncate(vm->memfd, vm->size))
		err(1, "cannot create a memfd");
	vm->memory.size = vm->size;
	vm->memory.fd = xioctl(vm->fd, KVM_CREATE_GUEST_MEMFD, &gmem);
	vm->memory.mem = mmap(NULL, vm->size, PROT_READ | PROT_WRITE, MAP_SHARED, vm->memfd, 0);
	vm->memory.is_private = calloc(vm->size / PAGE_SIZE, sizeof(*vm->memory.is_private));
	if (vm->memory.mem == MAP_FAILED || !vm->memory.is_private)
		err(1, "cannot map guest memory");

	slot.userspace_addr = (unsigned long)vm->memory.mem;
	slot.guest_memfd = vm->memory.fd;
	xioctl(vm->fd, KVM_SET_USER_MEMORY_REGION2, &slot);
}

/* False: one with two backings is asked for, and this kernel has none. */
static bool create_vm(struct vm *vm)
{
	int types;

	vm->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (vm->kvm_fd < 0)
		err(1, "cannot open /dev/kvm (turn on virtualization in the firmware,\n"
		    "load kvm_amd or kvm_intel, get access to the file)");

	types = ioctl(vm->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_VM_TYPES);
	if (types < 0 || !(types & 1 << KVM_X86_SW_PROTECTED_VM))
		errx(1, "KVM has no software-protected VMs: build the kernel with\n"
		     "CONFIG_KVM_SW_PROTECTED_VM, leave on kvm.tdp_mmu and nested paging");

	if (!vm->in_place) {
		vm->fd = create_vm_two_backings(vm->kvm_fd);
		return vm->fd >= 0;
	}

	vm->fd = gmem_create_vm(vm->kvm_fd, KVM_X86_SW_PROTECTED_VM);
	if (vm->fd == -EINVAL)
		errx(1, "this kernel does not convert in place, boot one that does\n"
		     "(KVM_CAP_GUEST_MEMFD_IN_PLACE)");
	if (vm->fd < 0)
		errx(1, "cannot create a VM: %s", strerror(-vm->fd));
	return true;
}

static void create_memory(struct vm *vm)
{
	int ret;

	if (!vm->in_place) {
		create_memory_two_backings(vm);
		return;
	}
	ret = gmem_create_memory(&vm->memory, vm->fd, 0, 0, vm->size);
	if (ret)
		errx(1, "cannot create guest memory: %s", strerror(-ret));
}

/* A vCPU in long mode that is about to run guest_main(PARAMS_GPA) */
static void create_vcpu(struct vm *vm)
{
	struct kvm_segment data = {
		.limit = ~0U, .selector = 16, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1,
	};
	struct kvm_segment code = {
		.limit = ~0U, .selector = 8, .type = 11, .present = 1, .l = 1, .s = 1, .g = 1,
	};
	__u64 *pml4 = host_ptr(vm, PML4_GPA), *pdpt = host_ptr(vm, PDPT_GPA);
	__u64 *pd = host_ptr(vm, PD_GPA), size, i;
	const char *start = guest_image(&size);
	struct kvm_regs regs = {
		.rip = CODE_GPA + ((char *)guest_main - start),
		.rdi = PARAMS_GPA,
		.rsp = DIGEST_GPA - 8,			/* as after a call */
		.rflags = 2,
	};
	struct kvm_cpuid2 *cpuid;
	struct kvm_sregs sregs;

	vm->vcpu_fd = xioctl(vm->fd, KVM_CREATE_VCPU, 0);
	vm->run = mmap(NULL, xioctl(vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0),
		       PROT_READ | PROT_WRITE, MAP_SHARED, vm->vcpu_fd, 0);
	cpuid = calloc(1, sizeof(*cpuid) + 256 * sizeof(cpuid->entries[0]));
	if (vm->run == MAP_FAILED || !cpuid)
		err(1, "cannot map the vCPU");
	cpuid->nent = 256;
	xioctl(vm->kvm_fd, KVM_GET_SUPPORTED_CPUID, cpuid);
	xioctl(vm->vcpu_fd, KVM_SET_CPUID2, cpuid);
	free(cpuid);

	/* The first GiB, mapped to itself by pages of 2 MiB */
	pml4[0] = PDPT_GPA | 3;				/* present, writable */
	pdpt[0] = PD_GPA | 3;
	for (i = 0; i < 512; i++)
		pd[i] = i << 21 | 0x83;			/* and large */
	if (size > STACK_GPA - CODE_GPA)
		errx(1, "the guest's code is too large: compile with less inlining");
	memcpy(host_ptr(vm, CODE_GPA), start, size);

	xioctl(vm->vcpu_fd, KVM_GET_SREGS, &sregs);
	sregs.cs = code;
	sregs.ds = data;
	sregs.es = data;
	sregs.ss = data;
	sregs.cr0 = 0x80000011;				/* PG, ET, PE */
	sregs.cr3 = PML4_GPA;
	sregs.cr4 = 0x20;				/* PAE */
	sregs.efer = 0x500;				/* LMA, LME */
	xioctl(vm->vcpu_fd, KVM_SET_SREGS, &sregs);
	xioctl(vm->vcpu_fd, KVM_SET_REGS, &regs);
}

static void load_file(struct vm *vm, int file, __u64 size)
{
	struct params *p = host_ptr(vm, PARAMS_GPA);
	unsigned int eax, ebx, ecx, edx;
	__u64 done;
	ssize_t n;

	for (done = 0; done < size; done += n) {
		n = pread(file, host_ptr(vm, INPUT_GPA + done), size - done, done);
		if (n <= 0)
			errx(1, "cannot read the file: %s", n ? strerror(errno) : "it shrank");
	}
	print_step(vm, "VMM", "reads the file into guest memory", &vm->ranges[INPUT], NULL,
		   "ok, %llu bytes", size);

	p->sha256 = sha256_constants;
	p->size = size;
	p->work = vm->in_place ? 0 : vm->ranges[WORK].gpa;
	__cpuid(0, eax, ebx, ecx, edx);
	p->use_vmmcall = ebx == signature_AMD_ebx || ebx == 0x6f677948 /* Hygon */;
}

static void run_vm(bool in_place, int file, __u64 size, struct result *result)
{
	__u64 input_size = PAGE_ALIGN(size), i;
	struct vm vm = {
		.in_place = in_place,
		.memfd = -1,
		.ranges = {
			[BOOT] = { "boot", PARAMS_GPA, STACK_GPA - PARAMS_GPA },
			[STACK] = { "stack", STACK_GPA, DIGEST_GPA - STACK_GPA },
			[DIGEST] = { "digest", DIGEST_GPA, PAGE_SIZE },
			[INPUT] = { "input", INPUT_GPA, input_size },
			[WORK] = { "work", INPUT_GPA + input_size, in_place ? 0 : input_size },
		},
		.kvm_pte_base = kvm_pte_kb(),
		.result = result,
	};

	vm.size = vm.ranges[WORK].gpa + vm.ranges[WORK].size;
	for (i = 0; i < NR_FIGURES; i++)
		result->figures[i] = UNKNOWN;
	record(&vm, BYTES_COPIED, in_place ? 0 : size);

	if (!create_vm(&vm)) {
		result->unsupported = true;
		return;
	}
	printf("%s\n\n     %-5s  %-32s  %-6s  %-18s  %s\n",
	       in_place ? "In place: one guest_memfd, mapped once" :
			  "Two backings: a guest_memfd, and a memfd for what is shared",
	       "who", "what", "range", "state", "result");
	create_memory(&vm);
	create_vcpu(&vm);
	convert(&vm, "VMM", STACK_GPA, vm.ranges[STACK].size / PAGE_SIZE, true);
	convert(&vm, "VMM", DIGEST_GPA, 1, true);
	if (!in_place)
		convert(&vm, "VMM", vm.ranges[WORK].gpa, input_size / PAGE_SIZE, true);
	load_file(&vm, file, size);
	note_states(&vm, 0);

	run_guest(&vm);

	note_states(&vm, 2);
	print_states(&vm);
	if (in_place && (!vm.refused || vm.pinned))
		errx(1, "a page was converted while it was pinned");
	result->finished = true;
}

/* Each run is a process, so that figures of processes can be compared. */
static struct result *fork_vm(bool in_place, int file, __u64 size)
{
	struct result *result = mmap(NULL, sizeof(*result), PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status;
	pid_t pid;

	if (result == MAP_FAILED)
		err(1, "mmap()");
	pid = fork();
	if (!pid) {
		run_vm(in_place, file, size, result);
		exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		err(1, "cannot run a process");
	if (WIFSIGNALED(status))
		warnx("%s", strsignal(WTERMSIG(status)));
	if (!result->finished && !result->unsupported)
		exit(1);
	return result;
}

static void print_figures(const struct result *in_place, const struct result *two)
{
	const struct result *columns[2] = { in_place, two };
	bool unknown = false;
	int i, j;

	printf("     %-41s  %12s%s\n", "memory", "in place", two ? "  two backings" : "");
	for (i = 0; i < NR_FIGURES; i++) {
		printf("     %-41s", figure_names[i]);
		for (j = 0; j < 2 && columns[j]; j++) {
			unknown |= columns[j]->figures[i] == UNKNOWN;
			if (columns[j]->figures[i] == UNKNOWN)
				printf("  %12s", "unknown");
			else
				printf("  %12lld", columns[j]->figures[i]);
		}
		putchar('\n');
	}
	puts(unknown ? "     (Pages need CONFIG_CACHESTAT_SYSCALL, KVM page tables root.)\n" : "");
}

int main(int argc, char *argv[])
{
	struct result *in_place, *two;
	struct stat st;
	__u32 digest[8];
	void *data;
	int file, i;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc != 2 || argv[1][0] == '-') {
		fprintf(stderr, "usage: %s FILE\n\n"
			"Have a guest compute the SHA-256 of FILE (64 MiB at most) in private memory\n"
			"that was converted in place, and show what it takes.\n", argv[0]);
		return 2;
	}

	file = open(argv[1], O_RDONLY | O_CLOEXEC);
	if (file < 0 || fstat(file, &st))
		err(1, "cannot open %s", argv[1]);
	if (!S_ISREG(st.st_mode) || !st.st_size || (__u64)st.st_size > MAX_FILE_SIZE)
		errx(1, "%s is %s: give a regular file of 1 byte to 64 MiB", argv[1],
		     !S_ISREG(st.st_mode) ? "not a regular file" :
		     !st.st_size ? "empty" : "too large");

	in_place = fork_vm(true, file, st.st_size);
	two = fork_vm(false, file, st.st_size);
	if (two->unsupported) {
		printf("Nothing to compare with: here all VMs convert in place.\n\n");
		two = NULL;
	}
	print_figures(in_place, two);

	data = mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE, file, 0);
	if (data == MAP_FAILED)
		err(1, "cannot map %s", argv[1]);
	sha256(&sha256_constants, data, st.st_size, digest);
	printf("sha256  ");
	for (i = 0; i < 8; i++)
		printf("%08x", in_place->digest[i]);
	if (memcmp(in_place->digest, digest, sizeof(digest)) ||
	    (two && memcmp(two->digest, digest, sizeof(digest)))) {
		printf("\nresult: failed, the digest of a guest is not the host's\n");
		return 1;
	}
	printf("\nresult: ok, a guest hashed %lld bytes that its host could not read\n",
	       (long long)st.st_size);
	return 0;
}
