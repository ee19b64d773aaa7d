// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test in-place conversion of guest_memfd memory between private and shared,
 * i.e. KVM_SET_MEMORY_ATTRIBUTES2 and KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES.
 *
 * A guest of a software-protected VM can't say whether it wants private or
 * shared memory: it always gets the page as it is.  So what is private and what
 * is shared is observed from the host, which may only touch what is shared.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <linux/align.h>
#include <linux/bits.h>
#include <linux/falloc.h>
#include <linux/kvm_para.h>
#include <linux/sizes.h>

#include "kvm_test_harness.h"
#include "kvm_syscalls.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"

#include "../../../../../mm/gup_test.h"

#define PARAM_PATH	"/sys/module/kvm/parameters/gmem_in_place_conversion"
#define GUP_TEST_PATH	"/sys/kernel/debug/gup_test"
#define FAILSLAB_PATH	"/sys/kernel/debug/failslab/"

#define GMEM_FLAGS	(GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED)
#define PRIVATE		KVM_MEMORY_ATTRIBUTE_PRIVATE

/* One bit for each page, so that the state of a guest_memfd fits into a u64. */
#define NR_PAGES	64
#define GMEM_SIZE	((u64)NR_PAGES * PAGE_SIZE)
#define GMEM_SLOT	10
#define GMEM_GPA	((gpa_t)SZ_4G)

/* For tests that need a second memslot; GVAs are GPAs. */
#define GMEM_SLOT2	(GMEM_SLOT + 1)
#define GMEM_GPA2	(GMEM_GPA + SZ_2M)

#define ALL_PAGES	(~0ul)

static u64 pages(int first, int nr)
{
	return GENMASK_ULL(first + nr - 1, first);
}

/* Some of everything: long and short ranges, at the start and at the end. */
#define MIXED		(pages(0, 1) | pages(3, 5) | pages(20, 20) | pages(41, 1) | pages(60, 4))

/* What must come back if KVM has nothing to report. */
#define NO_ERROR_OFFSET	0xdeadbeefcafe5a5aul

static const struct vm_shape in_place_shape = {
	.mode = VM_MODE_DEFAULT,
	.type = KVM_X86_SW_PROTECTED_VM,
	.gmem_in_place = true,
};

/* The guest executes one command for each KVM_RUN. */
enum guest_op {
	GUEST_READ,
	GUEST_FILL,
	GUEST_CHECK,
	GUEST_TOUCH,
	GUEST_SPIN,
};

static enum guest_op guest_op;
static u64 *guest_mem;
static u64 guest_val;
static int guest_nr;
static int guest_generation;

/* GUEST_SPIN touches this many pages, over and over again. */
#define NR_SPIN_PAGES	16
static bool guest_stop;
static u64 guest_laps;

#define WORDS_PER_PAGE	(PAGE_SIZE / sizeof(u64))

static u64 page_val(int page, int generation)
{
	return 0x0101010101010101ul * (page + 1) + generation;
}

/* Set all words of pages to a value of their own. */
static void fill_pages(u64 *mem, int first, int nr, int generation)
{
	int i, j;

	for (i = first; i < first + nr; i++, mem += WORDS_PER_PAGE)
		for (j = 0; j < WORDS_PER_PAGE; j++)
			WRITE_ONCE(mem[j], page_val(i, generation));
}

/* Returns the index of the first word that isn't what it should be, or -1. */
static int check_pages(u64 *mem, int first, int nr, int generation)
{
	int i;

	for (i = 0; i < nr * WORDS_PER_PAGE; i++)
		if (READ_ONCE(mem[i]) != page_val(first + i / WORDS_PER_PAGE, generation))
			return i;

	return -1;
}

static void touch_pages(u64 *mem, int nr)
{
	int i;

	for (i = 0; i < nr; i++)
		READ_ONCE(mem[i * WORDS_PER_PAGE]);
}

static void guest_code(void)
{
	for (;;) {
		switch (READ_ONCE(guest_op)) {
		case GUEST_READ:
			guest_val = READ_ONCE(*guest_mem);
			break;
		case GUEST_FILL:
			fill_pages(guest_mem, guest_val, guest_nr, guest_generation);
			break;
		case GUEST_CHECK:
			guest_val = check_pages(guest_mem, guest_val, guest_nr,
						guest_generation);
			break;
		case GUEST_TOUCH:
			touch_pages(guest_mem, guest_nr);
			break;
		case GUEST_SPIN:
			while (!READ_ONCE(guest_stop)) {
				touch_pages(guest_mem, NR_SPIN_PAGES);
				WRITE_ONCE(guest_laps, guest_laps + 1);
			}
			break;
		}
		GUEST_SYNC(0);
	}
}

static void run_guest(struct kvm_vcpu *vcpu)
{
	struct ucall uc;

	vcpu_run(vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_IO);

	switch (get_ucall(vcpu, &uc)) {
	case UCALL_SYNC:
		break;
	case UCALL_ABORT:
		REPORT_GUEST_ASSERT(uc);
	default:
		TEST_FAIL("Unexpected ucall %lu", uc.cmd);
	}
}

static void guest_set(struct kvm_vcpu *vcpu, enum guest_op op, gva_t gva, u64 val,
		      int nr, int generation)
{
	struct kvm_vm *vm = vcpu->vm;

	write_guest_global(vm, guest_op, op);
	write_guest_global(vm, guest_mem, (u64 *)gva);
	write_guest_global(vm, guest_val, val);
	write_guest_global(vm, guest_nr, nr);
	write_guest_global(vm, guest_generation, generation);
}

static u64 guest_read(struct kvm_vcpu *vcpu, gva_t gva)
{
	guest_set(vcpu, GUEST_READ, gva, 0, 0, 0);
	run_guest(vcpu);

	return SYNC_FROM_GUEST_AND_READ(vcpu->vm, guest_val);
}

/* Have the guest read @gpa and verify that nothing is there for it. */
static void guest_read_mmio(struct kvm_vcpu *vcpu, gpa_t gpa)
{
	const u64 val = 0x5eedf00d5eedf00d;
	struct kvm_run *run = vcpu->run;

	guest_set(vcpu, GUEST_READ, gpa, 0, 0, 0);
	vcpu_run(vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_MMIO);
	TEST_ASSERT_EQ(run->mmio.phys_addr, gpa);
	TEST_ASSERT_EQ(run->mmio.len, sizeof(val));
	TEST_ASSERT_EQ(run->mmio.is_write, 0);

	memcpy(run->mmio.data, &val, sizeof(val));
	run_guest(vcpu);
	TEST_ASSERT_EQ(SYNC_FROM_GUEST_AND_READ(vcpu->vm, guest_val), val);
}

static void __guest_fill(struct kvm_vcpu *vcpu, gva_t gva, int first, int nr, int generation)
{
	guest_set(vcpu, GUEST_FILL, gva, first, nr, generation);
	run_guest(vcpu);
}

static void __guest_check(struct kvm_vcpu *vcpu, gva_t gva, int first, int nr, int generation)
{
	int i;

	guest_set(vcpu, GUEST_CHECK, gva, first, nr, generation);
	run_guest(vcpu);

	i = SYNC_FROM_GUEST_AND_READ(vcpu->vm, guest_val);
	TEST_ASSERT(i == -1, "Guest has wrong data at 0x%lx, page %d, generation %d",
		    gva + i * sizeof(u64), first + i / (int)WORDS_PER_PAGE, generation);
}

static bool in_place_is_default(void)
{
	char value = 0;
	int fd;

	/* The library skips the test if there is no such parameter. */
	fd = open(PARAM_PATH, O_RDONLY);
	TEST_ASSERT(fd >= 0, "Failed to open " PARAM_PATH);
	TEST_ASSERT_EQ(read(fd, &value, 1), 1);
	kvm_close(fd);

	TEST_ASSERT(value == 'Y' || value == 'N', "Unexpected value '%c' in " PARAM_PATH, value);
	return value == 'Y';
}

static int set_attributes(int fd, struct kvm_memory_attributes2 *attr)
{
	return __kvm_ioctl(fd, KVM_SET_MEMORY_ATTRIBUTES2, attr) ? errno : 0;
}

/* Returns the errno that a child with an address space of its own gets. */
static int child_set_attributes(int fd, unsigned long cmd, void *attr)
{
	int status;
	pid_t pid;

	pid = fork();
	if (!pid)
		_exit(ioctl(fd, cmd, attr) ? errno : 0);

	TEST_ASSERT_EQ(waitpid(pid, &status, 0), pid);
	TEST_ASSERT(WIFEXITED(status), "Child died, status 0x%x", status);
	return WEXITSTATUS(status);
}

TEST(uapi)
{
	ASSERT_EQ(0xc080aed2, KVM_SET_MEMORY_ATTRIBUTES2);
	ASSERT_EQ(128, sizeof(struct kvm_memory_attributes2));

#define ASSERT_OFFSET(word, field) \
	ASSERT_EQ((word) * sizeof(__u64), offsetof(struct kvm_memory_attributes2, field))
	ASSERT_OFFSET(0, address);
	ASSERT_OFFSET(0, offset);
	ASSERT_OFFSET(1, size);
	ASSERT_OFFSET(2, attributes);
	ASSERT_OFFSET(3, flags);
	ASSERT_OFFSET(4, error_offset);
	ASSERT_OFFSET(5, reserved);
	ASSERT_OFFSET(5 + 11, reserved[11]);

	/* The words that the ioctl has in common with its predecessor. */
	ASSERT_EQ(0x4020aed2, KVM_SET_MEMORY_ATTRIBUTES);
	ASSERT_EQ(offsetof(struct kvm_memory_attributes, address),
		  offsetof(struct kvm_memory_attributes2, address));
	ASSERT_EQ(offsetof(struct kvm_memory_attributes, size),
		  offsetof(struct kvm_memory_attributes2, size));
	ASSERT_EQ(offsetof(struct kvm_memory_attributes, attributes),
		  offsetof(struct kvm_memory_attributes2, attributes));
	ASSERT_EQ(offsetof(struct kvm_memory_attributes, flags),
		  offsetof(struct kvm_memory_attributes2, flags));
}

FIXTURE(modes) {
	struct kvm_vm *vm;
	bool in_place;
};

FIXTURE_VARIANT(modes) {
	unsigned long type;
};

FIXTURE_VARIANT_ADD(modes, sw_protected_vm) {
	.type = KVM_X86_SW_PROTECTED_VM,
};

