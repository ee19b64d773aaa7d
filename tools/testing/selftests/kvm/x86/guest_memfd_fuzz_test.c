// SPDX-License-Identifier: GPL-2.0-only
/*
 * Proves C4, C5, C6, C9, C10, C12, C16, C19, C20, C21, C25.  Hand all that there is
 * to hand to guest_memfds, wrong and right, in any order, and compare what comes of
 * it with a model.
 *
 * A program is a list of operations on a few VMs, guest_memfds and mappings.  It
 * runs in a process of its own, that leaves all of them to exit().  Each operation
 * has its arguments from a program's text, i.e. any text is a program, and what it
 * does is checked against what has been recorded, down to the errno where the
 * contract names it: see e.g. expected_convert(), which is C4.
 *
 * Operations that begin with a "|" belong to a second thread, and from the first one
 * on, all of the two threads' run at the same time.  Then, only what's never right
 * is found.
 *
 * Programs are made up at random.  With CONFIG_KCOV, those that come by where none
 * has come before are kept, and new ones are made of them.  A program that fails is
 * printed, shortened, so that it can be replayed (-r); it belongs into
 * regressions[] when its bug is fixed.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <linux/align.h>
#include <linux/falloc.h>
#include <linux/kcov.h>

#include "gmem_util.h"
#include "kselftest.h"
#include "kvm_syscalls.h"
#include "kvm_util.h"
#include "test_util.h"

#define NR_VMS		2
#define NR_FILES	4
#define NR_MAPS		4
#define NR_SLOTS	4
#define NR_PINS		4

/* What is known of a guest_memfd are its first pages: three chunks of the tree. */
#define NR_MODEL_PAGES	1536

#define MAX_OPS		48
#define MAX_ARGS	7
#define MAX_KEPT	4096

#define FUZZ_GPA	SZ_256M
#define CODE_GPA	SZ_32K
#define CODE_SLOT	7

/* Seconds until a program hangs. */
#define LIMIT		60

struct op {
	u8 kind;
	u8 thread;
	u64 args[MAX_ARGS];
};

struct program {
	int nr;
	struct op ops[MAX_OPS];
};

/* What the test and the processes that run programs have in common. */
#define NR_PCS		SZ_64K
static struct {
	u64 nr_calls;
	u64 nr_conversions;
	u64 nr_children;
	u64 nr_pcs;
	u64 pcs[NR_PCS];
	int failed_op;
	bool failed;
	char why[512];
} *shared;

/* --- the model --- */

struct gmem {
	u64 vm_id;
	u64 size;
	u64 nr_pages;		/* That are known. */
	u64 flags;
	bool in_place;
	bool has_private;
	bool vals_known;
	bool private[NR_MODEL_PAGES];
	u64 vals[NR_MODEL_PAGES];
};

static struct file {
	struct gmem *gmem;
	int fd;
} files[NR_FILES];

static struct map {
	struct gmem *gmem;	/* Of a mapping that's as it was made. */
	u8 *mem;
	u64 page;
	u64 nr;
	int prot;
} maps[NR_MAPS];

static struct pin {
	struct gmem *gmem;
	u64 page;
	int fds[2];
} pins[NR_PINS];

struct slot {
	struct gmem *gmem;
	u64 gpa;
	u64 nr;			/* 0 without a slot. */
	u64 page;
	bool other;		/* Not a guest_memfd's. */
};

static struct vm {
	u64 id;			/* 0 without a VM. */
	int fd;
	int vcpu_fd;
	struct kvm_run *run;
	bool in_place;
	bool has_private;
	bool has_vcpu;
	bool has_gmem;
	struct slot slots[NR_SLOTS];
} vms[NR_VMS];

static u64 nr_vms;
static u64 last_val;
static bool in_place_default;

/* Whether two threads are at it. */
static bool racing;

static __thread int current_op;

/* Memory for structs and memslots: ordinary, and as bad as it gets. */
static u8 *scratch;
static u8 *bad_mem;

static int kvm_fd;

static void __noreturn __printf(1, 2) fail(const char *fmt, ...)
{
	va_list args;

	if (!__atomic_exchange_n(&shared->failed, true, __ATOMIC_SEQ_CST)) {
		shared->failed_op = current_op;
		va_start(args, fmt);
		vsnprintf(shared->why, sizeof(shared->why), fmt, args);
		va_end(args);
	}
	_exit(1);
}

