// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test KVM_SET_MEMORY_ATTRIBUTES2 with VMMs that don't use it as documented, and
 * that their guests don't suffer from it.
 *
 *  - The stubborn VMM has one guest_memfd.  It doesn't zero the words of the struct
 *    that it doesn't know, doesn't look at error_offset, and repeats a call that
 *    fails with EAGAIN at once, for ever.
 *
 *  - The strict VMM has several guest_memfds behind one range of guest memory and
 *    converts piece by piece.  It never repeats a call: if one fails, it undoes the
 *    conversions before that one, and relies on the failed one to have done nothing.
 *
 *  - The heedless VMM does the same, but doesn't look at errors.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/wait.h>

#include <linux/falloc.h>
#include <linux/kvm_para.h>

#include "kvm_test_harness.h"
#include "gmem_util.h"
#include "kvm_syscalls.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"

#define NR_CONVERTERS	2

/* What a VMM has at GMEM_GPA, each piece ends where its file does. */
struct piece {
	int first;
	int nr;
	u64 offset;
};

static const struct piece one_piece[] = {
	{ 0, NR_PAGES },
};

static const struct piece three_pieces[] = {
	{ 0, 13 }, { 13, 30, PAGE_SIZE * 3 }, { 43, 21, PAGE_SIZE },
};

struct vmm {
	struct kvm_vm *vm;

	/* One vCPU that does what the test says, others that want conversions. */
	struct kvm_vcpu *vcpu;
	struct kvm_vcpu *converters[NR_CONVERTERS];

	/* The pieces are next to each other for the host, too. */
	u8 *mem;
	const struct piece *pieces;
	int nr_pieces;
	int fds[3];

	/* Convert pages of the guest, i.e. perhaps several pieces. */
	int (*convert)(struct vmm *vmm, int first, int nr, bool private);

	/* Which pages the VMM believes to be private. */
	u64 state;

	/* What the stubborn VMM doesn't zero in the struct. */
	u8 garbage;

	/* What KVM told the VMM, whether or not that one cares. */
	u64 nr_eagain;
	u64 error_page;
};

static void vmm_update_state(struct vmm *vmm, u64 range, bool private)
{
	if (private)
		__atomic_or_fetch(&vmm->state, range, __ATOMIC_RELAXED);
	else
		__atomic_and_fetch(&vmm->state, ~range, __ATOMIC_RELAXED);
}

static int stubborn_convert(struct vmm *vmm, int first, int nr, bool private)
{
	struct kvm_memory_attributes2 attr;
	int r;

	/* It's not known what's on the stack, other than for a test. */
	memset(&attr, 0xa5, sizeof(attr));
	memset(attr.reserved, vmm->garbage, sizeof(attr.reserved));

	attr.offset = first * PAGE_SIZE;
	attr.size = nr * PAGE_SIZE;
	attr.attributes = private ? PRIVATE : 0;
	attr.flags = 0;

	do {
		r = set_attributes(vmm->fds[0], &attr);
		if (r == EAGAIN)
			__atomic_add_fetch(&vmm->nr_eagain, 1, __ATOMIC_RELAXED);
	} while (r == EAGAIN);

	if (!r)
		vmm_update_state(vmm, pages(first, nr), private);

	return r;
}

/* Returns which pages of [first, first + nr) piece @i has. */
static u64 vmm_in_piece(struct vmm *vmm, int i, int first, int nr)
{
	return pages(vmm->pieces[i].first, vmm->pieces[i].nr) & pages(first, nr);
}

/* Convert the pages of [first, first + nr) that piece @i has. */
static int convert_in_piece(struct vmm *vmm, int i, int first, int nr, bool private)
{
	const struct piece *piece = &vmm->pieces[i];
	int start = max(first, piece->first);
	int end = min(first + nr, piece->first + piece->nr);
	struct kvm_memory_attributes2 attr = {
		.offset = piece->offset + (start - piece->first) * PAGE_SIZE,
		.size = (end - start) * PAGE_SIZE,
		.attributes = private ? PRIVATE : 0,
	};
	int r;

	r = set_attributes(vmm->fds[i], &attr);
	if (r)
		vmm->error_page = piece->first + (attr.error_offset - piece->offset) / PAGE_SIZE;
	if (r == EAGAIN)
		__atomic_add_fetch(&vmm->nr_eagain, 1, __ATOMIC_RELAXED);

	return r;
}