/* No private memory. */
FIXTURE_VARIANT_ADD(modes, default_vm) {
	.type = VM_TYPE_DEFAULT,
};

FIXTURE_SETUP(modes)
{
	self->in_place = in_place_is_default();
	self->vm = vm_create_barebones_type(variant->type);
}

FIXTURE_TEARDOWN(modes)
{
	kvm_vm_free(self->vm);
}

static int enable_in_place(struct kvm_vm *vm, u64 attributes, u32 flags)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES,
		.flags = flags,
		.args = { attributes },
	};

	return __vm_ioctl(vm, KVM_ENABLE_CAP, &cap) ? errno : 0;
}

static int set_vm_attributes(struct kvm_vm *vm, u64 attributes)
{
	struct kvm_memory_attributes attr = {
		.address = GMEM_GPA,
		.size = GMEM_SIZE,
		.attributes = attributes,
	};

	return __vm_ioctl(vm, KVM_SET_MEMORY_ATTRIBUTES, &attr) ? errno : 0;
}

static int set_gmem_attributes(struct kvm_vm *vm, u64 attributes)
{
	struct kvm_memory_attributes2 attr = {
		.size = PAGE_SIZE,
		.attributes = attributes,
	};
	int fd, r;

	fd = vm_create_guest_memfd(vm, PAGE_SIZE, 0);
	r = set_attributes(fd, &attr);
	kvm_close(fd);

	return r;
}

TEST_F(modes, enable_einval)
{
	int i;

	ASSERT_EQ(EINVAL, enable_in_place(self->vm, 0, 0));
	for (i = 0; i < 64; i++) {
		if (BIT_ULL(i) == PRIVATE)
			continue;

		ASSERT_EQ(EINVAL, enable_in_place(self->vm, BIT_ULL(i), 0));
		ASSERT_EQ(EINVAL, enable_in_place(self->vm, BIT_ULL(i) | PRIVATE, 0));
	}
	for (i = 0; i < 32; i++)
		ASSERT_EQ(EINVAL, enable_in_place(self->vm, PRIVATE, BIT(i)));

	ASSERT_EQ(variant->type == VM_TYPE_DEFAULT ? EINVAL : 0,
		  enable_in_place(self->vm, PRIVATE, 0));
}