#define EXPECT(cond, fmt, args...)		\
do {						\
	if (!(cond))				\
		fail(fmt, ##args);		\
} while (0)

/* A call that has to return @expected, unless nobody can tell. */
static void expect(const char *what, int r, int expected)
{
	EXPECT(racing || r == expected, "%s: errno %d, expected %d", what, r, expected);
}

/* A call that has to fail or to succeed. */
static void expect_failure(const char *what, int r, bool failure)
{
	EXPECT(racing || !r != failure, "%s: errno %d, expected %s", what, r,
	       failure ? "an error" : "success");
	EXPECT(r != EIO, "%s: errno %d", what, r);
}

static int call(long r)
{
	__atomic_fetch_add(&shared->nr_calls, 1, __ATOMIC_RELAXED);
	return r < 0 ? errno : 0;
}

static u64 page_of(u64 offset)
{
	return offset / PAGE_SIZE;
}

static bool overlaps(u64 a, u64 nr_a, u64 b, u64 nr_b)
{
	return a < b + nr_b && b < a + nr_a;
}

/* Pages of [offset, offset + size) that are known. */
static void known_pages(struct gmem *g, u64 offset, u64 size, u64 *start, u64 *end)
{
	*start = min(page_of(offset), g->nr_pages);
	*end = min(page_of(offset + size), g->nr_pages);
}

static void punched(struct gmem *g, u64 offset, u64 size)
{
	u64 start, end, i;

	known_pages(g, offset, size, &start, &end);
	for (i = start; i < end; i++)
		g->vals[i] = 0;

	for (i = 0; i < NR_PINS; i++)
		if (pins[i].gmem == g && pins[i].page >= start && pins[i].page < end)
			pins[i].gmem = NULL;
}

/* --- operations --- */

static void close_vm(struct vm *vm)
{
	if (vm->fd >= 0)
		close(vm->fd);
	if (vm->vcpu_fd >= 0)
		close(vm->vcpu_fd);
	memset(vm, 0, sizeof(*vm));
	vm->fd = -1;
	vm->vcpu_fd = -1;
}

static void op_vm(u64 *a)
{
	struct vm *vm = &vms[a[0] % NR_VMS];
	const u64 types = kvm_check_cap(KVM_CAP_VM_TYPES);
	int fd, r;

	close_vm(vm);

	/* Of those that are there, two; of those that aren't, all. */
	if (a[1] > 1 && a[1] < 64 && types & BIT_ULL(a[1]))
		return;

	fd = ioctl(kvm_fd, KVM_CREATE_VM, a[1]);
	r = call(fd);
	expect_failure("KVM_CREATE_VM", r, a[1] > 1 || !(types & BIT_ULL(a[1])));
	if (r)
		return;

	vm->id = ++nr_vms;
	vm->fd = fd;
	vm->in_place = in_place_default;
	vm->has_private = a[1] == KVM_X86_SW_PROTECTED_VM;
}

static void op_close_vm(u64 *a)
{
	close_vm(&vms[a[0] % NR_VMS]);
}

static bool has_slots(struct vm *vm)
{
	int i;

	for (i = 0; i < NR_SLOTS; i++)
		if (vm->slots[i].nr)
			return true;

	return false;
}

static void op_cap(u64 *a)
{
	static const u32 caps[] = {
		KVM_CAP_GUEST_MEMFD_IN_PLACE, KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES,
		KVM_CAP_MEMORY_ATTRIBUTES, KVM_CAP_GUEST_MEMFD_FLAGS, ~0u,
	};
	struct vm *vm = &vms[a[0] % NR_VMS];
	struct kvm_enable_cap cap = {
		.cap = caps[a[1] % ARRAY_SIZE(caps)],
		.args = { a[2] },
		.flags = a[3],
	};
	int r, expected = 0;

	if (!vm->id)
		return;

	/* C20 */
	if (cap.cap != KVM_CAP_GUEST_MEMFD_IN_PLACE || cap.args[0] != PRIVATE ||
	    cap.flags || !vm->has_private)
		expected = EINVAL;
	else if (vm->has_vcpu || vm->has_gmem || has_slots(vm))
		expected = EBUSY;

	r = call(ioctl(vm->fd, KVM_ENABLE_CAP, &cap));
	expect("KVM_ENABLE_CAP", r, expected);
	if (!r)
		vm->in_place = true;
}

static int check_cap(struct vm *vm, u32 cap)
{
	return ioctl(vm->fd, KVM_CHECK_EXTENSION, cap);
}

static u64 gmem_flags(struct vm *vm)
{
	if (vm->has_private && !vm->in_place)
		return GUEST_MEMFD_FLAG_MMAP;

	return GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED;
}

static void op_check_caps(u64 *a)
{
	struct vm *vm = &vms[a[0] % NR_VMS];
	const u32 private = vm->has_private ? PRIVATE : 0;

	if (!vm->id || racing)
		return;

	/* C19, C20, C21 */
	EXPECT(check_cap(vm, KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES) ==
	       (vm->in_place ? private : 0), "KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES");
	EXPECT(check_cap(vm, KVM_CAP_MEMORY_ATTRIBUTES) == (vm->in_place ? 0 : private),
	       "KVM_CAP_MEMORY_ATTRIBUTES");
	EXPECT(check_cap(vm, KVM_CAP_GUEST_MEMFD_IN_PLACE) == private,
	       "KVM_CAP_GUEST_MEMFD_IN_PLACE");
	EXPECT(check_cap(vm, KVM_CAP_GUEST_MEMFD_FLAGS) == gmem_flags(vm),
	       "KVM_CAP_GUEST_MEMFD_FLAGS");
}

static void close_file(struct file *file)
{
	if (file->fd >= 0)
		call(close(file->fd));
	file->fd = -1;
	file->gmem = NULL;
}

static void op_gmem(u64 *a)
{
	struct file *file = &files[a[0] % NR_FILES];
	struct vm *vm = &vms[a[1] % NR_VMS];
	struct kvm_create_guest_memfd create = {
		.size = a[2],
		.flags = a[3],
	};
	struct gmem *g;
	int fd, r;

	if (!vm->id)
		return;

	if (a[4])
		create.reserved[(a[4] - 1) % ARRAY_SIZE(create.reserved)] = a[4];

	fd = ioctl(vm->fd, KVM_CREATE_GUEST_MEMFD, &create);
	r = call(fd);

	/* Reserved words are ignored, as in 7.3. */
	expect("KVM_CREATE_GUEST_MEMFD", r, a[3] & ~gmem_flags(vm) || (s64)a[2] <= 0 ||
	       !IS_ALIGNED(a[2], PAGE_SIZE) ? EINVAL : 0);
	if (r)
		return;

	close_file(file);
	vm->has_gmem = true;

	g = calloc(1, sizeof(*g));
	g->vm_id = vm->id;
	g->size = a[2];
	g->nr_pages = min_t(u64, page_of(a[2]), NR_MODEL_PAGES);
	g->flags = a[3];
	g->in_place = vm->in_place;
	g->has_private = vm->has_private;
	g->vals_known = true;
	memset(g->private, !(a[3] & GUEST_MEMFD_FLAG_INIT_SHARED), sizeof(g->private));
	file->gmem = g;
	file->fd = fd;
}

static void op_dup(u64 *a)
{
	struct file *to = &files[a[0] % NR_FILES], *from = &files[a[1] % NR_FILES];

	if (to == from || from->fd < 0)
		return;

	close_file(to);
	to->fd = dup(from->fd);
	to->gmem = from->gmem;
}

static void op_close(u64 *a)
{
	close_file(&files[a[0] % NR_FILES]);
}

/* Where a struct can be: writable, read-only, in part nowhere, nowhere at all. */
enum { GOOD, READ_ONLY, HALF, NO_ACCESS, NOT_MAPPED, KERNEL, UNALIGNED, NR_PTRS };

static void *place(u64 ptr, const void *data, size_t size)
{
	u8 *p;

	/* There's but one of these. */
	if (racing && (ptr == READ_ONLY || ptr == HALF))
		ptr = NO_ACCESS;

	switch (ptr) {
	case READ_ONLY:
		p = bad_mem;
		break;
	case HALF:
		p = bad_mem + PAGE_SIZE - size / 2;
		size /= 2;
		break;
	case NO_ACCESS:
		return bad_mem + PAGE_SIZE;
	case NOT_MAPPED:
		return NULL;
	case KERNEL:
		return (void *)0xffff888000000000;
	default:
		p = scratch + syscall(__NR_gettid) % 8 * 512 + (ptr == UNALIGNED);
		break;
	}

	if (ptr == READ_ONLY || ptr == HALF)
		mprotect(bad_mem, PAGE_SIZE, PROT_READ | PROT_WRITE);
	memcpy(p, data, size);
	if (ptr == READ_ONLY || ptr == HALF)
		mprotect(bad_mem, PAGE_SIZE, PROT_READ);
	return p;
}

/* C4, in its order.  If a page stands in the way, @error_page says which. */
static int expected_convert(struct gmem *g, struct kvm_memory_attributes2 *attr,
			    u64 ptr, bool other_process, u64 *error_page)
{
	u64 start, end, i;
	int r = 0;

	if (!g->in_place)
		return -ENOTTY;
	if (other_process)
		return -EIO;
	if (ptr != GOOD && ptr != READ_ONLY && ptr != UNALIGNED)
		return -EFAULT;

	if (attr->flags)
		return -EINVAL;
	for (i = 0; i < ARRAY_SIZE(attr->reserved); i++)
		if (attr->reserved[i])
			return -EINVAL;
	if (!g->has_private || attr->attributes & ~PRIVATE)
		return -EINVAL;
	if (!attr->size || attr->offset + attr->size < attr->offset ||
	    !IS_ALIGNED(attr->offset | attr->size, PAGE_SIZE) ||
	    attr->offset + attr->size > g->size)
		return -EINVAL;

	if (!attr->attributes)
		return 0;

	known_pages(g, attr->offset, attr->size, &start, &end);
	for (i = 0; i < NR_PINS; i++) {
		if (pins[i].gmem != g || pins[i].page < start || pins[i].page >= end ||
		    g->private[pins[i].page])
			continue;

		*error_page = r ? min(*error_page, pins[i].page) : pins[i].page;
		r = -EAGAIN;
	}

	return r && ptr == READ_ONLY ? -EFAULT : r;
}

static void op_convert(u64 *a)
{
	struct file *file = &files[a[0] % NR_FILES];
	struct kvm_memory_attributes2 attr = {
		.attributes = a[1],
		.offset = a[2],
		.size = a[3],
		.error_offset = NO_ERROR_OFFSET,
	};
	struct gmem *g = file->gmem;
	struct kvm_memory_attributes2 *where;
	const u64 ptr = a[5] % NR_PTRS;
	u64 error_page = 0, start, end, i;
	int r, expected;

	if (file->fd < 0 || !g)
		return;

	if (a[4] >= 1 && a[4] <= 64)
		attr.flags = BIT_ULL(a[4] - 1);
	else if (a[4])
		attr.reserved[a[4] % ARRAY_SIZE(attr.reserved)] = a[4];

	expected = -expected_convert(g, &attr, ptr, false, &error_page);
	where = place(ptr, &attr, sizeof(attr));
	r = call(ioctl(file->fd, KVM_SET_MEMORY_ATTRIBUTES2, where));

	EXPECT(racing || r == expected,
	       "convert [0x%llx, +0x%llx) to 0x%llx: errno %d, expected %d",
	       attr.offset, attr.size, attr.attributes, r, expected);

	/* C6 */
	if ((ptr == GOOD || ptr == UNALIGNED) && !racing) {
		memcpy(&attr, where, sizeof(attr));
		EXPECT(attr.error_offset == (r == EAGAIN ? error_page * PAGE_SIZE :
							   NO_ERROR_OFFSET),
		       "convert: errno %d, error_offset 0x%llx, expected page %lu",
		       r, attr.error_offset, error_page);
	} else if (racing) {
		EXPECT(r != EIO && r != ENOMEM && r != EHWPOISON && r != EINTR,
		       "convert: errno %d", r);
	}
	if (r)
		return;

	__atomic_fetch_add(&shared->nr_conversions, 1, __ATOMIC_RELAXED);
	known_pages(g, a[2], a[3], &start, &end);
	for (i = start; i < end; i++)
		g->private[i] = a[1];
}

/* Use the command on something else, and other commands on a guest_memfd. */
static void op_wrong(u64 *a)
{
	struct file *file = &files[a[0] % NR_FILES];
	struct vm *vm = &vms[a[0] % NR_VMS];
	const struct kvm_memory_attributes2 attr = {
		.size = PAGE_SIZE,
		.attributes = PRIVATE,
	};
	static const unsigned long cmds[] = {
		_IO(KVMIO, 0xd2),
		_IOR(KVMIO, 0xd2, struct kvm_memory_attributes2),
		_IOW(KVMIO, 0xd2, struct kvm_memory_attributes2),
		_IOWR(KVMIO, 0xd2, struct kvm_memory_attributes),
		_IOWR(KVMIO, 0xd1, struct kvm_memory_attributes2),
		_IOWR(0, 0xd2, struct kvm_memory_attributes2),
		KVM_SET_MEMORY_ATTRIBUTES, KVM_CREATE_GUEST_MEMFD, KVM_CHECK_EXTENSION,
		KVM_RUN, KVM_CREATE_VM, KVM_SET_USER_MEMORY_REGION2, _IO(KVMIO, 0xff),
	};
	void *arg = place(a[2] % NR_PTRS, &attr, sizeof(attr));
	unsigned long cmd = KVM_SET_MEMORY_ATTRIBUTES2;
	int fd, r;

	switch (a[1] % 16) {
	case 0 ... 12:
		fd = file->fd;
		cmd = cmds[a[1] % 16];
		break;
	case 13:
		fd = kvm_fd;
		break;
	case 14:
		fd = vm->vcpu_fd;
		break;
	default:
		fd = vm->fd;
		break;
	}
	if (fd < 0)
		return;

	r = call(ioctl(fd, cmd, arg));
	EXPECT(racing || r == ENOTTY || (r == EINVAL && (fd == kvm_fd || fd == vm->vcpu_fd)),
	       "wrong file or command 0x%lx: errno %d", cmd, r);
}

/* KVM_SET_MEMORY_ATTRIBUTES */
static void op_vm_attributes(u64 *a)
{
	struct vm *vm = &vms[a[0] % NR_VMS];
	const struct kvm_memory_attributes attr = {
		.attributes = a[1],
		.address = a[2],
		.size = a[3],
		.flags = a[4],
	};
	const u64 ptr = a[5] % NR_PTRS;
	int r, expected = 0;

	/* What takes long is the number of gfns. */
	if (!vm->id || (attr.size > SZ_16M && attr.address + attr.size >= attr.address))
		return;

	if (vm->in_place)
		expected = ENOTTY;
	else if (ptr != GOOD && ptr != UNALIGNED && ptr != READ_ONLY)
		expected = EFAULT;
	else if (attr.flags || attr.attributes & ~(vm->has_private ? PRIVATE : 0) ||
		 !attr.size || attr.address + attr.size < attr.address ||
		 !IS_ALIGNED(attr.address | attr.size, PAGE_SIZE))
		expected = EINVAL;

	r = call(ioctl(vm->fd, KVM_SET_MEMORY_ATTRIBUTES, place(ptr, &attr, sizeof(attr))));
	expect("KVM_SET_MEMORY_ATTRIBUTES", r, expected);
}

static void op_slot(u64 *a)
{
	struct vm *vm = &vms[a[0] % NR_VMS];
	struct file *file = &files[a[4] % NR_FILES];
	struct kvm_userspace_memory_region2 region = {
		.slot = a[1] % NR_SLOTS,
		.flags = a[6] ^ KVM_MEM_GUEST_MEMFD,
		.guest_phys_addr = a[2],
		.memory_size = a[3],
		.userspace_addr = (u64)scratch,
		.guest_memfd = file->fd,
		.guest_memfd_offset = a[5],
	};
	struct slot *slot = &vm->slots[region.slot], *s;
	const bool is_gmem = region.flags & KVM_MEM_GUEST_MEMFD;
	const u64 nr = page_of(region.memory_size);
	struct gmem *g = file->gmem;
	bool failure;
	int r;

	if (!vm->id || region.memory_size > SZ_4G)
		return;

	/* Have ordinary memslots as large as what they are backed with. */
	if (!is_gmem)
		region.memory_size = min_t(u64, region.memory_size, SZ_2M);

	/* Without a size, it's deleted. */
	failure = !IS_ALIGNED(a[2] | a[3] | a[5], PAGE_SIZE) || a[6] || !slot->nr == !a[3];
	if (a[3] && (!g || g->vm_id != vm->id || a[2] + a[3] < a[2] ||
		     a[2] + a[3] > BIT_ULL(36) || a[5] + a[3] < a[5] ||
		     a[5] + a[3] > g->size ||
		     (vm->has_vcpu && overlaps(a[2], a[3], CODE_GPA, PAGE_SIZE))))
		failure = true;
	for (s = vm->slots; a[3] && s < vm->slots + NR_SLOTS; s++) {
		if (s->nr && (overlaps(s->gpa, s->nr * PAGE_SIZE, a[2], a[3]) ||
			      (s->gmem == g && overlaps(s->page, s->nr, page_of(a[5]), nr))))
			failure = true;
	}

	r = call(ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION2, &region));
	if (is_gmem)
		expect_failure("memslot", r, failure);
	if (r || racing)
		return;

	if (!nr) {
		slot->nr = 0;
		return;
	}
	*slot = (struct slot) {
		.gpa = a[2],
		.nr = region.memory_size / PAGE_SIZE,
		.gmem = is_gmem ? g : NULL,
		.page = a[5] / PAGE_SIZE,
		.other = !is_gmem,
	};
}