static int strict_convert(struct vmm *vmm, int first, int nr, bool private)
{
	u64 done = 0, undo;
	int i, j, r = 0;

	for (i = 0; i < vmm->nr_pieces; i++) {
		if (!vmm_in_piece(vmm, i, first, nr))
			continue;

		r = convert_in_piece(vmm, i, first, nr, private);
		if (r)
			break;

		done |= vmm_in_piece(vmm, i, first, nr);
	}

	if (!r) {
		vmm_update_state(vmm, done, private);
		return 0;
	}

	/* The pieces before this one are done, and there's nothing in between. */
	check_state(vmm->mem, private ? vmm->state | done : vmm->state & ~done);

	/* Pages that were in that state anyway stay in it. */
	undo = done & (private ? ~vmm->state : vmm->state);
	for (i = 0; i < vmm->nr_pieces; i++)
		for (j = 0; j < NR_PAGES; j++)
			if (undo & vmm_in_piece(vmm, i, j, 1))
				TEST_ASSERT_EQ(convert_in_piece(vmm, i, j, 1, !private), 0);

	check_state(vmm->mem, vmm->state);
	return r;
}

static int heedless_convert(struct vmm *vmm, int first, int nr, bool private)
{
	int i;

	for (i = 0; i < vmm->nr_pieces; i++)
		if (vmm_in_piece(vmm, i, first, nr))
			convert_in_piece(vmm, i, first, nr, private);

	vmm_update_state(vmm, pages(first, nr), private);
	return 0;
}

/*
 * Two vCPUs, each of which has every other block of pages to itself, so that both
 * are all over the pieces.
 */
#define PAGES_PER_BLOCK	8
#define NR_BLOCKS	(NR_PAGES / PAGES_PER_BLOCK)
#define NR_LAPS		50

static int generations[NR_PAGES];

static void guest_fill_page(int page, int generation)
{
	u64 *mem = (u64 *)page_gpa(page);
	int i;

	for (i = 0; i < WORDS_PER_PAGE; i++)
		WRITE_ONCE(mem[i], page_val(page, generation));
	generations[page] = generation;
}

static void guest_check_page(int page)
{
	u64 *mem = (u64 *)page_gpa(page);
	int i;

	for (i = 0; i < WORDS_PER_PAGE; i++)
		GUEST_ASSERT_EQ(READ_ONCE(mem[i]), page_val(page, generations[page]));
}

static void guest_converter(int id, u32 seed)
{
	struct kvm_random_state rng = new_kvm_random_state(seed);
	int lap, i, first, nr, generation;
	bool private;

	for (i = 0; i < NR_PAGES; i++)
		if (i / PAGES_PER_BLOCK % NR_CONVERTERS == id)
			guest_fill_page(i, 0);

	for (lap = 1; lap <= NR_LAPS; lap++) {
		private = kvm_random_bool(&rng);
		i = kvm_random_u32_in_range(&rng, 0, PAGES_PER_BLOCK - 1);
		nr = kvm_random_u32_in_range(&rng, 1, PAGES_PER_BLOCK - i);
		first = kvm_random_u32_in_range(&rng, 0, NR_BLOCKS / NR_CONVERTERS - 1);
		first = (first * NR_CONVERTERS + id) * PAGES_PER_BLOCK + i;
		generation = lap * 2;

		kvm_hypercall_map_gpa_range(page_gpa(first), nr * PAGE_SIZE,
					    private ? KVM_MAP_GPA_RANGE_ENCRYPTED :
						      KVM_MAP_GPA_RANGE_DECRYPTED);

		for (i = first; i < first + nr; i++) {
			guest_check_page(i);
			guest_fill_page(i, generation);
		}

		/* If it's shared, the host writes the next generation. */
		GUEST_SYNC_ARGS(private, first, nr, generation, 0);

		for (i = first; i < first + nr; i++) {
			generations[i] += !private;
			guest_check_page(i);
		}
	}

	for (i = 0; i < NR_PAGES; i++)
		if (i / PAGES_PER_BLOCK % NR_CONVERTERS == id)
			guest_check_page(i);

	GUEST_DONE();
}