TEST_F(modes, enable_ebusy)
{
	struct kvm_vm *vm;
	void *mem;
	int fd;

	__vm_vcpu_add(self->vm, 0);

	/* Two reasons to refuse, whichever comes first. */
	if (variant->type == VM_TYPE_DEFAULT) {
		ASSERT_NE(0, enable_in_place(self->vm, PRIVATE, 0));
		return;
	}
	ASSERT_EQ(EBUSY, enable_in_place(self->vm, PRIVATE, 0));

	vm = vm_create_barebones_type(variant->type);
	mem = kvm_mmap(PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	vm_set_user_memory_region(vm, 0, 0, 0, PAGE_SIZE, mem);
	ASSERT_EQ(EBUSY, enable_in_place(vm, PRIVATE, 0));
	kvm_vm_free(vm);

	vm = vm_create_barebones_type(variant->type);
	fd = vm_create_guest_memfd(vm, PAGE_SIZE, 0);
	ASSERT_EQ(EBUSY, enable_in_place(vm, PRIVATE, 0));
	kvm_close(fd);

	/* The mode is still what it was. */
	ASSERT_EQ(self->in_place, vm_has_gmem_attributes(vm));
	kvm_vm_free(vm);
}

/* What userspace gets if it asks for nothing. */
TEST_F(modes, default_mode)
{
	const bool has_private = variant->type == KVM_X86_SW_PROTECTED_VM;
	u64 flags = vm_check_cap(self->vm, KVM_CAP_GUEST_MEMFD_FLAGS);
	u64 gmem_attrs = has_private && self->in_place ? PRIVATE : 0;
	u64 vm_attrs = has_private && !self->in_place ? PRIVATE : 0;
	u64 init_shared = vm_attrs ? 0 : GUEST_MEMFD_FLAG_INIT_SHARED;
	struct stat st;

	ASSERT_EQ(0, stat(PARAM_PATH, &st));
	ASSERT_EQ(0444, st.st_mode & 0777);

	ASSERT_EQ(self->in_place ? PRIVATE : 0,
		  kvm_check_cap(KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES));
	ASSERT_EQ(self->in_place ? 0 : PRIVATE, kvm_check_cap(KVM_CAP_MEMORY_ATTRIBUTES));

	ASSERT_EQ(gmem_attrs, vm_check_cap(self->vm, KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES));
	ASSERT_EQ(vm_attrs, vm_check_cap(self->vm, KVM_CAP_MEMORY_ATTRIBUTES));

	ASSERT_EQ(GUEST_MEMFD_FLAG_MMAP, flags & GUEST_MEMFD_FLAG_MMAP);
	ASSERT_EQ(init_shared, flags & GUEST_MEMFD_FLAG_INIT_SHARED);
}

TEST_F(modes, vm_mode)
{
	const bool has_private = variant->type == KVM_X86_SW_PROTECTED_VM;
	struct kvm_vm *in_place_vm;

	if (self->in_place) {
		ASSERT_EQ(0, vm_check_cap(self->vm, KVM_CAP_MEMORY_ATTRIBUTES));
		ASSERT_EQ(ENOTTY, set_vm_attributes(self->vm, PRIVATE));
		ASSERT_EQ(ENOTTY, set_vm_attributes(self->vm, 0));
		if (!has_private) {
			ASSERT_EQ(EINVAL, set_gmem_attributes(self->vm, PRIVATE));
			ASSERT_EQ(EINVAL, set_gmem_attributes(self->vm, 0));
		}
		SKIP(return, "kvm.gmem_in_place_conversion=Y, no VM is in VM mode");
	}

	/* Other VMs can be in the other mode. */
	in_place_vm = ____vm_create(in_place_shape);
	ASSERT_TRUE(vm_has_gmem_attributes(in_place_vm));
	ASSERT_FALSE(vm_has_gmem_attributes(self->vm));

	ASSERT_EQ(has_private ? 0 : EINVAL, set_vm_attributes(self->vm, PRIVATE));
	ASSERT_EQ(0, set_vm_attributes(self->vm, 0));

	ASSERT_EQ(ENOTTY, set_gmem_attributes(self->vm, PRIVATE));
	ASSERT_EQ(ENOTTY, set_gmem_attributes(self->vm, 0));

	kvm_vm_free(in_place_vm);
}

TEST_F(modes, in_place_mode)
{
	struct kvm_vm *vm = self->vm;
	u64 flags;
	int fd;

	/* What the VM has doesn't change if it's refused what it wants. */
	if (variant->type == VM_TYPE_DEFAULT) {
		flags = vm_check_cap(vm, KVM_CAP_GUEST_MEMFD_FLAGS);
		ASSERT_EQ(EINVAL, enable_in_place(vm, PRIVATE, 0));
		ASSERT_EQ(0, vm_check_cap(vm, KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES));
		ASSERT_EQ(flags, vm_check_cap(vm, KVM_CAP_GUEST_MEMFD_FLAGS));
		ASSERT_EQ(self->in_place ? ENOTTY : 0, set_vm_attributes(vm, 0));
		return;
	}

	ASSERT_EQ(0, enable_in_place(vm, PRIVATE, 0));

	/* Asking again changes nothing. */
	ASSERT_EQ(0, enable_in_place(vm, PRIVATE, 0));

	ASSERT_EQ(PRIVATE, vm_check_cap(vm, KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES));
	ASSERT_EQ(0, vm_check_cap(vm, KVM_CAP_MEMORY_ATTRIBUTES));
	ASSERT_EQ(ENOTTY, set_vm_attributes(vm, PRIVATE));
	ASSERT_EQ(ENOTTY, set_vm_attributes(vm, 0));

	flags = vm_check_cap(vm, KVM_CAP_GUEST_MEMFD_FLAGS);
	ASSERT_EQ(GMEM_FLAGS, flags & GMEM_FLAGS);

	ASSERT_EQ(0, set_gmem_attributes(vm, PRIVATE));
	ASSERT_EQ(0, set_gmem_attributes(vm, 0));

	/* For life. */
	fd = vm_create_guest_memfd(vm, PAGE_SIZE, 0);
	__vm_vcpu_add(vm, 0);
	ASSERT_EQ(PRIVATE, vm_check_cap(vm, KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES));
	ASSERT_EQ(EBUSY, enable_in_place(vm, PRIVATE, 0));
	kvm_close(fd);
}

FIXTURE(gmem) {
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u8 *mem;
	int fd;
};

FIXTURE_VARIANT(gmem) {
	u64 flags;
	u64 init_state;
};

FIXTURE_VARIANT_ADD(gmem, init_private) {
	.flags = GUEST_MEMFD_FLAG_MMAP,
	.init_state = ALL_PAGES,
};

FIXTURE_VARIANT_ADD(gmem, init_shared) {
	.flags = GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED,
	.init_state = 0,
};

FIXTURE_SETUP(gmem)
{
	self->vm = __vm_create_shape_with_one_vcpu(in_place_shape, &self->vcpu,
						   NR_PAGES * 2, guest_code);
	self->fd = vm_create_guest_memfd(self->vm, GMEM_SIZE, variant->flags);

	vm_mem_add(self->vm, DEFAULT_VM_MEM_SRC, GMEM_GPA, GMEM_SLOT, NR_PAGES,
		   KVM_MEM_GUEST_MEMFD, self->fd, 0);
	self->mem = addr_gpa2hva(self->vm, GMEM_GPA);

	virt_map(self->vm, GMEM_GPA, GMEM_GPA, NR_PAGES);
	virt_map(self->vm, GMEM_GPA2, GMEM_GPA2, NR_PAGES);
}

FIXTURE_TEARDOWN(gmem)
{
	kvm_close(self->fd);
	kvm_vm_free(self->vm);
}

static u8 *page_hva(u8 *mem, int page)
{
	return mem + page * PAGE_SIZE;
}

static gpa_t page_gpa(int page)
{
	return GMEM_GPA + page * PAGE_SIZE;
}

static void to_private(int fd, int first, int nr)
{
	gmem_set_private(fd, first * PAGE_SIZE, nr * PAGE_SIZE);
}

static void to_shared(int fd, int first, int nr)
{
	gmem_set_shared(fd, first * PAGE_SIZE, nr * PAGE_SIZE);
}

/* Returns the errno and, in pages, where the conversion failed. */
static int try_private(int fd, int first, int nr, u64 *error_page)
{
	u64 error_offset = NO_ERROR_OFFSET;
	int r;

	r = __gmem_set_memory_attributes(fd, first * PAGE_SIZE, nr * PAGE_SIZE,
					 PRIVATE, &error_offset) ? errno : 0;

	TEST_ASSERT(!r == (error_offset == NO_ERROR_OFFSET),
		    "error_offset is 0x%lx, errno %d", error_offset, r);
	TEST_ASSERT(!r || IS_ALIGNED(error_offset, PAGE_SIZE),
		    "error_offset 0x%lx isn't page aligned", error_offset);
	*error_page = error_offset / PAGE_SIZE;
	return r;
}

/* Make the pages private whose bits are set in @state, and the others shared. */
static void set_state(int fd, u64 state)
{
	int i, nr;

	to_shared(fd, 0, NR_PAGES);
	for (i = 0; i < NR_PAGES; i += nr) {
		for (nr = 1; i + nr < NR_PAGES; nr++) {
			if (!(state & BIT_ULL(i)) != !(state & BIT_ULL(i + nr)))
				break;
		}
		if (state & BIT_ULL(i))
			to_private(fd, i, nr);
	}
}

/* Allocates the pages that are shared. */
static void check_state(u8 *mem, u64 state)
{
	int i;

	for (i = 0; i < NR_PAGES; i++)
		TEST_ASSERT(read_raises_sigbus(page_hva(mem, i)) == !!(state & BIT_ULL(i)),
			    "Page %d should be %s, state 0x%lx", i,
			    state & BIT_ULL(i) ? "private" : "shared", state);
}

static u64 host_read(u8 *mem, int page)
{
	return READ_ONCE(*(u64 *)page_hva(mem, page));
}

static void host_fill(u8 *mem, int first, int nr, int generation)
{
	fill_pages((u64 *)page_hva(mem, first), first, nr, generation);
}

static void host_check(u8 *mem, int first, int nr, int generation)
{
	int i = check_pages((u64 *)page_hva(mem, first), first, nr, generation);

	TEST_ASSERT(i == -1, "Host has wrong data at 0x%lx, page %d, generation %d",
		    i * sizeof(u64), first + i / (int)WORDS_PER_PAGE, generation);
}

static void guest_fill(struct kvm_vcpu *vcpu, int first, int nr, int generation)
{
	__guest_fill(vcpu, page_gpa(first), first, nr, generation);
}

static void guest_check(struct kvm_vcpu *vcpu, int first, int nr, int generation)
{
	__guest_check(vcpu, page_gpa(first), first, nr, generation);
}

/* How many pages the host has to fault in to read all of them. */
static long host_faults(u8 *mem, int first, int nr)
{
	struct rusage before, after;

	getrusage(RUSAGE_THREAD, &before);
	touch_pages((u64 *)page_hva(mem, first), nr);
	getrusage(RUSAGE_THREAD, &after);

	return after.ru_minflt - before.ru_minflt;
}

/* Same for the guest. */
static u64 guest_faults(struct kvm_vcpu *vcpu, int first, int nr)
{
	u64 before = vcpu_get_stat(vcpu, pf_fixed);

	guest_set(vcpu, GUEST_TOUCH, page_gpa(first), 0, nr, 0);
	run_guest(vcpu);

	return vcpu_get_stat(vcpu, pf_fixed) - before;
}

static u64 nr_allocated(int fd, void *mem, size_t size)
{
	const size_t nr_pages = size / PAGE_SIZE;
	struct cachestat_range range = {};
	struct cachestat cs = {};
	unsigned char *vec;
	u64 i, nr = 0;

	if (!syscall(__NR_cachestat, fd, &range, &cs, 0))
		return cs.nr_cache;

	/* Second choice, as it doesn't count pages that were never used. */
	vec = malloc(nr_pages);
	TEST_ASSERT(vec && !mincore(mem, size, vec), __KVM_SYSCALL_ERROR("mincore()", -1));
	for (i = 0; i < nr_pages; i++)
		nr += vec[i] & 1;
	free(vec);

	return nr;
}

static int gup_test_open(void)
{
	return open(GUP_TEST_PATH, O_RDWR);
}

/* Returns the errno. */
static int gup_test_pin(int gup_fd, void *mem, size_t size)
{
	struct pin_longterm_test pin = {
		.addr = (u64)mem,
		.size = size,
		.flags = PIN_LONGTERM_TEST_FLAG_USE_WRITE,
	};

	return ioctl(gup_fd, PIN_LONGTERM_TEST_START, &pin) ? errno : 0;
}

static void gup_test_unpin(int gup_fd)
{
	int r = ioctl(gup_fd, PIN_LONGTERM_TEST_STOP);

	TEST_ASSERT(!r, __KVM_SYSCALL_ERROR("PIN_LONGTERM_TEST_STOP", r));
}

/* Have a pipe hold a reference, which unlike a pin is just a reference. */
static ssize_t splice_page(int pipe_fds[2], void *mem)
{
	struct iovec iov = {
		.iov_base = mem,
		.iov_len = PAGE_SIZE,
	};

	TEST_ASSERT(!pipe(pipe_fds), "pipe() failed");
	return vmsplice(pipe_fds[1], &iov, 1, SPLICE_F_NONBLOCK);
}

static void unsplice_page(int pipe_fds[2], void *buf)
{
	TEST_ASSERT_EQ(read(pipe_fds[0], buf, PAGE_SIZE), PAGE_SIZE);
	kvm_close(pipe_fds[0]);
	kvm_close(pipe_fds[1]);
}

/* Returns the errno.  The SIGBUS that poison sends to its finder is expected. */
static int poison_page(void *mem)
{
	struct sigaction sa_old, sa = {
		.sa_handler = expect_sigbus_handler,
	};
	int r = 0;

	sigaction(SIGBUS, &sa, &sa_old);
	if (!sigsetjmp(expect_sigbus_jmpbuf, 1))
		r = madvise(mem, PAGE_SIZE, MADV_HWPOISON) ? errno : 0;
	sigaction(SIGBUS, &sa_old, NULL);

	return r;
}

TEST_F(gmem, wrong_fd)
{
	struct kvm_memory_attributes2 attr = {
		.size = PAGE_SIZE,
		.attributes = PRIVATE,
	};
	struct kvm_memory_attributes vm_attr = {
		.size = PAGE_SIZE,
		.attributes = PRIVATE,
	};
	int unknown, fd;

	set_state(self->fd, MIXED);

	ASSERT_EQ(ENOTTY, set_attributes(self->vm->fd, &attr));

	/* x86 has EINVAL for what it doesn't know on these two. */
	unknown = ioctl(self->vcpu->fd, _IO(KVMIO, 0xff), NULL) ? errno : 0;
	ASSERT_TRUE(unknown == EINVAL || unknown == ENOTTY);
	ASSERT_EQ(unknown, set_attributes(self->vcpu->fd, &attr));
	ASSERT_EQ(unknown, set_attributes(self->vm->kvm_fd, &attr));

	fd = kvm_memfd_alloc(GMEM_SIZE, false);
	ASSERT_EQ(ENOTTY, set_attributes(fd, &attr));
	kvm_close(fd);

	/* And what a guest_memfd doesn't know. */
	ASSERT_EQ(-1, ioctl(self->fd, KVM_SET_MEMORY_ATTRIBUTES, &vm_attr));
	ASSERT_EQ(ENOTTY, errno);
	ASSERT_EQ(-1, ioctl(self->fd, _IO(KVMIO, 0xd2), &attr));
	ASSERT_EQ(ENOTTY, errno);

	check_state(self->mem, MIXED);
}

TEST_F(gmem, wrong_process)
{
	struct kvm_memory_attributes2 attr = {
		.size = GMEM_SIZE,
		.attributes = PRIVATE,
		.error_offset = NO_ERROR_OFFSET,
	};

	set_state(self->fd, MIXED);
	ASSERT_EQ(EIO, child_set_attributes(self->fd, KVM_SET_MEMORY_ATTRIBUTES2, &attr));

	attr.attributes = 0;
	ASSERT_EQ(EIO, child_set_attributes(self->fd, KVM_SET_MEMORY_ATTRIBUTES2, &attr));
	ASSERT_EQ(NO_ERROR_OFFSET, attr.error_offset);
	check_state(self->mem, MIXED);
}

TEST_F(gmem, bad_struct)
{
	struct kvm_memory_attributes2 *attr;
	void *mem;

	set_state(self->fd, MIXED);

	ASSERT_EQ(EFAULT, set_attributes(self->fd, NULL));

	/* The first half of a valid struct, and then nothing. */
	mem = kvm_mmap(PAGE_SIZE * 2, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	attr = mem + PAGE_SIZE - sizeof(*attr) / 2;
	attr->size = GMEM_SIZE;
	attr->attributes = PRIVATE;
	ASSERT_EQ(0, mprotect(mem + PAGE_SIZE, PAGE_SIZE, PROT_NONE));
	ASSERT_EQ(EFAULT, set_attributes(self->fd, attr));
	check_state(self->mem, MIXED);

	/* The struct isn't written to if there is nothing to report. */
	attr = mem;
	attr->size = PAGE_SIZE;
	attr->attributes = PRIVATE;
	attr->flags = 1;
	ASSERT_EQ(0, mprotect(mem, PAGE_SIZE, PROT_READ));
	ASSERT_EQ(EINVAL, set_attributes(self->fd, attr));
	check_state(self->mem, MIXED);

	ASSERT_EQ(0, mprotect(mem, PAGE_SIZE, PROT_READ | PROT_WRITE));
	attr->offset = GMEM_SIZE / 2;
	attr->size = GMEM_SIZE / 2;
	attr->flags = 0;
	ASSERT_EQ(0, mprotect(mem, PAGE_SIZE, PROT_READ));
	ASSERT_EQ(0, set_attributes(self->fd, attr));
	check_state(self->mem, MIXED | pages(NR_PAGES / 2, NR_PAGES / 2));
}

TEST_F(gmem, bad_args)
{
	const struct kvm_memory_attributes2 bad[] = {
		/* Sizes and offsets that aren't page-aligned, or not at all. */
		{ .offset = 0, .size = 0 },
		{ .offset = PAGE_SIZE, .size = 0 },
		{ .offset = GMEM_SIZE, .size = 0 },
		{ .offset = 0, .size = 1 },
		{ .offset = 0, .size = PAGE_SIZE - 1 },
		{ .offset = 0, .size = PAGE_SIZE + 1 },
		{ .offset = 1, .size = PAGE_SIZE },
		{ .offset = PAGE_SIZE - 1, .size = PAGE_SIZE },
		{ .offset = PAGE_SIZE + 1, .size = PAGE_SIZE - 1 },
		{ .offset = 1, .size = -1 },

		/* Beyond the end of the file. */
		{ .offset = 0, .size = GMEM_SIZE + PAGE_SIZE },
		{ .offset = PAGE_SIZE, .size = GMEM_SIZE },
		{ .offset = GMEM_SIZE - PAGE_SIZE, .size = PAGE_SIZE * 2 },
		{ .offset = GMEM_SIZE, .size = PAGE_SIZE },
		{ .offset = GMEM_SIZE + PAGE_SIZE, .size = PAGE_SIZE },
		{ .offset = 0, .size = BIT_ULL(44) },
		{ .offset = 0, .size = BIT_ULL(63) },
		{ .offset = 0, .size = -PAGE_SIZE },
		{ .offset = BIT_ULL(44), .size = PAGE_SIZE },
		{ .offset = BIT_ULL(63), .size = PAGE_SIZE },

		/* Wraps, to zero and to what would be in the file. */
		{ .offset = PAGE_SIZE, .size = -PAGE_SIZE },
		{ .offset = -PAGE_SIZE, .size = PAGE_SIZE },
		{ .offset = PAGE_SIZE * 2, .size = -PAGE_SIZE },
		{ .offset = -PAGE_SIZE, .size = PAGE_SIZE * 2 },
		{ .offset = BIT_ULL(63), .size = BIT_ULL(63) },
		{ .offset = BIT_ULL(63) + PAGE_SIZE, .size = BIT_ULL(63) },
	};
	struct kvm_memory_attributes2 attr;
	int i;

#define ASSERT_EINVAL()								\
do {										\
	attr.error_offset = NO_ERROR_OFFSET;					\
	ASSERT_EQ(EINVAL, set_attributes(self->fd, &attr))			\
		TH_LOG("offset 0x%llx size 0x%llx", attr.offset, attr.size);	\
	ASSERT_EQ(NO_ERROR_OFFSET, attr.error_offset);				\
} while (0)

	set_state(self->fd, MIXED);

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		attr = bad[i];
		ASSERT_EINVAL();
		attr.attributes = PRIVATE;
		ASSERT_EINVAL();
	}

	for (i = 0; i < 64; i++) {
		attr = (struct kvm_memory_attributes2) { .size = GMEM_SIZE };

		attr.flags = BIT_ULL(i);
		ASSERT_EINVAL();
		attr.attributes = PRIVATE;
		ASSERT_EINVAL();

		attr.flags = 0;
		attr.attributes = BIT_ULL(i);
		if (attr.attributes == PRIVATE)
			continue;
		ASSERT_EINVAL();
		attr.attributes |= PRIVATE;
		ASSERT_EINVAL();
	}

	for (i = 0; i < ARRAY_SIZE(attr.reserved); i++) {
		attr = (struct kvm_memory_attributes2) { .size = GMEM_SIZE };

		attr.reserved[i] = 1;
		ASSERT_EINVAL();
		attr.reserved[i] = BIT_ULL(63);
		attr.attributes = PRIVATE;
		ASSERT_EINVAL();
	}

	check_state(self->mem, MIXED);

	/* The same struct, put right, to be sure that it was for the reason. */
	attr.reserved[ARRAY_SIZE(attr.reserved) - 1] = 0;
	ASSERT_EQ(0, set_attributes(self->fd, &attr));
	check_state(self->mem, ALL_PAGES);
}

/* Each call has two errors, and gets the errno of the one to be found first. */
TEST_F(gmem, error_order)
{
	struct kvm_memory_attributes2 *attr;
	char buf[PAGE_SIZE];
	int pipe_fds[2];
	struct kvm_vm *vm;
	void *mem;
	int fd;

	set_state(self->fd, MIXED);

	/* An unknown command or the wrong mode, and the wrong process. */
	ASSERT_EQ(ENOTTY, child_set_attributes(self->fd, KVM_SET_MEMORY_ATTRIBUTES, NULL));
	if (!in_place_is_default()) {
		vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
		fd = vm_create_guest_memfd(vm, PAGE_SIZE, 0);
		ASSERT_EQ(ENOTTY, child_set_attributes(fd, KVM_SET_MEMORY_ATTRIBUTES2, NULL));
		kvm_close(fd);
		kvm_vm_free(vm);
	}

	/* The wrong process, and no struct. */
	ASSERT_EQ(EIO, child_set_attributes(self->fd, KVM_SET_MEMORY_ATTRIBUTES2, NULL));

	/* Half a struct, and all words of that are wrong. */
	mem = kvm_mmap(PAGE_SIZE * 2, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	attr = mem + PAGE_SIZE - sizeof(*attr) / 2;
	memset(attr, 0xff, sizeof(*attr) / 2);
	ASSERT_EQ(0, mprotect(mem + PAGE_SIZE, PAGE_SIZE, PROT_NONE));
	ASSERT_EQ(EFAULT, set_attributes(self->fd, attr));

	/* A wrong argument, and a page that is in use. */
	ASSERT_EQ(PAGE_SIZE, splice_page(pipe_fds, page_hva(self->mem, 10)));
	attr = mem;
	attr->size = GMEM_SIZE;
	attr->attributes = PRIVATE;
	attr->error_offset = NO_ERROR_OFFSET;
	attr->reserved[10] = 1;
	ASSERT_EQ(EINVAL, set_attributes(self->fd, attr));
	ASSERT_EQ(NO_ERROR_OFFSET, attr->error_offset);

	/* A page that is in use, and no way to say which. */
	attr->reserved[10] = 0;
	ASSERT_EQ(0, mprotect(mem, PAGE_SIZE, PROT_READ));
	ASSERT_EQ(EFAULT, set_attributes(self->fd, attr));

	ASSERT_EQ(0, mprotect(mem, PAGE_SIZE, PROT_READ | PROT_WRITE));
	ASSERT_EQ(EAGAIN, set_attributes(self->fd, attr));
	ASSERT_EQ(10 * PAGE_SIZE, attr->error_offset);

	unsplice_page(pipe_fds, buf);
	check_state(self->mem, MIXED);
}

TEST_F(gmem, enomem)
{
	/*
	 * Not many ranges: KVM's maple tree has a reserve of nodes for stores
	 * that need several of them, and then there's nothing to fail.
	 */
	const u64 state = pages(20, 4) | pages(34, 2);
	int nth, nth_fd, ignore_fd, verbose_fd, pipe_fds[2], r;
	bool failed = false, done = false;
	u64 error_page;
	char buf[PAGE_SIZE] = {};

	nth_fd = open("/proc/thread-self/fail-nth", O_RDWR);
	ignore_fd = open(FAILSLAB_PATH "ignore-gfp-wait", O_WRONLY);
	verbose_fd = open(FAILSLAB_PATH "verbose", O_WRONLY);
	if (nth_fd < 0 || ignore_fd < 0 || verbose_fd < 0)
		SKIP(return, "No fault injection, needs CONFIG_FAILSLAB and debugfs");

	ASSERT_EQ(1, write(ignore_fd, "N", 1));
	ASSERT_EQ(1, write(verbose_fd, "0", 1));

	/* A page that is in use, ENOMEM comes first. */
	set_state(self->fd, state);
	ASSERT_EQ(PAGE_SIZE, splice_page(pipe_fds, page_hva(self->mem, 31)));

	for (nth = 1; !done; nth++) {
		ASSERT_LT(nth, 1000);
		snprintf(buf, sizeof(buf), "%d", nth);
		ASSERT_LT(0, pwrite(nth_fd, buf, strlen(buf), 0));
		r = try_private(self->fd, 17, 29, &error_page);
		ASSERT_LT(0, pread(nth_fd, buf, sizeof(buf), 0));
		ASSERT_EQ(1, pwrite(nth_fd, "0", 1, 0));

		/* Nothing left to fail?  KVM may also have tried again. */
		done = atoi(buf) > 0;
		if (r == ENOMEM) {
			ASSERT_FALSE(done);
			ASSERT_LE(17, error_page);
			ASSERT_GT(17 + 29, error_page);
			failed = true;
		} else {
			ASSERT_EQ(EAGAIN, r);
			ASSERT_EQ(31, error_page);
		}
		check_state(self->mem, state);
	}
	ASSERT_TRUE(failed);

	/* To shared nothing can be in the way, apart from a lack of memory. */
	for (nth = 1, failed = false, done = false; !done; nth++) {
		u64 error_offset = NO_ERROR_OFFSET;

		ASSERT_LT(nth, 1000);
		snprintf(buf, sizeof(buf), "%d", nth);
		ASSERT_LT(0, pwrite(nth_fd, buf, strlen(buf), 0));
		r = __gmem_set_memory_attributes(self->fd, 17 * PAGE_SIZE, 29 * PAGE_SIZE,
						 0, &error_offset) ? errno : 0;
		ASSERT_LT(0, pread(nth_fd, buf, sizeof(buf), 0));
		ASSERT_EQ(1, pwrite(nth_fd, "0", 1, 0));

		done = atoi(buf) > 0;
		if (r) {
			ASSERT_EQ(ENOMEM, r);
			ASSERT_FALSE(done);
			ASSERT_LE(17 * PAGE_SIZE, error_offset);
			ASSERT_GT((17 + 29) * PAGE_SIZE, error_offset);
			failed = true;
			check_state(self->mem, state);
		} else {
			check_state(self->mem, state & ~pages(17, 29));
			set_state(self->fd, state);
		}
	}
	ASSERT_TRUE(failed);

	unsplice_page(pipe_fds, buf);
	kvm_close(nth_fd);
	kvm_close(ignore_fd);
	kvm_close(verbose_fd);
}

TEST_F(gmem, poisoned)
{
	int gup_fd = gup_test_open();
	char buf[PAGE_SIZE];
	int pipe_fds[2], r;
	u64 error_page;

	set_state(self->fd, 0);
	host_fill(self->mem, 0, NR_PAGES, 1);

	r = poison_page(page_hva(self->mem, 10));
	if (r == EINVAL || r == EPERM)
		SKIP(return, "No MADV_HWPOISON, needs CONFIG_MEMORY_FAILURE and root");
	ASSERT_EQ(0, r);

	ASSERT_EQ(EHWPOISON, try_private(self->fd, 10, 1, &error_page));
	ASSERT_EQ(10, error_page);
	ASSERT_EQ(EHWPOISON, try_private(self->fd, 0, NR_PAGES, &error_page));
	ASSERT_EQ(10, error_page);

	/* Other pages that are in use don't matter, before and behind it. */
	ASSERT_EQ(PAGE_SIZE, splice_page(pipe_fds, page_hva(self->mem, 8)));
	ASSERT_EQ(EHWPOISON, try_private(self->fd, 4, 10, &error_page));
	ASSERT_EQ(10, error_page);
	unsplice_page(pipe_fds, buf);
	if (gup_fd >= 0) {
		ASSERT_EQ(0, gup_test_pin(gup_fd, page_hva(self->mem, 8), PAGE_SIZE));
		ASSERT_EQ(EHWPOISON, try_private(self->fd, 4, 10, &error_page));
		ASSERT_EQ(10, error_page);
		gup_test_unpin(gup_fd);

		ASSERT_EQ(0, gup_test_pin(gup_fd, page_hva(self->mem, 12), PAGE_SIZE));
		ASSERT_EQ(EHWPOISON, try_private(self->fd, 4, 10, &error_page));
		ASSERT_EQ(10, error_page);
		gup_test_unpin(gup_fd);
		kvm_close(gup_fd);
	}

	/* Nothing was converted by all that, and the page harms only itself. */
	host_check(self->mem, 0, 10, 1);
	host_check(self->mem, 11, NR_PAGES - 11, 1);
	to_private(self->fd, 0, 10);
	to_private(self->fd, 11, NR_PAGES - 11);
	to_shared(self->fd, 0, NR_PAGES);

	/* What helps is a new page. */
	kvm_fallocate(self->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		      10 * PAGE_SIZE, PAGE_SIZE);
	ASSERT_EQ(0, try_private(self->fd, 0, NR_PAGES, &error_page));
	ASSERT_EQ(0, guest_read(self->vcpu, page_gpa(10)));
	guest_check(self->vcpu, 9, 1, 1);
	guest_check(self->vcpu, 11, 1, 1);

	/* The poison is also in the page table, as with any file. */
	kvm_madvise(page_hva(self->mem, 10), PAGE_SIZE, MADV_DONTNEED);
	check_state(self->mem, ALL_PAGES);
	to_shared(self->fd, 10, 1);
	ASSERT_EQ(0, host_read(self->mem, 10));
}

TEST_F(gmem, pinned)
{
	struct kvm_memory_attributes2 attr = {
		.size = GMEM_SIZE,
		.attributes = PRIVATE,
	};
	int gup_fd = gup_test_open();
	char buf[PAGE_SIZE];
	u64 error_page;

	if (gup_fd < 0)
		SKIP(return, "No " GUP_TEST_PATH ", needs CONFIG_GUP_TEST and root");

	set_state(self->fd, 0);
	host_fill(self->mem, 0, NR_PAGES, 1);
	set_state(self->fd, MIXED);
	host_faults(self->mem, 8, 12);

	/* Pages 10 to 12 are shared in MIXED, as is everything from 8 to 19. */
	ASSERT_EQ(0, gup_test_pin(gup_fd, page_hva(self->mem, 10), 3 * PAGE_SIZE));

	/* The first pinned page in the range is the one to be reported. */
	ASSERT_EQ(EAGAIN, try_private(self->fd, 0, NR_PAGES, &error_page));
	ASSERT_EQ(10, error_page);
	ASSERT_EQ(EAGAIN, try_private(self->fd, 8, 12, &error_page));
	ASSERT_EQ(10, error_page);
	ASSERT_EQ(EAGAIN, try_private(self->fd, 11, 9, &error_page));
	ASSERT_EQ(11, error_page);
	ASSERT_EQ(EAGAIN, try_private(self->fd, 12, 1, &error_page));
	ASSERT_EQ(12, error_page);

	/* It was refused before anything was unmapped. */
	ASSERT_EQ(0, host_faults(self->mem, 8, 12));
	check_state(self->mem, MIXED);
	host_check(self->mem, 8, 12, 1);

	/* Only pages that have to be converted, and only to private. */
	to_private(self->fd, 8, 2);
	to_private(self->fd, 13, 7);
	to_shared(self->fd, 0, NR_PAGES);
	to_private(self->fd, 0, 10);
	to_private(self->fd, 0, 10);
	check_state(self->mem, pages(0, 10));

	/* Retry with what the last failure left in the struct. */
	ASSERT_EQ(EAGAIN, set_attributes(self->fd, &attr));
	ASSERT_EQ(10 * PAGE_SIZE, attr.error_offset);
	ASSERT_EQ(EAGAIN, set_attributes(self->fd, &attr));
	ASSERT_EQ(10 * PAGE_SIZE, attr.error_offset);

	/* Whoever has the pin can still use it, but can't get another. */
	host_fill(self->mem, 10, 1, 2);
	gup_test_unpin(gup_fd);
	ASSERT_EQ(0, set_attributes(self->fd, &attr));
	check_state(self->mem, ALL_PAGES);
	guest_check(self->vcpu, 10, 1, 2);
	guest_check(self->vcpu, 11, NR_PAGES - 11, 1);

	ASSERT_EQ(EFAULT, gup_test_pin(gup_fd, page_hva(self->mem, 10), PAGE_SIZE));
	to_shared(self->fd, 10, 1);
	ASSERT_EQ(0, gup_test_pin(gup_fd, page_hva(self->mem, 10), PAGE_SIZE));
	ASSERT_EQ(0, ioctl(gup_fd, PIN_LONGTERM_TEST_READ, &(u64){ (u64)buf }));
	ASSERT_EQ(page_val(10, 2), *(u64 *)buf);
	gup_test_unpin(gup_fd);
	kvm_close(gup_fd);
}

/* Same for references that aren't pins, KVM has to count to find them. */
TEST_F(gmem, spliced)
{
	struct kvm_memory_attributes2 attr = {
		.size = GMEM_SIZE,
		.attributes = PRIVATE,
	};
	int pipe_fds[2], pipe_fds2[2];
	char buf[PAGE_SIZE];
	u64 error_page;

	set_state(self->fd, 0);
	host_fill(self->mem, 0, NR_PAGES, 1);
	set_state(self->fd, MIXED);
	ASSERT_EQ(PAGE_SIZE, splice_page(pipe_fds, page_hva(self->mem, 10)));
	ASSERT_EQ(PAGE_SIZE, splice_page(pipe_fds2, page_hva(self->mem, 12)));

	ASSERT_EQ(EAGAIN, try_private(self->fd, 0, NR_PAGES, &error_page));
	ASSERT_EQ(10, error_page);
	ASSERT_EQ(EAGAIN, try_private(self->fd, 10, 1, &error_page));
	ASSERT_EQ(10, error_page);
	ASSERT_EQ(EAGAIN, try_private(self->fd, 11, 9, &error_page));
	ASSERT_EQ(12, error_page);

	/* Mappings may be gone now, but not for good. */
	check_state(self->mem, MIXED);
	host_check(self->mem, 8, 12, 1);

	ASSERT_EQ(EAGAIN, set_attributes(self->fd, &attr));
	ASSERT_EQ(10 * PAGE_SIZE, attr.error_offset);

	unsplice_page(pipe_fds, buf);
	ASSERT_EQ(page_val(10, 1), *(u64 *)buf);
	ASSERT_EQ(EAGAIN, set_attributes(self->fd, &attr));
	ASSERT_EQ(12 * PAGE_SIZE, attr.error_offset);

	unsplice_page(pipe_fds2, buf);
	ASSERT_EQ(page_val(12, 1), *(u64 *)buf);
	ASSERT_EQ(0, set_attributes(self->fd, &attr));
	check_state(self->mem, ALL_PAGES);
	guest_check(self->vcpu, 8, 12, 1);

	ASSERT_EQ(-1, splice_page(pipe_fds, page_hva(self->mem, 10)));
	ASSERT_EQ(EFAULT, errno);
}

static void __noreturn convert_until_killed(u64 *progress)
{
	const u64 size = SZ_1G, populated = SZ_2M;
	struct kvm_vm *vm;
	u64 i;
	int fd;

	vm = ____vm_create(in_place_shape);
	fd = vm_create_guest_memfd(vm, size, GMEM_FLAGS);
	kvm_fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, populated);

	for (;;) {
		for (i = 0; i < 64; i++, WRITE_ONCE(*progress, *progress + 1))
			gmem_set_private(fd, i * 2 * PAGE_SIZE, PAGE_SIZE);
		gmem_set_private(fd, 0, size);
		gmem_set_shared(fd, 0, size);
		WRITE_ONCE(*progress, *progress + 1);
	}
}

TEST_F(gmem, killed)
{
	u64 *progress, i;
	int status;
	pid_t pid;

	progress = kvm_mmap(PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);

	/* From the first conversion on, and from within each kind of them. */
	for (i = 1; i < 100; i += 31) {
		WRITE_ONCE(*progress, 0);
		pid = fork();
		if (!pid)
			convert_until_killed(progress);

		while (READ_ONCE(*progress) < i) {
			ASSERT_EQ(0, waitpid(pid, &status, WNOHANG));
			sched_yield();
		}
		ASSERT_EQ(0, kill(pid, SIGKILL));
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_TRUE(WIFSIGNALED(status));
		ASSERT_EQ(SIGKILL, WTERMSIG(status));
	}

	/* Nothing is stuck. */
	set_state(self->fd, MIXED);
	check_state(self->mem, MIXED);
	guest_fill(self->vcpu, 0, NR_PAGES, 1);
	guest_check(self->vcpu, 0, NR_PAGES, 1);
}

TEST_F(gmem, no_host_access)
{
	static const char path[] = "/proc/self/mem";
	char buf[PAGE_SIZE] = {};
	int mem_fd, pipe_fds[2];
	u8 *alias;

	mem_fd = open(path, O_RDWR);
	ASSERT_LE(0, mem_fd);
	ASSERT_EQ(0, pipe(pipe_fds));
	alias = addr_gpa2alias(self->vm, GMEM_GPA);
	ASSERT_NE(self->mem, alias);

	set_state(self->fd, 0);
	host_fill(self->mem, 0, NR_PAGES, 1);
	host_faults(self->mem, 0, NR_PAGES);
	READ_ONCE(alias[10 * PAGE_SIZE]);

	/* What is going to fail works if the page is shared. */
	ASSERT_EQ(8, pread(mem_fd, buf, 8, (off_t)page_hva(self->mem, 10)));
	ASSERT_EQ(page_val(10, 1), *(u64 *)buf);
	ASSERT_EQ(8, pwrite(mem_fd, buf, 8, (off_t)page_hva(self->mem, 10)));
	ASSERT_EQ(8, write(pipe_fds[1], page_hva(self->mem, 10), 8));
	ASSERT_EQ(8, read(pipe_fds[0], page_hva(self->mem, 10), 8));
	memset(buf, 0, sizeof(buf));

	to_private(self->fd, 8, 8);

	/* All mappings, and all kinds of access. */
	TEST_EXPECT_SIGBUS(READ_ONCE(*page_hva(self->mem, 10)));
	TEST_EXPECT_SIGBUS(WRITE_ONCE(*page_hva(self->mem, 10), 0));
	TEST_EXPECT_SIGBUS(READ_ONCE(alias[10 * PAGE_SIZE]));
	TEST_EXPECT_SIGBUS(WRITE_ONCE(alias[10 * PAGE_SIZE], 0));

	ASSERT_EQ(-1, pread(mem_fd, buf, 8, (off_t)page_hva(self->mem, 10)));
	ASSERT_TRUE(errno == EIO || errno == EFAULT);
	ASSERT_EQ(0, *(u64 *)buf);
	ASSERT_EQ(-1, pwrite(mem_fd, buf, 8, (off_t)page_hva(self->mem, 10)));
	ASSERT_TRUE(errno == EIO || errno == EFAULT);

	ASSERT_EQ(-1, write(pipe_fds[1], page_hva(self->mem, 10), 8));
	ASSERT_EQ(EFAULT, errno);
	ASSERT_EQ(8, write(pipe_fds[1], buf, 8));
	ASSERT_EQ(-1, read(pipe_fds[0], page_hva(self->mem, 10), 8));
	ASSERT_EQ(EFAULT, errno);

	ASSERT_EQ(-1, madvise(page_hva(self->mem, 10), PAGE_SIZE, MADV_POPULATE_READ));
	ASSERT_EQ(EFAULT, errno);
	ASSERT_EQ(-1, madvise(page_hva(self->mem, 10), PAGE_SIZE, MADV_POPULATE_WRITE));
	ASSERT_EQ(EFAULT, errno);

	/* At the border, exactly the shared part. */
	ASSERT_EQ(8, pread(mem_fd, buf, 16, (off_t)page_hva(self->mem, 8) - 8));
	ASSERT_EQ(page_val(7, 1), *(u64 *)buf);
	ASSERT_EQ(0, *(u64 *)(buf + 8));

	/* Whatever was tried, the guest has its data. */
	guest_check(self->vcpu, 0, NR_PAGES, 1);
	kvm_close(mem_fd);
	kvm_close(pipe_fds[0]);
	kvm_close(pipe_fds[1]);
}

TEST_F(gmem, no_process_vm_access)
{
	struct iovec remote = {
		.iov_base = page_hva(self->mem, 10),
		.iov_len = sizeof(u64),
	};
	u64 val = 0;
	struct iovec local = {
		.iov_base = &val,
		.iov_len = sizeof(val),
	};

	set_state(self->fd, 0);
	host_fill(self->mem, 10, 1, 1);

	if (process_vm_readv(getpid(), &local, 1, &local, 1, 0) != sizeof(val))
		SKIP(return, "No process_vm_readv(), needs CONFIG_CROSS_MEMORY_ATTACH");

	ASSERT_EQ(sizeof(val), process_vm_readv(getpid(), &local, 1, &remote, 1, 0));
	ASSERT_EQ(page_val(10, 1), val);

	to_private(self->fd, 10, 1);
	val = 0;
	ASSERT_EQ(-1, process_vm_readv(getpid(), &local, 1, &remote, 1, 0));
	ASSERT_EQ(EFAULT, errno);
	ASSERT_EQ(0, val);
	ASSERT_EQ(-1, process_vm_writev(getpid(), &local, 1, &remote, 1, 0));
	ASSERT_EQ(EFAULT, errno);
	guest_check(self->vcpu, 10, 1, 1);
}

/* KVM is the host, too: have it write the time to what a guest calls its own. */
TEST_F(gmem, no_kvm_access)
{
	set_state(self->fd, 0);
	host_fill(self->mem, 10, 1, 1);
	to_private(self->fd, 10, 1);
	vcpu_set_msr(self->vcpu, MSR_KVM_WALL_CLOCK_NEW, page_gpa(10));
	guest_check(self->vcpu, 10, 1, 1);
	to_shared(self->fd, 10, 1);
	host_check(self->mem, 10, 1, 1);

	vcpu_set_msr(self->vcpu, MSR_KVM_WALL_CLOCK_NEW, page_gpa(10));
	ASSERT_NE(page_val(10, 1), host_read(self->mem, 10));
	ASSERT_EQ(host_read(self->mem, 10), guest_read(self->vcpu, page_gpa(10)));
}

/* A child that inherited the mapping loses the page just as its parent does. */
TEST_F(gmem, no_child_access)
{
	int to_child[2], to_parent[2], status;
	char c = 0;
	pid_t pid;

	ASSERT_EQ(0, pipe(to_child));
	ASSERT_EQ(0, pipe(to_parent));
	set_state(self->fd, 0);
	host_fill(self->mem, 0, NR_PAGES, 1);

	pid = fork();
	if (!pid) {
		check_state(self->mem, 0);
		host_check(self->mem, 0, NR_PAGES, 1);
		TEST_ASSERT_EQ(write(to_parent[1], &c, 1), 1);

		TEST_ASSERT_EQ(read(to_child[0], &c, 1), 1);
		check_state(self->mem, pages(10, 20));
		TEST_ASSERT_EQ(write(to_parent[1], &c, 1), 1);

		TEST_ASSERT_EQ(read(to_child[0], &c, 1), 1);
		check_state(self->mem, 0);
		host_check(self->mem, 0, NR_PAGES, 1);
		_exit(0);
	}
	kvm_close(to_parent[1]);

	ASSERT_EQ(1, read(to_parent[0], &c, 1));
	host_faults(self->mem, 0, NR_PAGES);
	to_private(self->fd, 10, 20);
	check_state(self->mem, pages(10, 20));
	ASSERT_EQ(1, write(to_child[1], &c, 1));

	ASSERT_EQ(1, read(to_parent[0], &c, 1));
	to_shared(self->fd, 10, 20);
	ASSERT_EQ(1, write(to_child[1], &c, 1));

	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, status);
}