static void op_delete_slot(u64 *a)
{
	struct vm *vm = &vms[a[0] % NR_VMS];
	struct kvm_userspace_memory_region2 region = {
		.slot = a[1] % NR_SLOTS,
	};
	int r;

	if (!vm->id)
		return;

	r = call(ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION2, &region));
	expect("delete a memslot", r, vm->slots[region.slot].nr ? 0 : EINVAL);
	vm->slots[region.slot].nr = 0;
}

static void op_fallocate(u64 *a)
{
	struct file *file = &files[a[0] % NR_FILES];
	const int keep = FALLOC_FL_KEEP_SIZE, punch = keep | FALLOC_FL_PUNCH_HOLE;
	const int mode = a[1];
	struct gmem *g = file->gmem;
	bool failure;
	int r;

	if (file->fd < 0 || !g)
		return;

	failure = (mode != keep && mode != punch) || (s64)a[2] < 0 || (s64)a[3] <= 0 ||
		  !IS_ALIGNED(a[2] | a[3], PAGE_SIZE) || (s64)(a[2] + a[3]) < 0 ||
		  (mode == keep && a[2] + a[3] > g->size);

	/* Leave the host some memory. */
	if (mode == keep && !failure && a[3] > SZ_8M)
		return;

	r = call(fallocate(file->fd, mode, a[2], a[3]));
	expect_failure("fallocate", r, failure);
	if (!r && mode == punch)
		punched(g, a[2], a[3]);
}

static void op_map(u64 *a)
{
	struct map *map = &maps[a[0] % NR_MAPS];
	struct file *file = &files[a[1] % NR_FILES];
	const int prot = a[2], flags = a[3];
	struct gmem *g = file->gmem;
	u8 *mem;
	int r;

	if (file->fd < 0 || !g || a[5] > BIT(20))
		return;

	mem = mmap(NULL, a[5] * PAGE_SIZE, prot, flags & ~MAP_FIXED, file->fd,
		   a[4] * PAGE_SIZE);
	r = call(mem == MAP_FAILED ? -1 : 0);
	if (!(g->flags & GUEST_MEMFD_FLAG_MMAP) || !a[5] || !(flags & MAP_SHARED))
		expect_failure("mmap()", r, true);
	else if (flags == MAP_SHARED && !(prot & ~(PROT_READ | PROT_WRITE)) && a[4] < BIT(30))
		expect("mmap()", r, 0);
	if (r)
		return;

	if (map->mem && !racing)
		call(munmap(map->mem, map->nr * PAGE_SIZE));
	*map = (struct map) {
		.gmem = g,
		.mem = mem,
		.page = a[4],
		.nr = a[5],
		.prot = prot,
	};
}

/* A part of a mapping, and it's no longer known what that is. */
static bool part_of_map(u64 *a, struct map **map, u8 **mem, size_t *size)
{
	*map = &maps[a[0] % NR_MAPS];
	if (!(*map)->mem)
		return false;

	*mem = (*map)->mem + a[1] % (*map)->nr * PAGE_SIZE;
	*size = min(a[2], (*map)->nr - a[1] % (*map)->nr) * PAGE_SIZE;
	return true;
}