static void vmm_create(struct vmm *vmm, u64 flags, const struct piece *pieces, int nr_pieces)
{
	const int prot = PROT_READ | PROT_WRITE;
	const struct piece *piece;
	struct gmem_vm gmem;
	int i;

	gmem_vm_create(&gmem, flags);
	vm_enable_cap(gmem.vm, KVM_CAP_EXIT_HYPERCALL, BIT(KVM_HC_MAP_GPA_RANGE));

	*vmm = (struct vmm) {
		.vm = gmem.vm,
		.vcpu = gmem.vcpu,
		.pieces = pieces,
		.nr_pieces = nr_pieces,
		.state = flags & GUEST_MEMFD_FLAG_INIT_SHARED ? 0 : ALL_PAGES,
	};

	vm_mem_region_delete(vmm->vm, GMEM_SLOT);
	kvm_close(gmem.fd);

	vmm->mem = kvm_mmap(GMEM_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	for (i = 0; i < nr_pieces; i++) {
		piece = &pieces[i];
		vmm->fds[i] = vm_create_guest_memfd(vmm->vm, piece->offset +
						    piece->nr * PAGE_SIZE, flags);
		vm_mem_add(vmm->vm, DEFAULT_VM_MEM_SRC, page_gpa(piece->first), GMEM_SLOT + i,
			   piece->nr, KVM_MEM_GUEST_MEMFD, vmm->fds[i], piece->offset);
		TEST_ASSERT(mmap(page_hva(vmm->mem, piece->first), piece->nr * PAGE_SIZE, prot,
				 MAP_SHARED | MAP_FIXED, vmm->fds[i], piece->offset) != MAP_FAILED,
			    __KVM_SYSCALL_ERROR("mmap()", -1));
	}

	for (i = 0; i < NR_CONVERTERS; i++) {
		vmm->converters[i] = vm_vcpu_add(vmm->vm, i + 1, guest_converter);
		vcpu_args_set(vmm->converters[i], 2, i, kvm_random_u32(&kvm_rng));
	}
}

static void vmm_free(struct vmm *vmm)
{
	int i;

	kvm_munmap(vmm->mem, GMEM_SIZE);
	for (i = 0; i < vmm->nr_pieces; i++)
		kvm_close(vmm->fds[i]);
	kvm_vm_free(vmm->vm);
}

static void vmm_set_state(struct vmm *vmm, u64 state)
{
	int i, nr;

	for (i = 0; i < NR_PAGES; i += nr) {
		for (nr = 1; i + nr < NR_PAGES; nr++) {
			if (!(state & BIT_ULL(i)) != !(state & BIT_ULL(i + nr)))
				break;
		}
		TEST_ASSERT_EQ(vmm->convert(vmm, i, nr, state & BIT_ULL(i)), 0);
	}
	TEST_ASSERT_EQ(vmm->state, state);
}

struct vcpu_thread {
	struct vmm *vmm;
	struct kvm_vcpu *vcpu;
	pthread_t thread;
	int nr_conversions;
};

static int nr_running;

/* Do what the guest asks for, and give it the result. */
static void handle_hypercall(struct vmm *vmm, struct kvm_run *run)
{
	int first = (run->hypercall.args[0] - GMEM_GPA) / PAGE_SIZE;
	int nr = run->hypercall.args[1];
	bool private = run->hypercall.args[2] & KVM_MAP_GPA_RANGE_ENCRYPTED;

	TEST_ASSERT_EQ(run->hypercall.nr, KVM_HC_MAP_GPA_RANGE);
	run->hypercall.ret = -vmm->convert(vmm, first, nr, private);
}

/* Verify that the host can use what the guest says that it shares, and nothing else. */
static void handle_sync(struct vmm *vmm, struct ucall *uc)
{
	bool private = uc->args[1];
	int first = uc->args[2], nr = uc->args[3], generation = uc->args[4];
	int i;

	if (!private) {
		host_check(vmm->mem, first, nr, generation);
		host_fill(vmm->mem, first, nr, generation + 1);
		return;
	}

	/* The heedless VMM doesn't know the state. */
	for (i = first; i < first + nr && vmm->convert != heedless_convert; i++)
		TEST_ASSERT(read_raises_sigbus(page_hva(vmm->mem, i)),
			    "Page %d isn't private", i);
}

static void *vcpu_worker(void *data)
{
	struct vcpu_thread *t = data;
	struct kvm_run *run = t->vcpu->run;
	struct ucall uc;

	for (;;) {
		vcpu_run(t->vcpu);
		if (run->exit_reason == KVM_EXIT_HYPERCALL) {
			handle_hypercall(t->vmm, run);
			t->nr_conversions++;
			continue;
		}

		TEST_ASSERT_KVM_EXIT_REASON(t->vcpu, KVM_EXIT_IO);
		switch (get_ucall(t->vcpu, &uc)) {
		case UCALL_SYNC:
			handle_sync(t->vmm, &uc);
			break;
		case UCALL_DONE:
			__atomic_sub_fetch(&nr_running, 1, __ATOMIC_RELAXED);
			return NULL;
		case UCALL_ABORT:
			REPORT_GUEST_ASSERT(uc);
		default:
			TEST_FAIL("Unexpected ucall %lu", uc.cmd);
		}
	}
}

/* Have the host use pages, some at any time, but none of them for long. */
static void hold_pages(u8 *mem)
{
	int pipe_fds[8][2], nr = 0, i, page;
	char buf[PAGE_SIZE];

	while (READ_ONCE(nr_running)) {
		page = kvm_random_u32_in_range(&kvm_rng, 0, NR_PAGES - 1);
		if (nr == ARRAY_SIZE(pipe_fds)) {
			unsplice_page(pipe_fds[0], buf);
			memmove(pipe_fds[0], pipe_fds[1], sizeof(pipe_fds) - sizeof(pipe_fds[0]));
			nr--;
		}

		/* It may well be private. */
		if (splice_page(pipe_fds[nr], page_hva(mem, page)) == PAGE_SIZE)
			nr++;
		sched_yield();
	}

	for (i = 0; i < nr; i++)
		unsplice_page(pipe_fds[i], buf);
}

/* Run guests that convert random pages. */
static void run_converters(struct vmm *vmm, bool hold)
{
	struct vcpu_thread threads[NR_CONVERTERS];
	int i;

	nr_running = NR_CONVERTERS;
	for (i = 0; i < NR_CONVERTERS; i++) {
		threads[i] = (struct vcpu_thread) {
			.vmm = vmm,
			.vcpu = vmm->converters[i],
		};
		kvm_pthread_create(&threads[i].thread, NULL, vcpu_worker, &threads[i]);
	}

	if (hold)
		hold_pages(vmm->mem);

	for (i = 0; i < NR_CONVERTERS; i++) {
		kvm_pthread_join(threads[i].thread, NULL);
		TEST_ASSERT_EQ(threads[i].nr_conversions, NR_LAPS);
	}

	/* A VMM that looks at errors knows the state of all pages. */
	if (vmm->convert != heedless_convert)
		check_state(vmm->mem, vmm->state);
}

FIXTURE(stubborn) {
	struct vmm vmm;
};

FIXTURE_VARIANT(stubborn) {
	u64 flags;
};

FIXTURE_VARIANT_ADD(stubborn, init_private) {
	.flags = GUEST_MEMFD_FLAG_MMAP,
};

FIXTURE_VARIANT_ADD(stubborn, init_shared) {
	.flags = GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED,
};

FIXTURE_SETUP(stubborn)
{
	vmm_create(&self->vmm, variant->flags, one_piece, ARRAY_SIZE(one_piece));
	self->vmm.convert = stubborn_convert;
}

FIXTURE_TEARDOWN(stubborn)
{
	vmm_free(&self->vmm);
}

/* C2, C4, C5, C6: Convert with words of the struct that aren't zeroed. */
TEST_F(stubborn, garbage)
{
	static const u8 garbage[] = { 0x01, 0x5a, 0x80, 0xff };
	struct vmm *vmm = &self->vmm;
	const u64 state = vmm->state;
	int i;

	guest_fill(vmm->vcpu, 0, NR_PAGES, 1);

	for (i = 0; i < ARRAY_SIZE(garbage); i++) {
		vmm->garbage = garbage[i];
		ASSERT_EQ(EINVAL, vmm->convert(vmm, 0, NR_PAGES, true));
		ASSERT_EQ(EINVAL, vmm->convert(vmm, 0, NR_PAGES, false));
		ASSERT_EQ(EINVAL, vmm->convert(vmm, 8, 4, true));
		ASSERT_EQ(EINVAL, vmm->convert(vmm, 8, 4, false));
	}
	ASSERT_EQ(0, vmm->nr_eagain);

	/* The guest didn't notice, whether or not its VMM goes on. */
	ASSERT_EQ(0, guest_faults(vmm->vcpu, 0, NR_PAGES));
	guest_check(vmm->vcpu, 0, NR_PAGES, 1);
	check_state(vmm->mem, state);

	vmm->garbage = 0;
	ASSERT_EQ(0, vmm->convert(vmm, 8, 4, !state));
	check_state(vmm->mem, state ^ pages(8, 4));
	guest_check(vmm->vcpu, 0, NR_PAGES, 1);
}

/* C7, C10, C11: Make all memory private at start, whether or not it is already. */
TEST_F(stubborn, all_at_start)
{
	const bool init_shared = variant->flags & GUEST_MEMFD_FLAG_INIT_SHARED;
	struct vmm *vmm = &self->vmm;
	u64 nr;

	/* Load firmware, if the pages can be written. */
	if (init_shared)
		host_fill(vmm->mem, 0, 16, 1);
	nr = nr_allocated(vmm->fds[0], vmm->mem, GMEM_SIZE);

	ASSERT_EQ(0, vmm->convert(vmm, 0, NR_PAGES, true));
	ASSERT_EQ(nr, nr_allocated(vmm->fds[0], vmm->mem, GMEM_SIZE));
	check_state(vmm->mem, ALL_PAGES);

	if (init_shared)
		guest_check(vmm->vcpu, 0, 16, 1);
	else
		ASSERT_EQ(0, guest_read(vmm->vcpu, page_gpa(0)));
	ASSERT_EQ(0, guest_read(vmm->vcpu, page_gpa(16)));
	ASSERT_EQ(0, guest_read(vmm->vcpu, page_gpa(NR_PAGES - 1)));

	/* Do it again while the guest has its memory, which it doesn't lose. */
	guest_fill(vmm->vcpu, 0, NR_PAGES, 2);
	ASSERT_EQ(0, vmm->convert(vmm, 0, NR_PAGES, true));
	ASSERT_EQ(0, guest_faults(vmm->vcpu, 0, NR_PAGES));

	/* And after the guest has shared some of it. */
	ASSERT_EQ(0, vmm->convert(vmm, 8, 12, false));
	guest_fill(vmm->vcpu, 8, 12, 3);
	host_check(vmm->mem, 8, 12, 3);
	nr = guest_mappings(vmm->vcpu);
	ASSERT_EQ(0, vmm->convert(vmm, 0, NR_PAGES, true));
	ASSERT_EQ(nr - 12, guest_mappings(vmm->vcpu));
	check_state(vmm->mem, ALL_PAGES);
	guest_check(vmm->vcpu, 0, 8, 2);
	guest_check(vmm->vcpu, 8, 12, 3);
	guest_check(vmm->vcpu, 20, NR_PAGES - 20, 2);
	ASSERT_EQ(0, vmm->nr_eagain);
}

static void *convert_half_worker(void *data)
{
	struct vmm *vmm = data;

	TEST_ASSERT_EQ(vmm->convert(vmm, 0, NR_PAGES / 2, true), 0);
	return NULL;
}

static void wait_for_retries(struct vmm *vmm)
{
	u64 nr = READ_ONCE(vmm->nr_eagain) + 10;

	while (READ_ONCE(vmm->nr_eagain) < nr)
		sched_yield();
}

static void wait_for_laps(struct kvm_vm *vm)
{
	u64 nr = guest_spin_laps(vm) + 3;

	while (guest_spin_laps(vm) < nr)
		sched_yield();
}

static pthread_t start_retries(struct vmm *vmm)
{
	pthread_t thread;

	kvm_pthread_create(&thread, NULL, convert_half_worker, vmm);
	wait_for_retries(vmm);
	return thread;
}

/*
 * Verify that the guest runs, and that the VMM can do all else that VMMs do, while
 * a thread retries in vain to convert the first half of the memory.
 */
static void check_while_retrying(struct vmm *vmm)
{
	const u64 nr_eagain = READ_ONCE(vmm->nr_eagain);
	struct kvm_vm *vm = vmm->vm;
	int fd = vmm->fds[0], i;

	for (i = 0; i < 3; i++) {
		wait_for_laps(vm);

		/* Takes mmap_lock and invalidate_lock, */
		host_check(vmm->mem, 0, NR_PAGES, 1);

		/* invalidate_lock and mmu_lock, */
		to_private(fd, NR_PAGES / 2, NR_PAGES / 2);
		to_shared(fd, NR_PAGES / 2, NR_PAGES / 2);
		kvm_fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			      (NR_PAGES - 1) * PAGE_SIZE, PAGE_SIZE);
		kvm_fallocate(fd, FALLOC_FL_KEEP_SIZE, (NR_PAGES - 1) * PAGE_SIZE, PAGE_SIZE);
		host_fill(vmm->mem, NR_PAGES - 1, 1, 1);

		/* slots_lock and all of the above, */
		vm_mem_add(vm, DEFAULT_VM_MEM_SRC, GMEM_GPA2, GMEM_SLOT2, NR_PAGES,
			   KVM_MEM_GUEST_MEMFD, -1, 0);
		memset(addr_gpa2hva(vm, GMEM_GPA2), 0xa5, GMEM_SIZE);
		vm_mem_region_delete(vm, GMEM_SLOT2);

		/* and the VM's lock. */
		vm_enable_cap(vm, KVM_CAP_EXIT_HYPERCALL, BIT(KVM_HC_MAP_GPA_RANGE));
		vcpu_regs_get(vmm->converters[0], &(struct kvm_regs) {});

		wait_for_retries(vmm);
	}
	TEST_ASSERT(READ_ONCE(vmm->nr_eagain) > nr_eagain, "Retries are over");
}