TEST_F(gmem, start_state)
{
	ASSERT_EQ(0, nr_allocated(self->fd, self->mem, GMEM_SIZE));
	check_state(self->mem, variant->init_state);
	ASSERT_EQ(__builtin_popcountll(~variant->init_state),
		  nr_allocated(self->fd, self->mem, GMEM_SIZE));

	/* Either way, the guest has zeroes and can write. */
	ASSERT_EQ(0, guest_read(self->vcpu, page_gpa(0)));
	ASSERT_EQ(0, guest_read(self->vcpu, page_gpa(NR_PAGES - 1)));
	guest_fill(self->vcpu, 0, NR_PAGES, 1);
	guest_check(self->vcpu, 0, NR_PAGES, 1);
	check_state(self->mem, variant->init_state);
}

TEST_F(gmem, convert)
{
	static const struct {
		int first, nr;
	} ranges[] = {
		{ 0, 1 }, { NR_PAGES / 2, 1 }, { NR_PAGES - 1, 1 },
		{ 0, 7 }, { NR_PAGES / 2, 7 }, { NR_PAGES - 7, 7 },
		{ 0, NR_PAGES },
	};
	int i, first, nr, end, gen = 0;

	for (i = 0; i < ARRAY_SIZE(ranges); i++) {
		first = ranges[i].first;
		nr = ranges[i].nr;
		end = first + nr;

		/* In a sea of shared, to private and back. */
		set_state(self->fd, 0);
		host_fill(self->mem, 0, NR_PAGES, ++gen);
		to_private(self->fd, first, nr);
		check_state(self->mem, pages(first, nr));
		guest_check(self->vcpu, 0, NR_PAGES, gen);

		guest_fill(self->vcpu, first, nr, gen + 1);
		to_shared(self->fd, first, nr);
		check_state(self->mem, 0);
		host_check(self->mem, 0, first, gen);
		host_check(self->mem, first, nr, gen + 1);
		host_check(self->mem, end, NR_PAGES - end, gen);
		host_fill(self->mem, first, nr, gen + 2);
		guest_check(self->vcpu, first, nr, gen + 2);
		gen += 2;

		/* And the other way round. */
		set_state(self->fd, ALL_PAGES);
		guest_fill(self->vcpu, 0, NR_PAGES, ++gen);
		to_shared(self->fd, first, nr);
		check_state(self->mem, ALL_PAGES & ~pages(first, nr));
		host_check(self->mem, first, nr, gen);

		host_fill(self->mem, first, nr, gen + 1);
		to_private(self->fd, first, nr);
		check_state(self->mem, ALL_PAGES);
		guest_check(self->vcpu, 0, first, gen);
		guest_check(self->vcpu, first, nr, gen + 1);
		guest_check(self->vcpu, end, NR_PAGES - end, gen);
		gen++;
	}
}