/* Leave no hole that something else could be mapped to. */
static void op_unmap(u64 *a)
{
	struct map *map;
	size_t size;
	u8 *mem;

	if (!part_of_map(a, &map, &mem, &size) || !size)
		return;

	map->gmem = NULL;
	mem = mmap(mem, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	EXPECT(mem != MAP_FAILED, "mmap(): errno %d", errno);
}

static void op_remap(u64 *a)
{
	struct map *map;
	size_t size, new_size = a[3] * PAGE_SIZE;
	u8 *mem;

	if (!part_of_map(a, &map, &mem, &size) || !size || a[3] > 4096)
		return;

	if (mem == map->mem && size == map->nr * PAGE_SIZE && a[3] &&
	    a[4] == MREMAP_MAYMOVE && !racing) {
		mem = mremap(mem, size, new_size, a[4]);
		if (!call(mem == MAP_FAILED ? -1 : 0)) {
			map->mem = mem;
			map->nr = a[3];
		}
		return;
	}

	/* A copy, or more of it in place, but no hole, either. */
	map->gmem = NULL;
	if (a[4] & MREMAP_DONTUNMAP)
		mem = mremap(mem, size, size, MREMAP_MAYMOVE | MREMAP_DONTUNMAP);
	else
		mem = mremap(mem, size, max(size, new_size), 0);
	call(mem == MAP_FAILED ? -1 : 0);
}

static void op_protect(u64 *a)
{
	struct map *map;
	size_t size;
	u8 *mem;

	if (!part_of_map(a, &map, &mem, &size))
		return;

	map->gmem = NULL;
	call(mprotect(mem, size, a[3]));
}

static void op_lock(u64 *a)
{
	struct map *map;
	size_t size;
	u8 *mem;

	if (!part_of_map(a, &map, &mem, &size))
		return;

	switch (a[3] % 3) {
	case 0:
		call(mlock(mem, size));
		break;
	case 1:
		call(syscall(__NR_mlock2, mem, size, 1));
		break;
	default:
		call(munlock(mem, size));
		break;
	}
}

/* Where pages that are yet to be allocated come from. */
static void op_mbind(u64 *a)
{
	unsigned long nodes = a[4];
	struct map *map;
	size_t size;
	u8 *mem;

	if (part_of_map(a, &map, &mem, &size))
		call(syscall(__NR_mbind, mem, size, a[3], &nodes, 8, 0));
}

static void op_unpin(u64 *a)
{
	struct pin *pin = &pins[a[0] % NR_PINS];

	if (!pin->fds[0])
		return;

	close(pin->fds[0]);
	close(pin->fds[1]);
	memset(pin, 0, sizeof(*pin));
}

/* Something has been punched, and nobody knows what. */
static void forget_contents(void)
{
	u64 i;

	if (racing)
		return;

	for (i = 0; i < NR_FILES; i++)
		if (files[i].gmem)
			files[i].gmem->vals_known = false;
	for (i = 0; i < NR_PINS; i++)
		op_unpin(&i);
}

static void op_advise(u64 *a)
{
	const int advice = a[3];
	struct map *map;
	size_t size;
	u8 *mem;
	int r;

	if (!part_of_map(a, &map, &mem, &size))
		return;

	/* Poison is for keeps, and for tests of its own. */
	if (advice == MADV_HWPOISON || advice == MADV_SOFT_OFFLINE)
		return;

	r = call(madvise(mem, size, advice));
	if (advice == MADV_REMOVE) {
		if (!r && map->gmem && !racing)
			punched(map->gmem, map->page * PAGE_SIZE + (mem - map->mem), size);
		else if (!r)
			forget_contents();
	} else if (advice > MADV_WILLNEED && advice != MADV_DONTNEED) {
		/* Whatever it is, the mapping may be another one now. */
		map->gmem = NULL;
	}
}

static __thread sigjmp_buf touch_jmpbuf;
static __thread int touch_signal;
static __thread bool touching;

static void touch_handler(int sig)
{
	if (!READ_ONCE(touching))
		fail("signal %d out of the blue", sig);

	WRITE_ONCE(touch_signal, sig);
	siglongjmp(touch_jmpbuf, 1);
}

/* Returns the signal. */
static int touch(u64 *mem, bool write, u64 *val)
{
	WRITE_ONCE(touch_signal, 0);
	if (!sigsetjmp(touch_jmpbuf, 1)) {
		WRITE_ONCE(touching, true);
		if (write)
			WRITE_ONCE(*mem, *val);
		else
			*val = READ_ONCE(*mem);
	}
	WRITE_ONCE(touching, false);
	return READ_ONCE(touch_signal);
}

static void check_page(struct gmem *g, u64 page, int sig, u64 val)
{
	if (racing)
		return;

	/* C9, and C10, C11, C12 */
	EXPECT(sig == (page >= g->size / PAGE_SIZE || g->private[page] ? SIGBUS : 0),
	       "page %lu, which is %s: signal %d", page,
	       page < g->nr_pages && g->private[page] ? "private" : "shared", sig);
	EXPECT(sig || !g->vals_known || val == g->vals[page],
	       "page %lu has 0x%lx, expected 0x%lx", page, val, g->vals[page]);
}

static void op_touch(u64 *a)
{
	struct map *map = &maps[a[0] % NR_MAPS];
	u64 page, val = 0;
	bool write;
	int sig;

	if (!map->mem)
		return;

	page = a[1] % map->nr;
	write = a[2] && map->gmem && !racing;
	if (write)
		val = ++last_val;
	sig = touch((u64 *)(map->mem + page * PAGE_SIZE), write, &val);
	if (!map->gmem || racing)
		return;

	page += map->page;
	if (page >= map->gmem->nr_pages && page < map->gmem->size / PAGE_SIZE)
		return;
	if (!(map->prot & (write ? PROT_WRITE : PROT_READ | PROT_WRITE))) {
		EXPECT(sig == SIGSEGV, "page %lu without access: signal %d", page, sig);
		return;
	}
	if (!sig && write)
		map->gmem->vals[page] = val;
	check_page(map->gmem, page, sig, val);
}

/* C9: Read a page through the kernel. */
static void op_peek(u64 *a)
{
	struct map *map = &maps[a[0] % NR_MAPS];
	u64 page, val = 0;
	struct iovec local = { &val, sizeof(val) }, remote = { NULL, sizeof(val) };
	int r;

	if (!map->mem)
		return;

	page = a[1] % map->nr;
	remote.iov_base = map->mem + page * PAGE_SIZE;
	r = call(process_vm_readv(getpid(), &local, 1, &remote, 1, 0));
	page += map->page;
	if (!map->gmem || racing || !(map->prot & PROT_READ) ||
	    (page >= map->gmem->nr_pages && page < map->gmem->size / PAGE_SIZE))
		return;

	EXPECT(!r || r == EFAULT, "process_vm_readv(): errno %d", r);
	check_page(map->gmem, page, r ? SIGBUS : 0, val);
}

static void op_pin(u64 *a)
{
	struct pin *pin = &pins[a[0] % NR_PINS];
	struct map *map = &maps[a[1] % NR_MAPS];
	int fds[2];
	u64 page;
	ssize_t r;

	if (!map->mem || !map->gmem || racing)
		return;

	page = a[2] % map->nr;
	op_unpin(a);
	r = splice_page(fds, map->mem + page * PAGE_SIZE);
	call(r);
	if (r < 0)
		return;

	page += map->page;
	EXPECT(page >= map->gmem->nr_pages || !map->gmem->private[page],
	       "page %lu is private, and pinned", page);
	pin->fds[0] = fds[0];
	pin->fds[1] = fds[1];
	pin->gmem = page < map->gmem->nr_pages ? map->gmem : NULL;
	pin->page = page;
}

/* C4, C9: What a child may do, which stays with the mappings, or doesn't. */
static void op_fork(u64 *a)
{
	struct file *file = &files[a[0] % NR_FILES];
	struct kvm_memory_attributes2 attr = {
		.size = PAGE_SIZE,
		.attributes = a[1],
	};
	const u64 nr_children = READ_ONCE(shared->nr_children);
	struct gmem *g = file->gmem;
	u64 error_page, touch_args[] = { a[2], a[3], false };
	int r, status;
	pid_t pid;

	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (file->fd >= 0 && g) {
			r = call(ioctl(file->fd, KVM_SET_MEMORY_ATTRIBUTES2, &attr));
			expect("convert in a child", r,
			       -expected_convert(g, &attr, GOOD, true, &error_page));
		}
		op_touch(touch_args);
		__atomic_fetch_add(&shared->nr_children, 1, __ATOMIC_SEQ_CST);
		if (a[4])
			pause();
		_exit(0);
	}
	if (pid < 0)
		return;

	/* What a child does now must be over before the next operation. */
	if (a[4]) {
		while (READ_ONCE(shared->nr_children) == nr_children &&
		       !READ_ONCE(shared->failed))
			sched_yield();
		return;
	}

	waitpid(pid, &status, 0);
	EXPECT(WIFEXITED(status) && !WEXITSTATUS(status), "a child: status 0x%x", status);
}