/* C4, C5, C8, C13, C25: Retry at once and for ever while a pipe has a page. */
TEST_F(stubborn, retry_while_spliced)
{
	pthread_t guest_thread, retry_thread;
	struct vmm *vmm = &self->vmm;
	char buf[PAGE_SIZE];
	int pipe_fds[2];

	vmm_set_state(vmm, 0);
	host_fill(vmm->mem, 0, NR_PAGES, 1);
	ASSERT_EQ(PAGE_SIZE, splice_page(pipe_fds, page_hva(vmm->mem, 10)));

	guest_thread = guest_spin_start(vmm->vcpu);
	retry_thread = start_retries(vmm);
	check_while_retrying(vmm);
	check_state(vmm->mem, 0);

	unsplice_page(pipe_fds, buf);
	kvm_pthread_join(retry_thread, NULL);
	ASSERT_EQ(page_val(10, 1), *(u64 *)buf);

	wait_for_laps(vmm->vm);
	guest_spin_stop(vmm->vm, guest_thread);
	check_state(vmm->mem, pages(0, NR_PAGES / 2));
	guest_check(vmm->vcpu, 0, NR_PAGES, 1);
}

/* C4, C5, C8, C13, C25: Do the same with a page that somebody has pinned. */
TEST_F(stubborn, retry_while_pinned)
{
	pthread_t guest_thread, retry_thread;
	struct vmm *vmm = &self->vmm;
	int gup_fd = gup_test_open();

	if (gup_fd < 0)
		SKIP(return, "No gup_test, needs CONFIG_GUP_TEST, debugfs and root");

	vmm_set_state(vmm, 0);
	host_fill(vmm->mem, 0, NR_PAGES, 1);
	ASSERT_EQ(0, gup_test_pin(gup_fd, page_hva(vmm->mem, 10), PAGE_SIZE));

	guest_thread = guest_spin_start(vmm->vcpu);
	retry_thread = start_retries(vmm);
	check_while_retrying(vmm);

	check_state(vmm->mem, 0);

	gup_test_unpin(gup_fd);
	kvm_pthread_join(retry_thread, NULL);

	wait_for_laps(vmm->vm);
	guest_spin_stop(vmm->vm, guest_thread);
	check_state(vmm->mem, pages(0, NR_PAGES / 2));
	guest_check(vmm->vcpu, 0, NR_PAGES, 1);
	kvm_close(gup_fd);
}