TEST_F(gmem, convert_random)
{
	u64 state = variant->init_state;
	int i, first, nr;

	for (i = 0; i < 100; i++) {
		first = kvm_random_u32_in_range(&kvm_rng, 0, NR_PAGES - 1);
		nr = kvm_random_u32_in_range(&kvm_rng, 1, NR_PAGES - first);

		if (kvm_random_bool(&kvm_rng)) {
			to_private(self->fd, first, nr);
			state |= pages(first, nr);
		} else {
			to_shared(self->fd, first, nr);
			state &= ~pages(first, nr);
		}
		check_state(self->mem, state);
	}
}

/* Nothing to do is nothing done: whatever is mapped stays mapped. */
TEST_F(gmem, no_op)
{
	set_state(self->fd, MIXED);
	guest_faults(self->vcpu, 0, NR_PAGES);
	ASSERT_EQ(0, guest_faults(self->vcpu, 0, NR_PAGES));
	host_faults(self->mem, 8, 12);
	ASSERT_EQ(0, host_faults(self->mem, 8, 12));

	to_shared(self->fd, 8, 12);
	to_shared(self->fd, 9, 1);
	to_private(self->fd, 20, 20);
	to_private(self->fd, 25, 1);
	ASSERT_EQ(0, host_faults(self->mem, 8, 12));
	ASSERT_EQ(0, guest_faults(self->vcpu, 0, NR_PAGES));
	check_state(self->mem, MIXED);

	/* To be sure that faults are counted. */
	to_private(self->fd, 9, 1);
	ASSERT_EQ(1, guest_faults(self->vcpu, 0, NR_PAGES));
	to_shared(self->fd, 9, 1);
	ASSERT_EQ(1, guest_faults(self->vcpu, 0, NR_PAGES));
	ASSERT_EQ(1, host_faults(self->mem, 8, 12));
}