/* A vCPU without page tables that touches a page after the other. */
static void op_vcpu(u64 *a)
{
	static const u8 code[] = {
		/* 1: mov (%esi), %al; add $0x1000, %esi; dec %ecx; jnz 1b; hlt */
		0x8a, 0x06, 0x81, 0xc6, 0x00, 0x10, 0x00, 0x00, 0x49, 0x75, 0xf5, 0xf4,
		0xf4, 0xf4, 0xf4, 0xf4,
		/* 1: mov (%esi), %al; mov %al, (%esi); the rest as above */
		0x8a, 0x06, 0x88, 0x06, 0x81, 0xc6, 0x00, 0x10, 0x00, 0x00, 0x49,
		0x75, 0xf3, 0xf4,
	};
	struct vm *vm = &vms[a[0] % NR_VMS];
	struct kvm_userspace_memory_region2 region = {
		.slot = CODE_SLOT,
		.guest_phys_addr = CODE_GPA,
		.memory_size = PAGE_SIZE,
	};
	struct kvm_sregs sregs;
	int fd, r;

	if (!vm->id)
		return;

	fd = ioctl(vm->fd, KVM_CREATE_VCPU, a[1]);
	r = call(fd);
	if (!a[1])
		expect_failure("KVM_CREATE_VCPU", r, vm->vcpu_fd >= 0);
	if (r)
		return;

	vm->has_vcpu = true;
	if (a[1] || racing) {
		close(fd);
		return;
	}

	vm->vcpu_fd = fd;
	vm->run = kvm_mmap(ioctl(kvm_fd, KVM_GET_VCPU_MMAP_SIZE, NULL),
			   PROT_READ | PROT_WRITE, MAP_SHARED, fd);

	region.userspace_addr = (u64)kvm_mmap(PAGE_SIZE, PROT_READ | PROT_WRITE,
					      MAP_PRIVATE | MAP_ANONYMOUS, -1);
	memcpy((void *)region.userspace_addr, code, sizeof(code));
	call(ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION2, &region));

	ioctl(fd, KVM_GET_SREGS, &sregs);
	sregs.cr0 |= X86_CR0_PE;
	sregs.cs.base = 0;
	sregs.cs.selector = 8;
	sregs.cs.limit = ~0u;
	sregs.cs.g = 1;
	sregs.cs.db = 1;
	sregs.cs.type = 11;
	sregs.ds = sregs.cs;
	sregs.ds.type = 3;
	sregs.ds.selector = 16;
	sregs.es = sregs.ds;
	sregs.ss = sregs.ds;
	EXPECT(!ioctl(fd, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS: errno %d", errno);
}

/* Is all of that range in memslots, of guest_memfds that are open for sure? */
static bool is_backed(struct vm *vm, u64 gpa, u64 nr)
{
	u64 i;
	int j, k;

	for (i = 0; i < nr; i++, gpa += PAGE_SIZE) {
		for (j = 0; j < NR_SLOTS; j++) {
			struct slot *s = &vm->slots[j];

			if (s->gmem && s->nr && overlaps(s->gpa, s->nr * PAGE_SIZE, gpa, 1))
				break;
		}
		if (j == NR_SLOTS)
			return false;
		for (k = 0; k < NR_FILES; k++)
			if (files[k].gmem == vm->slots[j].gmem)
				break;
		if (k == NR_FILES)
			return false;
	}
	return true;
}

static void op_run(u64 *a)
{
	struct vm *vm = &vms[a[0] % NR_VMS];
	struct kvm_regs regs = {
		.rip = CODE_GPA + (a[3] ? 16 : 0),
		.rsi = a[1] % SZ_2G,
		.rcx = 1 + a[2] % 64,
		.rflags = 2,
	};
	struct kvm_run *run = vm->run;
	const u64 end = regs.rsi + regs.rcx * PAGE_SIZE;
	int i, r;

	if (vm->vcpu_fd < 0 || !run)
		return;

	call(ioctl(vm->vcpu_fd, KVM_SET_REGS, &regs));
	for (i = 0; i < 200; i++) {
		r = call(ioctl(vm->vcpu_fd, KVM_RUN, NULL));
		if (racing && r)
			return;
		if (r == EINTR || (!r && run->exit_reason == KVM_EXIT_MMIO))
			continue;
		break;
	}
	if (racing)
		return;

	/* C15, C16 */
	if (r) {
		EXPECT(r == EFAULT && run->exit_reason == KVM_EXIT_MEMORY_FAULT,
		       "KVM_RUN: errno %d, exit %d", r, run->exit_reason);
		EXPECT(!(run->memory_fault.flags & ~KVM_MEMORY_EXIT_FLAG_PRIVATE) &&
		       ((run->memory_fault.gpa >= ALIGN_DOWN(regs.rsi, PAGE_SIZE) &&
			 run->memory_fault.gpa < end) ||
			(!vm->in_place && run->memory_fault.gpa == CODE_GPA)),
		       "KVM_RUN: memory fault at 0x%llx, flags 0x%llx",
		       run->memory_fault.gpa, run->memory_fault.flags);
	}
	if (vm->in_place && is_backed(vm, regs.rsi, regs.rcx) &&
	    !overlaps(regs.rsi, end - regs.rsi, CODE_GPA, PAGE_SIZE))
		EXPECT(!r && run->exit_reason == KVM_EXIT_HLT,
		       "KVM_RUN at [0x%llx, 0x%lx): errno %d, exit %d", regs.rsi, end, r,
		       run->exit_reason);
}

static void op_pre_fault(u64 *a)
{
	struct vm *vm = &vms[a[0] % NR_VMS];
	struct kvm_pre_fault_memory range = {
		.gpa = a[1],
		.size = min_t(u64, a[2], SZ_4M),
		.flags = a[3],
	};
	const bool bad = range.flags || !range.size || range.gpa + range.size <= range.gpa ||
			 !IS_ALIGNED(range.gpa | range.size, PAGE_SIZE);
	int r;

	if (vm->vcpu_fd < 0)
		return;

	r = call(ioctl(vm->vcpu_fd, KVM_PRE_FAULT_MEMORY, &range));
	if (bad)
		expect("KVM_PRE_FAULT_MEMORY", r, EINVAL);
	EXPECT(!r || r == EINVAL || r == ENOENT || r == EFAULT || r == EAGAIN ||
	       r == EINTR || r == EOPNOTSUPP, "KVM_PRE_FAULT_MEMORY: errno %d", r);
	EXPECT(r || racing || range.size < min_t(u64, a[2], SZ_4M),
	       "KVM_PRE_FAULT_MEMORY: nothing done, and no error");
}

/* All else that one can do with a file. */
static void op_file(u64 *a)
{
	struct file *file = &files[a[0] % NR_FILES];
	struct stat st;
	u64 buf[8] = {};
	int r = EINVAL;

	if (file->fd < 0)
		return;

	switch (a[1] % 8) {
	case 0:
		r = call(pread(file->fd, buf, sizeof(buf), a[2]));
		break;
	case 1:
		r = call(pwrite(file->fd, buf, sizeof(buf), a[2]));
		break;
	case 2:
		r = call(ftruncate(file->fd, a[2]));
		break;
	case 3:
		r = call(fcntl(file->fd, F_ADD_SEALS, a[2]));
		break;
	case 4:
		r = call(fchmod(file->fd, a[2]));
		break;
	case 5:
		call(lseek(file->fd, a[2], a[3] % 6));
		return;
	case 6:
		call(fsync(file->fd));
		return;
	default:
		r = call(fstat(file->fd, &st));
		EXPECT(racing || (!r && st.st_size == file->gmem->size),
		       "fstat(): errno %d, size 0x%lx", r, st.st_size);
		return;
	}
	expect_failure("read(), write() and the like", r, true);
}

/* --- programs --- */

/* What to make an argument up from. */
enum arg {
	END, VM, FILE_, MAP, SLOT, PIN, TYPE, CAP, ATTRS, ZERO, BOOL, SIZE, GMEM_FLAGS_,
	OFFSET, LEN, BAD, PTR, GPA, SLOT_FLAGS, MODE, PROT, MAP_FLAGS, PAGE, NR, REMAP,
	ADVICE, CMD, ANY,
};

static const struct kind {
	const char *name;
	void (*run)(u64 *args);
	int weight;
	u8 args[MAX_ARGS + 1];
} kinds[] = {
	{ "vm",		op_vm,		1, { VM, TYPE } },
	{ "close-vm",	op_close_vm,	1, { VM } },
	{ "cap",	op_cap,		2, { VM, CAP, ATTRS, ZERO } },
	{ "check-caps",	op_check_caps,	1, { VM } },
	{ "gmem",	op_gmem,	4, { FILE_, VM, SIZE, GMEM_FLAGS_, ZERO } },
	{ "dup",	op_dup,		1, { FILE_, FILE_ } },
	{ "close",	op_close,	1, { FILE_ } },
	{ "convert",	op_convert,	24, { FILE_, ATTRS, OFFSET, LEN, BAD, PTR } },
	{ "wrong",	op_wrong,	1, { FILE_, CMD, PTR } },
	{ "attributes",	op_vm_attributes, 3, { VM, ATTRS, GPA, LEN, ZERO, PTR } },
	{ "slot",	op_slot,	6, { VM, SLOT, GPA, LEN, FILE_, OFFSET, SLOT_FLAGS } },
	{ "delete-slot", op_delete_slot, 3, { VM, SLOT } },
	{ "fallocate",	op_fallocate,	5, { FILE_, MODE, OFFSET, LEN } },
	{ "map",	op_map,		6, { MAP, FILE_, PROT, MAP_FLAGS, PAGE, NR } },
	{ "unmap",	op_unmap,	1, { MAP, PAGE, NR } },
	{ "remap",	op_remap,	1, { MAP, PAGE, NR, NR, REMAP } },
	{ "protect",	op_protect,	1, { MAP, PAGE, NR, PROT } },
	{ "lock",	op_lock,	2, { MAP, PAGE, NR, ANY } },
	{ "advise",	op_advise,	4, { MAP, PAGE, NR, ADVICE } },
	{ "mbind",	op_mbind,	1, { MAP, PAGE, NR, ANY, BOOL } },
	{ "touch",	op_touch,	12, { MAP, PAGE, BOOL } },
	{ "peek",	op_peek,	2, { MAP, PAGE } },
	{ "pin",	op_pin,		3, { PIN, MAP, PAGE } },
	{ "unpin",	op_unpin,	2, { PIN } },
	{ "fork",	op_fork,	1, { FILE_, ATTRS, MAP, PAGE, BOOL } },
	{ "vcpu",	op_vcpu,	3, { VM, ZERO } },
	{ "run",	op_run,		8, { VM, GPA, NR, BOOL } },
	{ "pre-fault",	op_pre_fault,	3, { VM, GPA, LEN, ZERO } },
	{ "file",	op_file,	1, { FILE_, ANY, OFFSET, ANY } },
};

static struct kvm_random_state random_state;

static u64 below(u64 bound)
{
	return kvm_random_u64(&random_state) % bound;
}

static bool one_in(int nr)
{
	return !below(nr);
}

/* Pages that something begins, ends or changes at. */
static u64 some_page(void)
{
	static const u16 pages[] = {
		0, 0, 1, 2, 3, 15, 16, 17, 31, 63, 64, 65, 511, 512, 513, 1023, 1024, 1025,
	};

	return one_in(3) ? below(80) : pages[below(ARRAY_SIZE(pages))];
}

static u64 odd_value(void)
{
	switch (below(8)) {
	case 0:
		return 0;
	case 1:
		return BIT_ULL(below(64));
	case 2:
		return -BIT_ULL(below(64));
	case 3:
		return BIT_ULL(below(64)) - 1;
	case 4:
		return some_page() * PAGE_SIZE + 1;
	case 5:
		return some_page() * PAGE_SIZE - 1;
	case 6:
		return -some_page() * PAGE_SIZE;
	default:
		return kvm_random_u64(&random_state);
	}
}

static u64 some_arg(enum arg arg)
{
	switch (arg) {
	case VM:
		return one_in(8);
	case FILE_:
	case MAP:
	case SLOT:
	case PIN:
		return one_in(4) ? below(4) : 0;
	case TYPE:
		return one_in(8) ? odd_value() : !one_in(4);
	case CAP:
		return one_in(4) ? below(5) : 0;
	case ATTRS:
		return one_in(20) ? odd_value() : one_in(3) ? 0 : PRIVATE;
	case ZERO:
		return one_in(10) ? odd_value() : 0;
	case BOOL:
		return below(2);
	case SIZE:
		if (one_in(12))
			return odd_value();
		return (one_in(3) ? 64 : one_in(2) ? 1025 : some_page()) * PAGE_SIZE;
	case GMEM_FLAGS_:
		return one_in(12) ? odd_value() : one_in(2) ? GMEM_FLAGS : below(4);
	case OFFSET:
		return one_in(20) ? odd_value() : some_page() * PAGE_SIZE;
	case LEN:
		return one_in(20) ? odd_value() : max(some_page(), 1ul) * PAGE_SIZE;
	case BAD:
		return one_in(20) ? below(80) : 0;
	case PTR:
		return one_in(20) ? below(NR_PTRS) : 0;
	case GPA:
		return one_in(25) ? odd_value() : FUZZ_GPA + some_page() * PAGE_SIZE;
	case SLOT_FLAGS:
		return one_in(8) ? BIT(below(5)) : 0;
	case MODE:
		if (one_in(8))
			return one_in(2) ? BIT(below(9)) : below(512);
		return FALLOC_FL_KEEP_SIZE | (one_in(3) ? 0 : FALLOC_FL_PUNCH_HOLE);
	case PROT:
		return one_in(8) ? below(16) : PROT_READ | PROT_WRITE;
	case MAP_FLAGS:
		if (!one_in(8))
			return MAP_SHARED;
		return one_in(2) ? MAP_PRIVATE : MAP_SHARED | BIT(12 + below(8));
	case PAGE:
		return some_page();
	case NR:
		return one_in(3) ? some_page() : 64;
	case REMAP:
		return one_in(2) ? MREMAP_MAYMOVE : below(8);
	case ADVICE:
		return one_in(3) ? MADV_REMOVE : one_in(8) ? 100 + below(5) : below(27);
	case CMD:
		return below(16);
	default:
		return below(16);
	}
}

static int nr_args(const struct kind *kind)
{
	int i = 0;

	while (kind->args[i] != END)
		i++;
	return i;
}

static struct op some_op(void)
{
	static bool sum_known;
	static int sum;
	struct op op = {};
	int i, w;

	for (i = 0; !sum_known && i < ARRAY_SIZE(kinds); i++)
		sum += kinds[i].weight;
	sum_known = true;

	w = below(sum);
	for (i = 0; w >= kinds[i].weight; i++)
		w -= kinds[i].weight;

	op.kind = i;
	for (i = 0; i < nr_args(&kinds[op.kind]); i++)
		op.args[i] = some_arg(kinds[op.kind].args[i]);
	return op;
}

static int kind_of(const char *name)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(kinds); i++)
		if (!strcmp(kinds[i].name, name))
			return i;

	return -1;
}