static void __noreturn retry_until_killed(struct vmm *shared)
{
	int pipe_fds[2];
	u8 *mem;

	shared->vm = ____vm_create(in_place_shape);
	shared->fds[0] = vm_create_guest_memfd(shared->vm, GMEM_SIZE, GMEM_FLAGS);
	mem = kvm_mmap(GMEM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, shared->fds[0]);
	TEST_ASSERT_EQ(splice_page(pipe_fds, page_hva(mem, 10)), PAGE_SIZE);

	stubborn_convert(shared, 0, NR_PAGES, true);
	_exit(0);
}

/* C25: Kill a VMM that retries for ever. */
TEST_F(stubborn, killed)
{
	struct vmm *shared;
	int status;
	pid_t pid;

	shared = kvm_mmap(sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);

	pid = fork();
	if (!pid)
		retry_until_killed(shared);

	while (READ_ONCE(shared->nr_eagain) < 10) {
		ASSERT_EQ(0, waitpid(pid, &status, WNOHANG));
		sched_yield();
	}
	ASSERT_EQ(0, kill(pid, SIGKILL));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_TRUE(WIFSIGNALED(status));
	ASSERT_EQ(SIGKILL, WTERMSIG(status));
}

/* C4, C5, C10, C13: Convert what guests ask for while the host uses pages. */
TEST_F(stubborn, hypercalls)
{
	run_converters(&self->vmm, true);
	ASSERT_LT(0, self->vmm.nr_eagain);
}