/* In a mixed range, pages that have the wanted state are left alone. */
TEST_F(gmem, mixed)
{
	const int nr_private = __builtin_popcountll(MIXED);
	int i;

	set_state(self->fd, 0);
	host_fill(self->mem, 0, NR_PAGES, 1);

	set_state(self->fd, MIXED);
	guest_faults(self->vcpu, 0, NR_PAGES);
	to_private(self->fd, 0, NR_PAGES);
	for (i = 0; i < NR_PAGES; i++)
		ASSERT_EQ(!(MIXED & BIT_ULL(i)), guest_faults(self->vcpu, i, 1))
			TH_LOG("page %d", i);
	check_state(self->mem, ALL_PAGES);

	set_state(self->fd, MIXED);
	guest_faults(self->vcpu, 0, NR_PAGES);
	to_shared(self->fd, 0, NR_PAGES);
	for (i = 0; i < NR_PAGES; i++)
		ASSERT_EQ(!!(MIXED & BIT_ULL(i)), guest_faults(self->vcpu, i, 1))
			TH_LOG("page %d", i);

	/* Same for the host, which never had the private ones. */
	set_state(self->fd, MIXED);
	to_shared(self->fd, 0, NR_PAGES);
	host_faults(self->mem, 0, NR_PAGES);
	set_state(self->fd, MIXED);
	to_shared(self->fd, 0, NR_PAGES);
	ASSERT_EQ(nr_private, host_faults(self->mem, 0, NR_PAGES));

	guest_check(self->vcpu, 0, NR_PAGES, 1);
	host_check(self->mem, 0, NR_PAGES, 1);
}