static void add_op(struct program *p, struct op op)
{
	if (p->nr < MAX_OPS)
		p->ops[p->nr++] = op;
}

static void remove_op(struct program *p, int i)
{
	memmove(&p->ops[i], &p->ops[i + 1], (p->nr - i - 1) * sizeof(p->ops[0]));
	p->nr--;
}

static void parse(struct program *p, const char *text)
{
	char *copy = strdup(text), *line, *word, *lines, *words;

	p->nr = 0;
	for (line = strtok_r(copy, ";\n", &lines); line; line = strtok_r(NULL, ";\n", &lines)) {
		struct op op = {};
		int i, kind;

		line += strspn(line, " \t#");
		if (*line == '|') {
			op.thread = 1;
			line++;
		}
		word = strtok_r(line, " \t", &words);
		if (!word)
			continue;
		kind = kind_of(word);
		TEST_ASSERT(kind >= 0, "No operation '%s'", word);
		op.kind = kind;
		for (i = 0; i < MAX_ARGS && (word = strtok_r(NULL, " \t", &words)); i++)
			op.args[i] = strtoull(word, NULL, 0);
		add_op(p, op);
	}
	free(copy);
}

static void print(const struct program *p, const char *prefix, const char *suffix)
{
	int i, j;

	for (i = 0; i < p->nr; i++) {
		const struct op *op = &p->ops[i];

		printf("%s%s%s", prefix, op->thread ? "|" : "", kinds[op->kind].name);
		for (j = 0; j < nr_args(&kinds[op->kind]); j++)
			printf(op->args[j] < 10 ? " %lu" : " 0x%lx", op->args[j]);
		printf("%s", suffix);
	}
}

/* What most things need, and then anything. */
static void make_up(struct program *p)
{
	const u64 flags = some_arg(GMEM_FLAGS_);
	int nr = 3 + below(MAX_OPS - 8);
	char text[256];

	snprintf(text, sizeof(text),
		 "vm 0 %d;%s gmem 0 0 0x%lx 0x%lx;%s slot 0 0 0x%x 0x%lx 0 0 0;%s",
		 !one_in(8), one_in(4) ? "" : "cap 0 0 8;", some_arg(SIZE), flags,
		 one_in(4) ? "" : "map 0 0 3 1 0 64;", FUZZ_GPA, some_arg(LEN),
		 one_in(2) ? "" : "vcpu 0 0");
	parse(p, text);

	/* Have something missing now and then. */
	if (one_in(8))
		remove_op(p, below(p->nr));
	while (nr--)
		add_op(p, some_op());
}