FIXTURE(strict) {
	struct vmm vmm;
};

FIXTURE_VARIANT(strict) {
	u64 flags;
};

FIXTURE_VARIANT_ADD(strict, init_private) {
	.flags = GUEST_MEMFD_FLAG_MMAP,
};

FIXTURE_VARIANT_ADD(strict, init_shared) {
	.flags = GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED,
};

FIXTURE_SETUP(strict)
{
	vmm_create(&self->vmm, variant->flags, three_pieces, ARRAY_SIZE(three_pieces));
	self->vmm.convert = strict_convert;
}

FIXTURE_TEARDOWN(strict)
{
	vmm_free(&self->vmm);
}

/* C5, C10, C18: Convert ranges of one, two and three pieces. */
TEST_F(strict, pieces)
{
	static const struct {
		int first, nr;
	} ranges[] = {
		/* At most one piece, */
		{ 0, 1 }, { 0, 13 }, { 12, 1 }, { 13, 1 }, { 13, 30 }, { 42, 1 }, { 43, 21 },
		/* two of them, */
		{ 12, 2 }, { 5, 10 }, { 0, 43 }, { 42, 2 }, { 13, 51 },
		/* and three. */
		{ 12, 32 }, { 0, NR_PAGES },
	};
	struct vmm *vmm = &self->vmm;
	int i;

	vmm_set_state(vmm, 0);
	host_fill(vmm->mem, 0, NR_PAGES, 1);

	for (i = 0; i < ARRAY_SIZE(ranges); i++) {
		vmm_set_state(vmm, 0);
		ASSERT_EQ(0, vmm->convert(vmm, ranges[i].first, ranges[i].nr, true));
		check_state(vmm->mem, pages(ranges[i].first, ranges[i].nr));

		vmm_set_state(vmm, ALL_PAGES);
		ASSERT_EQ(0, vmm->convert(vmm, ranges[i].first, ranges[i].nr, false));
		check_state(vmm->mem, ~pages(ranges[i].first, ranges[i].nr));
	}
	guest_check(vmm->vcpu, 0, NR_PAGES, 1);
}