/* Converting isn't allocating. */
TEST_F(gmem, never_touched)
{
	const size_t size = SZ_256M;
	void *mem;
	int fd;

	fd = vm_create_guest_memfd(self->vm, size, variant->flags);
	mem = kvm_mmap(size, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	gmem_set_private(fd, 0, size);
	gmem_set_shared(fd, 0, size);
	gmem_set_private(fd, SZ_1M, SZ_1M);
	gmem_set_private(fd, size - SZ_1M, SZ_1M);
	gmem_set_shared(fd, 0, size);
	ASSERT_EQ(0, nr_allocated(fd, mem, size));
	ASSERT_EQ(0, *(u64 *)(mem + SZ_1M));
	ASSERT_EQ(1, nr_allocated(fd, mem, size));
	kvm_munmap(mem, size);
	kvm_close(fd);

	/* Zeroes for the guest, of both kinds, and for the host after it. */
	set_state(self->fd, MIXED);
	ASSERT_EQ(0, nr_allocated(self->fd, self->mem, GMEM_SIZE));
	ASSERT_EQ(0, guest_read(self->vcpu, page_gpa(3)));
	ASSERT_EQ(0, guest_read(self->vcpu, page_gpa(10)));
	ASSERT_EQ(2, nr_allocated(self->fd, self->mem, GMEM_SIZE));
	to_shared(self->fd, 0, NR_PAGES);
	ASSERT_EQ(2, nr_allocated(self->fd, self->mem, GMEM_SIZE));
	ASSERT_EQ(0, host_read(self->mem, 3));
	ASSERT_EQ(0, host_read(self->mem, 4));
	ASSERT_EQ(3, nr_allocated(self->fd, self->mem, GMEM_SIZE));
}

/* Have the kernel's free pages be something that must not be seen. */
static void dirty_free_pages(void)
{
	const size_t size = SZ_16M;
	void *mem;

	mem = kvm_mmap(size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	memset(mem, 0x5a, size);
	kvm_munmap(mem, size);
}

TEST_F(gmem, fallocate)
{
	int i, j;

	set_state(self->fd, MIXED);
	dirty_free_pages();
	kvm_fallocate(self->fd, FALLOC_FL_KEEP_SIZE, 0, GMEM_SIZE);

	/* Allocated as the one kind, and used as the other for the first time. */
	to_shared(self->fd, 20, 10);
	to_private(self->fd, 8, 6);
	for (i = 0; i < NR_PAGES; i++)
		ASSERT_EQ(0, guest_read(self->vcpu, page_gpa(i)));
	check_state(self->mem, (MIXED & ~pages(20, 10)) | pages(8, 6));
	to_shared(self->fd, 0, NR_PAGES);
	for (i = 0; i < NR_PAGES; i++)
		for (j = 0; j < PAGE_SIZE; j += sizeof(u64))
			ASSERT_EQ(0, *(u64 *)(page_hva(self->mem, i) + j));
}

/* A hole is a hole in the memory, not in what is known about it. */
TEST_F(gmem, punch_hole)
{
	/* From private over shared to private. */
	const int first = 5, nr = 30, end = first + nr;
	int i;

	set_state(self->fd, 0);
	host_fill(self->mem, 0, NR_PAGES, 1);
	set_state(self->fd, MIXED);
	guest_faults(self->vcpu, 0, NR_PAGES);
	dirty_free_pages();

	kvm_fallocate(self->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		      first * PAGE_SIZE, nr * PAGE_SIZE);
	ASSERT_EQ(NR_PAGES - nr, nr_allocated(self->fd, self->mem, GMEM_SIZE));
	check_state(self->mem, MIXED);

	for (i = first; i < end; i++)
		ASSERT_EQ(0, guest_read(self->vcpu, page_gpa(i)));
	guest_check(self->vcpu, 0, first, 1);
	guest_check(self->vcpu, end, NR_PAGES - end, 1);

	to_shared(self->fd, 0, NR_PAGES);
	for (i = first; i < end; i++)
		ASSERT_EQ(0, host_read(self->mem, i));
	host_check(self->mem, 0, first, 1);
	host_check(self->mem, end, NR_PAGES - end, 1);

	/* Holes can be converted, and there is nothing behind them. */
	kvm_fallocate(self->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, GMEM_SIZE);
	set_state(self->fd, MIXED);
	ASSERT_EQ(0, nr_allocated(self->fd, self->mem, GMEM_SIZE));
	check_state(self->mem, MIXED);
}

/* What the guest just used isn't in use for KVM. */
TEST_F(gmem, guest_touched)
{
	u64 error_page;
	int i;

	set_state(self->fd, 0);
	for (i = 0; i < NR_PAGES; i++) {
		guest_fill(self->vcpu, i, 1, 1);
		ASSERT_EQ(0, try_private(self->fd, i, 1, &error_page));
		guest_fill(self->vcpu, i, 1, 2);
		ASSERT_EQ(0, try_private(self->fd, i, 1, &error_page));
		to_shared(self->fd, i, 1);
		guest_fill(self->vcpu, i, 1, 3);
		host_check(self->mem, i, 1, 3);
	}
	ASSERT_EQ(0, try_private(self->fd, 0, NR_PAGES, &error_page));
	guest_check(self->vcpu, 0, NR_PAGES, 3);
}

static void *vcpu_worker(void *vcpu)
{
	run_guest(vcpu);
	return NULL;
}

/* Same with a guest that doesn't stop for it, faults in flight included. */
TEST_F(gmem, guest_touching)
{
	u64 *laps = addr_gva2hva(self->vm, (gva_t)&guest_laps);
	u64 lap, error_page;
	pthread_t thread;
	int i, first, r;

	set_state(self->fd, 0);
	guest_set(self->vcpu, GUEST_SPIN, GMEM_GPA, 0, 0, 0);
	kvm_pthread_create(&thread, NULL, vcpu_worker, self->vcpu);

	for (i = 0; i < 100; i++) {
		/* Have the guest get all pages, most of the time. */
		for (lap = READ_ONCE(*laps); i % 4 && READ_ONCE(*laps) < lap + 2; )
			sched_yield();

		first = i % 7;
		r = try_private(self->fd, first, NR_SPIN_PAGES - first - i % 5, &error_page);
		ASSERT_EQ(0, r) TH_LOG("page %lu, lap %lu", error_page, READ_ONCE(*laps));

		/* Have it allocate them all again. */
		if (i % 3)
			kvm_fallocate(self->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				      0, GMEM_SIZE);
		to_shared(self->fd, 0, NR_PAGES);
	}

	write_guest_global(self->vm, guest_stop, true);
	kvm_pthread_join(thread, NULL);
}

static int other_cpu(int not_this)
{
	cpu_set_t cpus;
	int i;

	kvm_sched_getaffinity(0, sizeof(cpus), &cpus);
	for (i = 0; i < CPU_SETSIZE; i++)
		if (i != not_this && CPU_ISSET(i, &cpus))
			return i;

	return -1;
}

/* Nor does the kernel use pages only because its caches still know them. */
TEST_F(gmem, percpu_caches)
{
	int cpu = other_cpu(-1), cpu2 = other_cpu(cpu);
	u64 error_page;
	int i;

	if (cpu2 < 0)
		SKIP(return, "Needs two CPUs");

	set_state(self->fd, 0);
	for (i = 0; i < NR_PAGES / 2; i++) {
		pin_self_to_cpu(cpu2);
		if (i & 1)
			host_fill(self->mem, i, 1, 1);
		else
			guest_fill(self->vcpu, i, 1, 1);
		pin_self_to_cpu(i & 2 ? cpu : cpu2);
		ASSERT_EQ(0, try_private(self->fd, i, 1, &error_page)) TH_LOG("page %d", i);
	}

	/* Both CPUs have some of them. */
	for (; i < NR_PAGES; i++) {
		pin_self_to_cpu(i & 1 ? cpu : cpu2);
		host_fill(self->mem, i, 1, 1);
	}
	pin_self_to_cpu(cpu);
	ASSERT_EQ(0, try_private(self->fd, 0, NR_PAGES, &error_page))
		TH_LOG("page %lu", error_page);
	guest_check(self->vcpu, 0, NR_PAGES, 1);
}

struct host_toucher {
	u8 *mem;
	int first;
	int nr;
	bool stop;
	u64 nr_shared;
	u64 nr_private;
};

static void *touch_worker(void *data)
{
	struct host_toucher *toucher = data;
	int i;

	while (!READ_ONCE(toucher->stop)) {
		for (i = toucher->first; i < toucher->first + toucher->nr; i++) {
			if (read_raises_sigbus(page_hva(toucher->mem, i)))
				toucher->nr_private++;
			else
				toucher->nr_shared++;
		}
	}
	return NULL;
}

/*
 * A host that touches what is being converted gets it or doesn't, but not for
 * longer than the page is shared.
 */
TEST_F(gmem, host_touching)
{
	struct host_toucher toucher = {
		.mem = self->mem,
		.first = 8,
		.nr = 4,
	};
	u64 error_page = 0;
	pthread_t thread;
	int i, j, r;

	set_state(self->fd, 0);
	kvm_pthread_create(&thread, NULL, touch_worker, &toucher);

	for (i = 0; i < 200; i++) {
		/* The host's own faults may well be in the way for a moment. */
		do {
			r = try_private(self->fd, 8, 4, &error_page);
			ASSERT_TRUE(!r || r == EAGAIN);
			ASSERT_TRUE(!r || (error_page >= 8 && error_page < 12));
		} while (r);
		for (j = 8; j < 12; j++)
			ASSERT_TRUE(read_raises_sigbus(page_hva(self->mem, j)));

		to_shared(self->fd, 8, 4);
		if (i & 1)
			kvm_fallocate(self->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				      0, GMEM_SIZE);
		for (j = 8; j < 12; j++)
			ASSERT_FALSE(read_raises_sigbus(page_hva(self->mem, j)));
	}

	WRITE_ONCE(toucher.stop, true);
	kvm_pthread_join(thread, NULL);
	ASSERT_LT(0, toucher.nr_shared);
	ASSERT_LT(0, toucher.nr_private);
	check_state(self->mem, 0);
}

static void pre_fault(struct kvm_vcpu *vcpu, gpa_t gpa, u64 size)
{
	struct kvm_pre_fault_memory range = {
		.gpa = gpa,
		.size = size,
	};
	int r;

	do {
		r = __vcpu_ioctl(vcpu, KVM_PRE_FAULT_MEMORY, &range);
		TEST_ASSERT(!r || errno == EINTR || errno == EAGAIN,
			    KVM_IOCTL_ERROR(KVM_PRE_FAULT_MEMORY, r));
	} while (range.size);
}

TEST_F(gmem, pre_fault)
{
	set_state(self->fd, MIXED);
	guest_faults(self->vcpu, 0, 1);

	pre_fault(self->vcpu, GMEM_GPA, GMEM_SIZE);
	ASSERT_EQ(0, guest_faults(self->vcpu, 0, NR_PAGES));
	check_state(self->mem, MIXED);
	guest_fill(self->vcpu, 0, NR_PAGES, 1);
	ASSERT_EQ(page_val(8, 1), host_read(self->mem, 8));

	to_private(self->fd, 0, NR_PAGES);
	pre_fault(self->vcpu, GMEM_GPA, GMEM_SIZE);
	ASSERT_EQ(0, guest_faults(self->vcpu, 0, NR_PAGES));
	to_shared(self->fd, 0, NR_PAGES);
	pre_fault(self->vcpu, GMEM_GPA, GMEM_SIZE);
	ASSERT_EQ(0, guest_faults(self->vcpu, 0, NR_PAGES));
	guest_check(self->vcpu, 0, NR_PAGES, 1);
}

/* The state is the inode's: all memslots, mappings and descriptors see it. */
TEST_F(gmem, two_memslots)
{
	const int half = NR_PAGES / 2;
	int fd, dup_fd, i;
	u8 *mem;

	/* The second half of the file is at the first address, and vice versa. */
	fd = vm_create_guest_memfd(self->vm, GMEM_SIZE, variant->flags);
	vm_mem_region_delete(self->vm, GMEM_SLOT);
	vm_mem_add(self->vm, DEFAULT_VM_MEM_SRC, GMEM_GPA, GMEM_SLOT, half,
		   KVM_MEM_GUEST_MEMFD, fd, half * PAGE_SIZE);
	vm_mem_add(self->vm, DEFAULT_VM_MEM_SRC, GMEM_GPA2, GMEM_SLOT2, half,
		   KVM_MEM_GUEST_MEMFD, fd, 0);
	mem = kvm_mmap(GMEM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	dup_fd = kvm_dup(fd);

	gmem_set_shared(fd, 0, GMEM_SIZE);
	__guest_fill(self->vcpu, GMEM_GPA, half, half, 1);
	__guest_fill(self->vcpu, GMEM_GPA2, 0, half, 1);

	/* Four pages, two in each memslot. */
	gmem_set_private(dup_fd, (half - 2) * PAGE_SIZE, 4 * PAGE_SIZE);
	for (i = 0; i < NR_PAGES; i++) {
		bool private = i >= half - 2 && i < half + 2;
		gpa_t gpa = i < half ? GMEM_GPA2 + i * PAGE_SIZE :
				       GMEM_GPA + (i - half) * PAGE_SIZE;
		u64 faults = vcpu_get_stat(self->vcpu, pf_fixed);

		__guest_check(self->vcpu, gpa, i, 1, 1);
		ASSERT_EQ(private, vcpu_get_stat(self->vcpu, pf_fixed) - faults);
		ASSERT_EQ(private, read_raises_sigbus(mem + i * PAGE_SIZE));
		ASSERT_EQ(private, read_raises_sigbus(addr_gpa2hva(self->vm, gpa)));
	}

	/* A memslot comes and goes, the state stays. */
	vm_mem_region_delete(self->vm, GMEM_SLOT2);
	kvm_close(fd);
	for (i = 0; i < NR_PAGES; i++)
		ASSERT_EQ(i >= half - 2 && i < half + 2, read_raises_sigbus(mem + i * PAGE_SIZE));
	vm_mem_add(self->vm, DEFAULT_VM_MEM_SRC, GMEM_GPA2, GMEM_SLOT2, half,
		   KVM_MEM_GUEST_MEMFD, dup_fd, 0);
	for (i = 0; i < NR_PAGES; i++)
		ASSERT_EQ(i >= half - 2 && i < half + 2, read_raises_sigbus(mem + i * PAGE_SIZE));
	__guest_check(self->vcpu, GMEM_GPA2, 0, half, 1);

	kvm_munmap(mem, GMEM_SIZE);
	kvm_close(dup_fd);
}

/* Whatever the guest has to find there, it isn't the last thing that was. */
TEST_F(gmem, no_memslot)
{
	gpa_t gpa = page_gpa(3);

	set_state(self->fd, MIXED);
	guest_fill(self->vcpu, 0, NR_PAGES, 1);

	guest_read_mmio(self->vcpu, GMEM_GPA2);

	vm_mem_region_delete(self->vm, GMEM_SLOT);
	guest_read_mmio(self->vcpu, gpa);
	guest_read_mmio(self->vcpu, page_gpa(10));
}

TEST_F(gmem, closed)
{
	int fd;

	fd = vm_create_guest_memfd(self->vm, GMEM_SIZE, variant->flags);
	vm_set_user_memory_region2(self->vm, GMEM_SLOT2, KVM_MEM_GUEST_MEMFD,
				   GMEM_GPA2, GMEM_SIZE, NULL, fd, 0);
	gmem_set_private(fd, 0, GMEM_SIZE / 2);
	gmem_set_shared(fd, GMEM_SIZE / 2, GMEM_SIZE / 2);
	__guest_fill(self->vcpu, GMEM_GPA2, 0, NR_PAGES, 1);

	/* Not mapped anywhere, i.e. this is the end of it. */
	kvm_close(fd);
	guest_read_mmio(self->vcpu, GMEM_GPA2);
	guest_read_mmio(self->vcpu, GMEM_GPA2 + GMEM_SIZE / 2);
	guest_read_mmio(self->vcpu, GMEM_GPA2 + GMEM_SIZE - PAGE_SIZE);
}

/* What a memslot says about other memory doesn't matter, nor does mmap(). */
TEST_F(gmem, no_second_backing)
{
	const u64 flags = variant->flags & ~GUEST_MEMFD_FLAG_MMAP;
	u8 *mem;
	int fd;

	mem = kvm_mmap(GMEM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	host_fill(mem, 0, NR_PAGES, 3);

	fd = vm_create_guest_memfd(self->vm, GMEM_SIZE, flags);
	ASSERT_EQ(MAP_FAILED, mmap(NULL, GMEM_SIZE, PROT_READ, MAP_SHARED, fd, 0));
	vm_set_user_memory_region2(self->vm, GMEM_SLOT2, KVM_MEM_GUEST_MEMFD,
				   GMEM_GPA2, GMEM_SIZE, mem, fd, 0);

	ASSERT_EQ(0, guest_read(self->vcpu, GMEM_GPA2));
	gmem_set_private(fd, 0, GMEM_SIZE);
	ASSERT_EQ(0, guest_read(self->vcpu, GMEM_GPA2));
	__guest_fill(self->vcpu, GMEM_GPA2, 0, NR_PAGES, 1);
	gmem_set_shared(fd, 0, GMEM_SIZE);
	__guest_check(self->vcpu, GMEM_GPA2, 0, NR_PAGES, 1);
	__guest_fill(self->vcpu, GMEM_GPA2, 0, NR_PAGES, 2);
	gmem_set_private(fd, 0, GMEM_SIZE);
	__guest_check(self->vcpu, GMEM_GPA2, 0, NR_PAGES, 2);

	host_check(mem, 0, NR_PAGES, 3);

	vm_set_user_memory_region2(self->vm, GMEM_SLOT2, KVM_MEM_GUEST_MEMFD,
				   GMEM_GPA2, 0, mem, fd, 0);
	kvm_close(fd);
	kvm_munmap(mem, GMEM_SIZE);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(KVM_X86_SW_PROTECTED_VM));

	return test_harness_run(argc, argv);
}