static void mutate(struct program *p, const struct program *other)
{
	int nr = 1 + below(4), i;

	while (nr--) {
		i = p->nr ? below(p->nr) : 0;

		switch (below(p->nr ? 6 : 1)) {
		case 0:
		case 1:
			if (p->nr == MAX_OPS)
				break;
			memmove(&p->ops[i + 1], &p->ops[i], (p->nr - i) * sizeof(p->ops[0]));
			p->ops[i] = some_op();
			p->nr++;
			break;
		case 2:
			remove_op(p, i);
			break;
		case 3:
		case 4:
			if (nr_args(&kinds[p->ops[i].kind])) {
				int j = below(nr_args(&kinds[p->ops[i].kind]));

				p->ops[i].args[j] = some_arg(kinds[p->ops[i].kind].args[j]);
			}
			break;
		case 5:
			p->nr = i + 1;
			for (i = below(other->nr + 1); i < other->nr; i++)
				add_op(p, other->ops[i]);
			break;
		}
	}
}

static void have_threads(struct program *p)
{
	int i;

	for (i = below(p->nr + 1); i < p->nr; i++)
		p->ops[i].thread = below(2);
}

/* --- coverage --- */

#define KCOV_WORDS	SZ_256K

struct kcov {
	u64 *words;
	int fd;
};

static bool has_kcov;

/* Must be called by the thread. */
static void kcov_start(struct kcov *kcov)
{
	if (!has_kcov)
		return;

	kcov->fd = open("/sys/kernel/debug/kcov", O_RDWR);
	EXPECT(kcov->fd >= 0, "kcov: errno %d", errno);
	EXPECT(!ioctl(kcov->fd, KCOV_INIT_TRACE, KCOV_WORDS), "kcov: errno %d", errno);
	kcov->words = kvm_mmap(KCOV_WORDS * sizeof(u64), PROT_READ | PROT_WRITE, MAP_SHARED,
			       kcov->fd);
	EXPECT(!ioctl(kcov->fd, KCOV_ENABLE, KCOV_TRACE_PC), "kcov: errno %d", errno);
}

static void note_pc(u64 pc)
{
	u64 i, old;

	for (i = pc * 0x9e3779b97f4a7c15ull >> 48; ; i = (i + 1) % NR_PCS) {
		old = READ_ONCE(shared->pcs[i]);
		if (!old && __atomic_compare_exchange_n(&shared->pcs[i], &old, pc, false,
							__ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
			__atomic_fetch_add(&shared->nr_pcs, 1, __ATOMIC_RELAXED);
			return;
		}
		if (old == pc)
			return;
	}
}

static void kcov_stop(struct kcov *kcov)
{
	u64 i;

	if (!has_kcov)
		return;

	ioctl(kcov->fd, KCOV_DISABLE, 0);
	for (i = 1; i <= min(kcov->words[0], KCOV_WORDS - 1ul); i++)
		note_pc(kcov->words[i]);
	munmap(kcov->words, KCOV_WORDS * sizeof(u64));
	close(kcov->fd);
}

/* As offsets into the module's sections, which is where the lab looks for them. */
static void print_pcs(void)
{
	static const char *const sections[] = { ".text", ".text.unlikely" };
	u64 starts[2] = {}, i;
	char path[64];
	FILE *f;

	for (i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "/sys/module/kvm/sections/%s", sections[i]);
		f = fopen(path, "r");
		if (!f)
			continue;
		if (fscanf(f, "%lx", &starts[i]) != 1)
			starts[i] = 0;
		fclose(f);
		ksft_print_msg("section %s 0x%lx\n", sections[i], starts[i]);
	}
	for (i = 0; i < NR_PCS; i++)
		if (shared->pcs[i])
			ksft_print_msg("pc 0x%lx\n", shared->pcs[i]);
}

/* --- running --- */

static void run_op(const struct program *p, int i)
{
	u64 args[MAX_ARGS];

	current_op = i;
	memcpy(args, p->ops[i].args, sizeof(args));
	kinds[p->ops[i].kind].run(args);
}

static const struct program *thread_program;
static int thread_start;

static void *thread_worker(void *unused)
{
	struct kcov kcov;
	int i;

	kcov_start(&kcov);
	for (i = thread_start; i < thread_program->nr; i++)
		if (thread_program->ops[i].thread)
			run_op(thread_program, i);
	kcov_stop(&kcov);
	return NULL;
}

/* Verify the state of every guest_memfd that can be looked at. */
static void check_end(void)
{
	struct gmem *g;
	u64 i, val;
	u8 *mem;
	int f, sig;

	for (f = 0; f < NR_FILES; f++) {
		g = files[f].gmem;
		if (files[f].fd < 0 || !g || !(g->flags & GUEST_MEMFD_FLAG_MMAP))
			continue;

		mem = mmap(NULL, g->nr_pages * PAGE_SIZE, PROT_READ, MAP_SHARED, files[f].fd, 0);
		EXPECT(mem != MAP_FAILED, "mmap(): errno %d", errno);
		for (i = 0; i < g->nr_pages; i++) {
			/* Where it changes, on both sides, and now and then. */
			if (i && i + 1 < g->nr_pages && i % 61 &&
			    g->private[i - 1] == g->private[i] &&
			    g->private[i + 1] == g->private[i])
				continue;
			sig = touch((u64 *)(mem + i * PAGE_SIZE), false, &val);
			check_page(g, i, sig, val);
		}
		munmap(mem, g->nr_pages * PAGE_SIZE);
	}
}