/*
 * C4, C5, C6, C8: Convert ranges of several pieces, one of which fails: that piece is
 * unchanged, the others are undone, and the guest has what it had.
 */
TEST_F(strict, fails_midway)
{
	/* First and last pages of pieces, all of them shared in MIXED. */
	static const int held[] = { 1, 12, 13, 19, 40, 42, 43, 59 };
	struct vmm *vmm = &self->vmm;
	char buf[PAGE_SIZE];
	int pipe_fds[2];
	int i;

	vmm_set_state(vmm, 0);
	host_fill(vmm->mem, 0, NR_PAGES, 1);
	vmm_set_state(vmm, MIXED);

	for (i = 0; i < ARRAY_SIZE(held); i++) {
		ASSERT_EQ(PAGE_SIZE, splice_page(pipe_fds, page_hva(vmm->mem, held[i])));

		/* All pieces, from the page on, up to the page, and the page. */
		ASSERT_EQ(EAGAIN, vmm->convert(vmm, 0, NR_PAGES, true));
		ASSERT_EQ(held[i], vmm->error_page);
		check_state(vmm->mem, MIXED);
		ASSERT_EQ(EAGAIN, vmm->convert(vmm, held[i], NR_PAGES - held[i], true));
		ASSERT_EQ(held[i], vmm->error_page);
		ASSERT_EQ(EAGAIN, vmm->convert(vmm, 0, held[i] + 1, true));
		ASSERT_EQ(held[i], vmm->error_page);
		ASSERT_EQ(EAGAIN, vmm->convert(vmm, held[i], 1, true));
		ASSERT_EQ(held[i], vmm->error_page);
		check_state(vmm->mem, MIXED);

		/* The guest has what it had, and gets what doesn't fail. */
		guest_check(vmm->vcpu, 0, NR_PAGES, 1);
		ASSERT_EQ(0, vmm->convert(vmm, 0, NR_PAGES, false));
		ASSERT_EQ(0, vmm->convert(vmm, 0, held[i], true));
		check_state(vmm->mem, pages(0, held[i]));

		unsplice_page(pipe_fds, buf);
		ASSERT_EQ(page_val(held[i], 1), *(u64 *)buf);
		ASSERT_EQ(0, vmm->convert(vmm, 0, NR_PAGES, true));
		check_state(vmm->mem, ALL_PAGES);
		guest_check(vmm->vcpu, 0, NR_PAGES, 1);
		vmm_set_state(vmm, MIXED);
	}
}