static void __noreturn run_here(const struct program *p)
{
	const struct sigaction action = { .sa_handler = touch_handler };
	struct kcov kcov;
	pthread_t thread;
	int i, first;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sigaction(SIGBUS, &action, NULL);
	sigaction(SIGSEGV, &action, NULL);

	scratch = kvm_mmap(SZ_2M, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	bad_mem = kvm_mmap(PAGE_SIZE * 2, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	mprotect(bad_mem + PAGE_SIZE, PAGE_SIZE, PROT_NONE);
	for (i = 0; i < NR_VMS; i++) {
		vms[i].fd = -1;
		vms[i].vcpu_fd = -1;
	}
	for (i = 0; i < NR_FILES; i++)
		files[i].fd = -1;

	for (first = 0; first < p->nr && !p->ops[first].thread; first++)
		;

	kcov_start(&kcov);
	for (i = 0; i < first; i++)
		run_op(p, i);
	if (first < p->nr) {
		racing = true;
		thread_program = p;
		thread_start = first;
		kvm_pthread_create(&thread, NULL, thread_worker, NULL);
		for (; i < p->nr; i++)
			if (!p->ops[i].thread)
				run_op(p, i);
		kvm_pthread_join(thread, NULL);
	}
	current_op = p->nr;
	check_end();
	kcov_stop(&kcov);
	_exit(0);
}

static long taint_flags(void)
{
	static int fd = -1;
	char buf[32] = {};

	if (fd < 0)
		fd = open("/proc/sys/kernel/tainted", O_RDONLY);
	return fd < 0 || pread(fd, buf, sizeof(buf) - 1, 0) <= 0 ? 0 : atol(buf);
}

/* Returns whether it went well. */
static bool run(const struct program *p)
{
	const struct timespec limit = { .tv_sec = LIMIT };
	const long taint = taint_flags();
	sigset_t set, old;
	int status = 0;
	pid_t pid;

	shared->failed = false;
	fflush(stdout);

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, &old);
	pid = fork();
	if (!pid) {
		sigprocmask(SIG_SETMASK, &old, NULL);
		run_here(p);
	}

	while (waitpid(pid, &status, WNOHANG) != pid) {
		if (sigtimedwait(&set, NULL, &limit) >= 0 || errno == EINTR)
			continue;
		snprintf(shared->why, sizeof(shared->why), "not done after %d s", LIMIT);
		shared->failed = true;
		kill(pid, SIGKILL);
		break;
	}
	sigprocmask(SIG_SETMASK, &old, NULL);

	if (!shared->failed && (!WIFEXITED(status) || WEXITSTATUS(status))) {
		shared->failed = true;
		snprintf(shared->why, sizeof(shared->why), "status 0x%x", status);
	} else if (!shared->failed && taint_flags() != taint) {
		shared->failed = true;
		snprintf(shared->why, sizeof(shared->why), "the kernel complained");
	}
	return !shared->failed;
}

/* Take out what isn't needed to have it fail, and print it. */
static void report(struct program *p)
{
	struct program q;
	char why[512];
	int i;

	ksft_print_msg("operation %d of %d: %s\n", shared->failed_op + 1, p->nr, shared->why);
	for (i = p->nr - 1; i >= 0; i--) {
		q = *p;
		remove_op(&q, i);
		if (!run(&q)) {
			*p = q;
			snprintf(why, sizeof(why), "%s", shared->why);
		}
	}
	ksft_print_msg("to be replayed by -r:\n");
	print(p, "#   ", "\n");
}

/* Programs that have found something, or do what random ones hardly ever do. */
static const char *const regressions[] = {
	/* A change that is in the way of itself, and one that isn't. */
	"vm 0 1; cap 0 0 8; gmem 0 0 0x40000 3; map 0 0 3 1 0 64; touch 0 1 1; touch 0 3 1;"
	"pin 0 0 3; pin 1 0 1; convert 0 8 0 0x40000; convert 0 8 0x2000 0x1000;"
	"convert 0 8 0 0x40000 0 1; unpin 1; convert 0 8 0 0x40000; unpin 0;"
	"convert 0 8 0 0x40000; convert 0 0 0 0x40000",

	/* A hole under a pin, which is no longer the page's. */
	"vm 0 1; cap 0 0 8; gmem 0 0 0x40000 3; map 0 0 3 1 0 64; touch 0 5 1; pin 0 0 5;"
	"convert 0 8 0 0x40000; fallocate 0 3 0x5000 0x1000; convert 0 8 0 0x40000;"
	"convert 0 0 0 0x40000; touch 0 5 0",

	/* Every wrong argument, one after the other. */
	"vm 0 1; cap 0 0 8; gmem 0 0 0x40000 3; convert 0 8 1 0x1000; convert 0 8 0 0xfff;"
	"convert 0 8 0 0; convert 0 8 0x1000 0xfffffffffffff000; convert 0 8 0x3f000 0x2000;"
	"convert 0 8 0x1000 0x7ffffffffffff000; convert 0 9 0 0x1000; convert 0 8 0 0x1000 1;"
	"convert 0 8 0 0x1000 64; convert 0 8 0 0x1000 65; convert 0 8 0 0x1000 75;"
	"convert 0 8 0 0x1000 76; convert 0 8 0 0x1000 0 2; convert 0 8 0 0x1000 0 3;"
	"convert 0 8 0 0x1000 0 4; convert 0 8 0 0x1000 0 5; convert 0 8 0 0x1000 0 6",

	/* A guest, whose file is closed when it runs once more, and a new one. */
	"vm 0 1; cap 0 0 8; gmem 0 0 0x40000 3; slot 0 0 0x10000000 0x40000 0 0 0; vcpu 0 0;"
	"run 0 0x10000000 63 1; convert 0 8 0 0x20000; run 0 0x10000000 63 1;"
	"pre-fault 0 0x10000000 0x40000 0; close 0; run 0 0x10000000 63 1;"
	"pre-fault 0 0x10000000 0x40000 0; delete-slot 0 0; run 0 0x10000000 63 1;"
	"gmem 0 0 0x40000 0; slot 0 0 0x10000000 0x40000 0 0 0; run 0 0x10000000 63 1",

	/* Two of everything, and two threads. */
	"vm 0 1; cap 0 0 8; gmem 0 0 0x200000 3; map 0 0 3 1 0 512; map 1 0 3 1 0 512;"
	"slot 0 0 0x10000000 0x200000 0 0 0; vcpu 0 0; |convert 0 8 0 0x200000;"
	"run 0 0x10000000 63 1; |touch 0 7 0; convert 0 0 0x1000 0x100000; |fork 0 8 1 9 0;"
	"fallocate 0 3 0 0x200000; |convert 0 8 0x3000 0x5000; run 0 0x10010000 63 0;"
	"|delete-slot 0 0; fallocate 0 1 0 0x200000; |advise 1 0 512 9; close 0; |close-vm 0",

	/* A VM in the other mode next to one. */
	"vm 0 1; vm 1 1; cap 0 0 8; gmem 0 0 0x10000 3; gmem 1 1 0x10000 1; check-caps 0;"
	"check-caps 1; slot 1 0 0x10000000 0x10000 0 0 0; slot 1 0 0x10000000 0x10000 1 0 0;"
	"cap 1 0 8; attributes 1 8 0x10000000 0x10000; attributes 0 8 0x10000000 0x10000;"
	"convert 1 8 0 0x1000; convert 0 8 0 0x1000; vcpu 1 0; run 1 0x10000000 15 1",
};

/* What new programs are made of, with kcov. */
static struct program kept[MAX_KEPT];
static int nr_kept;

static void keep(const struct program *p)
{
	if (has_kcov && nr_kept < MAX_KEPT)
		kept[nr_kept++] = *p;
}

static bool run_regressions(void)
{
	struct program p;
	int i;

	for (i = 0; i < ARRAY_SIZE(regressions); i++) {
		parse(&p, regressions[i]);
		if (!run(&p)) {
			report(&p);
			return false;
		}
		keep(&p);
	}
	ksft_print_msg("%d programs\n", i);
	return true;
}

static bool run_random(u64 seed, u64 nr_programs, int seconds, bool verbose)
{
	struct timespec start;
	struct program p;
	bool ok = true;
	u64 nr, nr_pcs;

	random_state = new_kvm_random_state(seed);
	clock_gettime(CLOCK_MONOTONIC, &start);
	for (nr = 0; ok && (!nr_programs || nr < nr_programs); nr++) {
		if (timespec_elapsed(start).tv_sec >= seconds)
			break;

		if (nr_kept && !one_in(5)) {
			p = kept[below(nr_kept)];
			mutate(&p, &kept[below(nr_kept)]);
		} else {
			make_up(&p);
		}
		if (one_in(4))
			have_threads(&p);

		if (verbose) {
			printf("# %lu: ", nr);
			print(&p, "", "; ");
			printf("\n");
		}

		nr_pcs = shared->nr_pcs;
		ok = run(&p);
		if (!ok) {
			ksft_print_msg("program %lu of seed %lu\n", nr, seed);
			report(&p);
		}
		if (shared->nr_pcs > nr_pcs)
			keep(&p);
	}

	ksft_print_msg("seed %lu: %lu programs, %lu calls, %lu conversions, %lu s\n", seed, nr,
		       shared->nr_calls, shared->nr_conversions,
		       timespec_elapsed(start).tv_sec);
	if (has_kcov) {
		ksft_print_msg("%lu PCs, %d programs kept\n", shared->nr_pcs, nr_kept);
		print_pcs();
	}
	return ok;
}

static bool replay(const char *arg)
{
	static char text[SZ_64K];
	struct program p;
	FILE *f;

	/* A file, or the program itself. */
	snprintf(text, sizeof(text), "%s", arg);
	f = fopen(arg, "r");
	if (f) {
		text[fread(text, 1, sizeof(text) - 1, f)] = 0;
		fclose(f);
	}
	parse(&p, text);
	if (run(&p))
		return true;

	report(&p);
	return false;
}

static void help(const char *name)
{
	printf("usage: %s [-s SEED] [-n PROGRAMS] [-t SECONDS] [-r FILE] [-u] [-v]\n"
	       " -s: where random programs begin (1)\n"
	       " -n: at most so many of them (no limit)\n"
	       " -t: for so many seconds (10)\n"
	       " -r: run only the program in FILE, or that FILE is\n"
	       " -u: don't be guided by kcov\n"
	       " -v: print each program before it runs\n", name);
	exit(KSFT_FAIL);
}

int main(int argc, char *argv[])
{
	u64 seed = 1, nr_programs = 0;
	const char *file = NULL;
	bool verbose = false;
	int opt, seconds = 10;

	has_kcov = !access("/sys/kernel/debug/kcov", R_OK | W_OK);
	while ((opt = getopt(argc, argv, "s:n:t:r:uvh")) != -1) {
		switch (opt) {
		case 's':
			seed = strtoull(optarg, NULL, 0);
			break;
		case 'n':
			nr_programs = strtoull(optarg, NULL, 0);
			break;
		case 't':
			seconds = atoi_positive("seconds", optarg);
			break;
		case 'r':
			file = optarg;
			break;
		case 'u':
			has_kcov = false;
			break;
		case 'v':
			verbose = true;
			break;
		default:
			help(argv[0]);
		}
	}

	TEST_REQUIRE(kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(KVM_X86_SW_PROTECTED_VM));
	in_place_default = in_place_is_default();
	kvm_fd = open_kvm_dev_path_or_exit();
	shared = kvm_mmap(sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);

	ksft_print_header();
	if (file) {
		ksft_set_plan(1);
		ksft_test_result(replay(file), "replay\n");
	} else {
		ksft_set_plan(2);
		ksft_test_result(run_regressions(), "regressions\n");
		ksft_test_result(run_random(seed, nr_programs, seconds, verbose), "random\n");
	}
	ksft_finished();
}