/*
 * C10, C13: Convert what guests ask for while the host uses no page, and verify that
 * no call fails.
 */
TEST_F(strict, hypercalls)
{
	run_converters(&self->vmm, false);
	ASSERT_EQ(0, self->vmm.nr_eagain);
}

FIXTURE(heedless) {
	struct vmm vmm;
};

FIXTURE_VARIANT(heedless) {
	u64 flags;
};

FIXTURE_VARIANT_ADD(heedless, init_private) {
	.flags = GUEST_MEMFD_FLAG_MMAP,
};

FIXTURE_VARIANT_ADD(heedless, init_shared) {
	.flags = GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED,
};

FIXTURE_SETUP(heedless)
{
	vmm_create(&self->vmm, variant->flags, three_pieces, ARRAY_SIZE(three_pieces));
	self->vmm.convert = heedless_convert;
}

FIXTURE_TEARDOWN(heedless)
{
	vmm_free(&self->vmm);
}

/* C4, C5, C10: Convert what guests ask for and ignore errors. */
TEST_F(heedless, hypercalls)
{
	run_converters(&self->vmm, true);
	ASSERT_LT(0, self->vmm.nr_eagain);
}

/* C4, C5, C25: Make valid and invalid calls at random, and verify the state. */
TEST_F(heedless, anything)
{
	struct vmm *vmm = &self->vmm;
	u64 state = vmm->state;
	int lap, held = -1;
	char buf[PAGE_SIZE];
	int pipe_fds[2];

	guest_fill(vmm->vcpu, 0, NR_PAGES, 1);

	for (lap = 0; lap < 150; lap++) {
		int i = kvm_random_u32_in_range(&kvm_rng, 0, vmm->nr_pieces - 1);
		const struct piece *piece = &vmm->pieces[i];
		int page = kvm_random_u32_in_range(&kvm_rng, 0, piece->nr - 1);
		int nr = kvm_random_u32_in_range(&kvm_rng, 1, piece->nr - page);
		bool private = kvm_random_bool(&kvm_rng);
		struct kvm_memory_attributes2 attr = {
			.offset = piece->offset + page * PAGE_SIZE,
			.size = nr * PAGE_SIZE,
			.attributes = private ? PRIVATE : 0,
		};
		u64 range = pages(piece->first + page, nr);
		int expected = 0;

		if (held < 0) {
			held = kvm_random_u32_in_range(&kvm_rng, 0, NR_PAGES - 1);
			if (splice_page(pipe_fds, page_hva(vmm->mem, held)) < 0) {
				ASSERT_TRUE(state & BIT_ULL(held));
				held = -1;
			}
		} else if (lap % 4 == 0) {
			unsplice_page(pipe_fds, buf);
			held = -1;
		}

		if (private && held >= 0 && (range & BIT_ULL(held)))
			expected = EAGAIN;

		/* One call in three is wrong. */
		switch (kvm_random_u32_in_range(&kvm_rng, 0, 14)) {
		case 0:
			attr.size = (piece->nr - page + 1) * PAGE_SIZE;
			expected = EINVAL;
			break;
		case 1:
			attr.offset++;
			expected = EINVAL;
			break;
		case 2:
			attr.size = -attr.offset;
			expected = EINVAL;
			break;
		case 3:
			attr.attributes ^= 1;
			expected = EINVAL;
			break;
		case 4:
			attr.reserved[lap % ARRAY_SIZE(attr.reserved)] = lap + 1;
			expected = EINVAL;
			break;
		}

		ASSERT_EQ(expected, set_attributes(vmm->fds[i], &attr))
			TH_LOG("lap %d, offset 0x%llx, size 0x%llx", lap, attr.offset, attr.size);
		if (!expected)
			state = private ? state | range : state & ~range;
		check_state(vmm->mem, state);
	}

	guest_check(vmm->vcpu, 0, NR_PAGES, 1);
	if (held >= 0)
		unsplice_page(pipe_fds, buf);
}

int main(int argc, char *argv[])
{
	return test_harness_run(argc, argv);
}
