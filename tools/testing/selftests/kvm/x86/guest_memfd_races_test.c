// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test conversions that race with each other and with all else that can happen to
 * the same memory, with vCPUs running all the time.  Verify that the state is what
 * one of the conversions left, and that all data is where it was written.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>

#include <linux/falloc.h>

#include "kvm_test_harness.h"
#include "gmem_util.h"
#include "kvm_syscalls.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"

#define NR_VCPUS	2

/* What the test returns for reads that are MMIO. */
#define NO_MEMSLOT	0x5eedf00d5eedf00dul

/* Variables of the guest. */
static u64 guest_laps[NR_VCPUS];
static bool guest_stop;
static bool guest_has_holes;
static bool guest_syncs;
static gpa_t guest_gpa;
static u64 guest_epoch;
static long guest_first;

static u64 lap_val(int page, u64 lap)
{
	return lap ? (u64)(page + 1) << 32 | lap : 0;
}

/*
 * Have every vCPU write to pages of its own, time and again, and verify that what
 * it wrote the last time is still there, or that there is nothing at all if
 * somebody punches holes.
 */
static void guest_write(int id)
{
	u64 *mem = (u64 *)GMEM_GPA;
	u64 lap, val;
	int i;

	for (lap = 0; !READ_ONCE(guest_stop); ) {
		for (i = id; i < NR_PAGES; i += NR_VCPUS) {
			val = READ_ONCE(mem[i * WORDS_PER_PAGE]);
			GUEST_ASSERT(val == lap_val(i, lap) || (guest_has_holes && !val));
			WRITE_ONCE(mem[i * WORDS_PER_PAGE], lap_val(i, lap + 1));
		}
		WRITE_ONCE(guest_laps[id], ++lap);
		if (guest_syncs)
			GUEST_SYNC(0);
	}
	GUEST_DONE();
}

/*
 * Have every vCPU read all pages.  As long as guest_epoch is even and doesn't
 * change, page guest_first of the file has to be at guest_gpa or, if that is
 * negative, nothing.
 */
static void guest_read_all(int id)
{
	u64 *mem = (u64 *)READ_ONCE(guest_gpa);
	u64 val, epoch;
	long first;
	int i;

	while (!READ_ONCE(guest_stop)) {
		for (i = 0; i < NR_PAGES / 2; i++) {
			epoch = READ_ONCE(guest_epoch);
			first = READ_ONCE(guest_first);
			val = READ_ONCE(mem[i * WORDS_PER_PAGE]);
			if (epoch & 1 || READ_ONCE(guest_epoch) != epoch)
				continue;

			GUEST_ASSERT_EQ(val, first < 0 ? NO_MEMSLOT : page_val(first + i, 1));
		}
		WRITE_ONCE(guest_laps[id], guest_laps[id] + 1);
	}
	GUEST_DONE();
}

/* How often KVM_RUN failed as the guest_memfd was closed. */
static u64 nr_closed[NR_VCPUS];

FIXTURE(races) {
	struct kvm_vcpu *vcpus[NR_VCPUS];
	pthread_t threads[NR_VCPUS];
	struct kvm_vm *vm;
	u8 *mem;
	int fd;
};

FIXTURE_SETUP(races)
{
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(KVM_X86_SW_PROTECTED_VM));

	self->vm = __vm_create_with_vcpus(in_place_shape, NR_VCPUS, NR_PAGES * 2,
					  guest_write, self->vcpus);
	self->fd = gmem_vm_add_memory(self->vm, GMEM_FLAGS);
	self->mem = addr_gpa2hva(self->vm, GMEM_GPA);
}

FIXTURE_TEARDOWN(races)
{
	kvm_close(self->fd);
	kvm_vm_free(self->vm);
}

/* KVM_RUN, until it isn't refused for a guest_memfd at GMEM_GPA2 that is closed. */
static void run_vcpu_until_open(struct kvm_vcpu *vcpu)
{
	while (_vcpu_run(vcpu)) {
		TEST_ASSERT_EQ(errno, EFAULT);
		TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_MEMORY_FAULT);
		TEST_ASSERT(vcpu->run->memory_fault.gpa >= GMEM_GPA2,
			    "KVM_RUN is refused at 0x%llx", vcpu->run->memory_fault.gpa);
		WRITE_ONCE(nr_closed[vcpu->id], nr_closed[vcpu->id] + 1);
		sched_yield();
	}
}

/* Run the guest up to its next ucall. */
static u64 run_vcpu(struct kvm_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	const u64 val = NO_MEMSLOT;
	struct ucall uc;

	run_vcpu_until_open(vcpu);
	while (run->exit_reason == KVM_EXIT_MMIO) {
		TEST_ASSERT_EQ(run->mmio.len, sizeof(val));
		TEST_ASSERT_EQ(run->mmio.is_write, 0);
		memcpy(run->mmio.data, &val, sizeof(val));
		run_vcpu_until_open(vcpu);
	}

	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_IO);
	if (get_ucall(vcpu, &uc) == UCALL_ABORT)
		REPORT_GUEST_ASSERT(uc);

	return uc.cmd;
}

static void *vcpu_worker(void *vcpu)
{
	TEST_ASSERT_EQ(run_vcpu(vcpu), UCALL_DONE);
	return NULL;
}

static u64 laps(struct kvm_vm *vm, int id)
{
	return READ_ONCE(*(u64 *)addr_gva2hva(vm, (gva_t)&guest_laps[id]));
}

/* Wait until each vCPU has started and finished another lap. */
static void wait_for_laps(struct kvm_vm *vm)
{
	u64 start[NR_VCPUS];
	int i;

	for (i = 0; i < NR_VCPUS; i++)
		start[i] = laps(vm, i);
	for (i = 0; i < NR_VCPUS; i++)
		while (laps(vm, i) < start[i] + 2)
			sched_yield();
}

static void start_vcpus(FIXTURE_DATA(races) * self, void *guest_code)
{
	int i;

	for (i = 0; i < NR_VCPUS; i++) {
		vcpu_arch_set_entry_point(self->vcpus[i], guest_code);
		vcpu_args_set(self->vcpus[i], 1, i);
		kvm_pthread_create(&self->threads[i], NULL, vcpu_worker, self->vcpus[i]);
	}
}

static void stop_vcpus(FIXTURE_DATA(races) * self)
{
	int i;

	write_guest_global(self->vm, guest_stop, true);
	for (i = 0; i < NR_VCPUS; i++)
		kvm_pthread_join(self->threads[i], NULL);
}

/* Verify that every page has what guest_write() wrote last. */
static void check_laps(FIXTURE_DATA(races) * self)
{
	int i;

	to_shared(self->fd, 0, NR_PAGES);
	for (i = 0; i < NR_PAGES; i++)
		TEST_ASSERT_EQ(host_read(self->mem, i),
			       lap_val(i, laps(self->vm, i % NR_VCPUS)));
}

/* Convert ranges at random, and keep track of what is private. */
struct converter {
	unsigned int seed;
	u64 nr_calls;
	u64 state;
	bool stop;
	int fd;
};

static void *convert_worker(void *data)
{
	struct converter *c = data;
	int first, nr;

	while (!READ_ONCE(c->stop)) {
		first = rand_r(&c->seed) % NR_PAGES;
		nr = 1 + rand_r(&c->seed) % (NR_PAGES - first);

		/* No host touches the memory, i.e. nothing can be in the way. */
		if (rand_r(&c->seed) & 1) {
			to_private(c->fd, first, nr);
			c->state |= pages(first, nr);
		} else {
			to_shared(c->fd, first, nr);
			c->state &= ~pages(first, nr);
		}
		WRITE_ONCE(c->nr_calls, c->nr_calls + 1);
	}
	return NULL;
}

static void wait_for_calls(struct converter *c, u64 nr)
{
	u64 start = READ_ONCE(c->nr_calls);

	while (READ_ONCE(c->nr_calls) < start + nr)
		sched_yield();
}

/* A file that is much longer than what the vCPUs use, so that conversions take a while. */
#define NR_LONG_PAGES	1536

struct opponent {
	pthread_barrier_t *barrier;
	u64 first;
	u64 attributes;
	int nr_rounds;
	int fd;
};

static void *opponent_worker(void *data)
{
	struct opponent *o = data;
	int i;

	for (i = 0; i < o->nr_rounds; i++) {
		pthread_barrier_wait(o->barrier);
		gmem_set_memory_attributes(o->fd, o->first * PAGE_SIZE,
					   NR_LONG_PAGES * 2 / 3 * PAGE_SIZE, o->attributes);
		pthread_barrier_wait(o->barrier);
	}
	return NULL;
}

/* Verify that some pages all over a third of the file are in the state @private. */
static void check_third(u8 *mem, int third, bool private, int round)
{
	const int nr = NR_LONG_PAGES / 3;
	int i;

	/* All offsets within a node of the tree, sooner or later. */
	for (i = round % 31; i < nr; i += 31)
		TEST_ASSERT(read_raises_sigbus(page_hva(mem, third * nr + i)) == private,
			    "Page %d should be %s in round %d", third * nr + i,
			    private ? "private" : "shared", round);
}

/*
 * C5, C25: Convert two ranges that overlap, to either state, at the same time: where
 * they overlap, all pages have the state of the conversion that comes last.
 */
TEST_F(races, convert)
{
	const u64 size = NR_LONG_PAGES * PAGE_SIZE;
	const int nr_rounds = 20, third = NR_LONG_PAGES / 3;
	struct opponent opponents[2] = {
		{ .first = 0, .attributes = PRIVATE },
		{ .first = third, .attributes = 0 },
	};
	pthread_barrier_t barrier;
	pthread_t threads[2];
	int i, j, fd, nr_private = 0;
	bool private;
	u8 *mem;

	/* The vCPUs use the middle. */
	fd = vm_create_guest_memfd(self->vm, size, GMEM_FLAGS);
	kvm_fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, size);
	gmem_delete_slot(self->vm, GMEM_SLOT);
	ASSERT_EQ(0, gmem_add_slot(self->vm, GMEM_SLOT, GMEM_GPA, NR_PAGES, fd,
				   (NR_LONG_PAGES - NR_PAGES) / 2));
	mem = kvm_mmap(size, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	start_vcpus(self, guest_write);

	pthread_barrier_init(&barrier, NULL, 3);
	for (i = 0; i < 2; i++) {
		opponents[i].fd = fd;
		opponents[i].barrier = &barrier;
		opponents[i].nr_rounds = nr_rounds;
		kvm_pthread_create(&threads[i], NULL, opponent_worker, &opponents[i]);
	}

	for (i = 0; i < nr_rounds; i++) {
		/* Have many pieces to convert for both. */
		gmem_set_memory_attributes(fd, 0, size, i & 2 ? PRIVATE : 0);
		for (j = i; j < NR_LONG_PAGES; j += 97)
			gmem_set_memory_attributes(fd, j * PAGE_SIZE, PAGE_SIZE,
						   i & 2 ? 0 : PRIVATE);

		/* Both at once, nobody touches the memory until they are done. */
		pthread_barrier_wait(&barrier);
		pthread_barrier_wait(&barrier);

		private = read_raises_sigbus(page_hva(mem, third));
		nr_private += private;
		check_third(mem, 0, true, i);
		check_third(mem, 1, private, i);
		check_third(mem, 2, false, i);
	}

	for (i = 0; i < 2; i++)
		kvm_pthread_join(threads[i], NULL);
	wait_for_laps(self->vm);
	stop_vcpus(self);
	TH_LOG("private was last in %d rounds of %d", nr_private, nr_rounds);

	gmem_set_shared(fd, 0, size);
	for (i = 0; i < NR_PAGES; i++)
		ASSERT_EQ(lap_val(i, laps(self->vm, i % NR_VCPUS)),
			  host_read(mem, (NR_LONG_PAGES - NR_PAGES) / 2 + i));

	kvm_munmap(mem, size);
	kvm_close(fd);
}

struct vcpu_converter {
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u64 nr_private;
	u64 state;
	u8 *mem;
	int fd;
	int id;
};

static void *vcpu_convert_worker(void *data)
{
	struct vcpu_converter *c = data;
	unsigned int seed = c->id;
	int i, lap;

	for (lap = 1; lap <= 25; lap++) {
		TEST_ASSERT_EQ(run_vcpu(c->vcpu), UCALL_SYNC);

		for (i = c->id; i < NR_PAGES; i += NR_VCPUS) {
			/* Nobody else touches or converts these pages. */
			TEST_ASSERT_EQ(read_raises_sigbus(page_hva(c->mem, i)),
				       !!(c->state & BIT_ULL(i)));
			if (!(c->state & BIT_ULL(i)))
				TEST_ASSERT_EQ(host_read(c->mem, i), lap_val(i, lap));

			if (rand_r(&seed) & 1)
				continue;

			gmem_set_memory_attributes(c->fd, i * PAGE_SIZE, PAGE_SIZE,
						   c->state & BIT_ULL(i) ? 0 : PRIVATE);
			c->state ^= BIT_ULL(i);
			c->nr_private += !!(c->state & BIT_ULL(i));
		}
	}
	return NULL;
}

/*
 * C10, C18, C25: Convert in each vCPU's thread what that vCPU uses, as VMMs do.  The
 * vCPUs' pages alternate, i.e. the vCPUs share nothing but KVM's data structures.
 */
TEST_F(races, convert_in_vcpu_threads)
{
	struct vcpu_converter converters[NR_VCPUS];
	u64 state = 0;
	int i;

	write_guest_global(self->vm, guest_syncs, true);
	for (i = 0; i < NR_VCPUS; i++) {
		converters[i] = (struct vcpu_converter) {
			.vcpu = self->vcpus[i],
			.vm = self->vm,
			.mem = self->mem,
			.fd = self->fd,
			.id = i,
		};
		vcpu_args_set(self->vcpus[i], 1, i);
		kvm_pthread_create(&self->threads[i], NULL, vcpu_convert_worker, &converters[i]);
	}
	for (i = 0; i < NR_VCPUS; i++) {
		kvm_pthread_join(self->threads[i], NULL);
		ASSERT_LT(0, converters[i].nr_private);
		state |= converters[i].state;
	}

	check_state(self->mem, state);
	check_laps(self);
}

/* C12, C13, C25: Convert pages and punch them out at the same time. */
TEST_F(races, convert_and_punch_hole)
{
	struct converter c = { .fd = self->fd };
	unsigned int seed = 1;
	pthread_t thread;
	int i, first, nr;

	write_guest_global(self->vm, guest_has_holes, true);
	start_vcpus(self, guest_write);
	kvm_pthread_create(&thread, NULL, convert_worker, &c);

	for (i = 0; i < 200; i++) {
		first = rand_r(&seed) % NR_PAGES;
		nr = 1 + rand_r(&seed) % (NR_PAGES - first);
		kvm_fallocate(self->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			      first * PAGE_SIZE, nr * PAGE_SIZE);
		if (i % 8 == 0)
			kvm_fallocate(self->fd, FALLOC_FL_KEEP_SIZE, 0, GMEM_SIZE);
		if (i % 16 == 0)
			wait_for_calls(&c, 3);
	}

	/* If a vCPU still wrote to a page that is gone, its laps would be missing. */
	wait_for_laps(self->vm);
	WRITE_ONCE(c.stop, true);
	kvm_pthread_join(thread, NULL);
	check_state(self->mem, c.state);
	stop_vcpus(self);
	check_laps(self);
}

/* C17, C25: Convert pages and pre-fault them at the same time. */
TEST_F(races, convert_and_pre_fault)
{
	struct kvm_vcpu *vcpu = vm_vcpu_add(self->vm, NR_VCPUS, guest_write);
	struct kvm_pre_fault_memory range;
	struct converter c = { .fd = self->fd };
	int i, r, nr_again = 0;
	pthread_t thread;

	write_guest_global(self->vm, guest_has_holes, true);
	start_vcpus(self, guest_write);
	kvm_pthread_create(&thread, NULL, convert_worker, &c);

	for (i = 0; i < 20; i++) {
		/* Have something to map. */
		kvm_fallocate(self->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, GMEM_SIZE);

		range = (struct kvm_pre_fault_memory) { .gpa = GMEM_GPA, .size = GMEM_SIZE };
		while (range.size) {
			r = __vcpu_ioctl(vcpu, KVM_PRE_FAULT_MEMORY, &range);
			TEST_ASSERT(!r || errno == EINTR || errno == EAGAIN,
				    KVM_IOCTL_ERROR(KVM_PRE_FAULT_MEMORY, r));
			nr_again += !!r;
		}
	}
	TH_LOG("%lu conversions, %d times to try again", c.nr_calls, nr_again);

	wait_for_laps(self->vm);
	WRITE_ONCE(c.stop, true);
	kvm_pthread_join(thread, NULL);
	check_state(self->mem, c.state);
	stop_vcpus(self);
	check_laps(self);
}

static void begin_change(struct kvm_vm *vm, u64 *epoch)
{
	write_guest_global(vm, guest_epoch, ++*epoch);
}

/* From here on, page @first of the file is what vCPUs have to find. */
static void end_change(struct kvm_vm *vm, u64 *epoch, long first)
{
	write_guest_global(vm, guest_first, first);
	write_guest_global(vm, guest_epoch, ++*epoch);
	wait_for_laps(vm);
}

/* C16, C18, C25: Convert pages while their memslots are deleted and created elsewhere. */
TEST_F(races, convert_and_delete_memslot)
{
	const int half = NR_PAGES / 2;
	struct converter c = { .fd = self->fd };
	pthread_t thread;
	u64 epoch = 0;
	int i, first;

	host_fill(self->mem, 0, NR_PAGES, 1);
	write_guest_global(self->vm, guest_gpa, GMEM_GPA);
	begin_change(self->vm, &epoch);
	start_vcpus(self, guest_read_all);
	kvm_pthread_create(&thread, NULL, convert_worker, &c);

	for (i = 0; i < 12; i++) {
		gmem_delete_slot(self->vm, GMEM_SLOT);
		if (i % 3 == 0) {
			end_change(self->vm, &epoch, -1);
			begin_change(self->vm, &epoch);
		}

		/* Every page is at an address where another one was. */
		first = i & 1 ? 0 : i % 3 ? half : half / 2;
		ASSERT_EQ(0, gmem_add_slot(self->vm, GMEM_SLOT, GMEM_GPA, half, self->fd, first));
		end_change(self->vm, &epoch, first);
		begin_change(self->vm, &epoch);
	}

	WRITE_ONCE(c.stop, true);
	kvm_pthread_join(thread, NULL);
	check_state(self->mem, c.state);
	stop_vcpus(self);
	to_shared(self->fd, 0, NR_PAGES);
	host_check(self->mem, 0, NR_PAGES, 1);
}

struct closer {
	u64 nr_calls;
	int fd;
};

/* Convert back and forth until the file is closed. */
static void *until_closed_worker(void *data)
{
	u64 error_offset = NO_ERROR_OFFSET;
	struct closer *c = data;
	int r;

	do {
		r = __gmem_set_memory_attributes(c->fd, 0, GMEM_SIZE,
						 c->nr_calls & 1 ? 0 : PRIVATE, &error_offset);
		if (!r)
			WRITE_ONCE(c->nr_calls, c->nr_calls + 1);
	} while (!r);

	TEST_ASSERT_EQ(errno, EBADF);
	return NULL;
}

/* Wait until each vCPU is refused, again if it has been before. */
static void wait_for_closed(void)
{
	u64 start;
	int i;

	for (i = 0; i < NR_VCPUS; i++) {
		start = READ_ONCE(nr_closed[i]);
		while (READ_ONCE(nr_closed[i]) == start)
			sched_yield();
	}
}

/* C16, C25: Close a guest_memfd that vCPUs use, while it's being converted. */
TEST_F(races, convert_and_close)
{
	struct closer c[2];
	pthread_t threads[2];
	u64 epoch = 0;
	int i, j, fd;
	u8 *mem;

	write_guest_global(self->vm, guest_gpa, GMEM_GPA2);
	begin_change(self->vm, &epoch);
	start_vcpus(self, guest_read_all);

	for (i = 0; i < 10; i++) {
		fd = vm_create_guest_memfd(self->vm, GMEM_SIZE, GMEM_FLAGS);
		mem = kvm_mmap(GMEM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
		host_fill(mem, 0, NR_PAGES, 1);
		kvm_munmap(mem, GMEM_SIZE);
		ASSERT_EQ(0, gmem_add_slot(self->vm, GMEM_SLOT2, GMEM_GPA2, NR_PAGES, fd, 0));
		end_change(self->vm, &epoch, 0);

		for (j = 0; j < 2; j++) {
			c[j] = (struct closer) { .fd = fd };
			kvm_pthread_create(&threads[j], NULL, until_closed_worker, &c[j]);
		}
		for (j = 0; j < 2; j++)
			while (READ_ONCE(c[j].nr_calls) < i % 5)
				sched_yield();

		/* The last one to use the file releases it, */
		begin_change(self->vm, &epoch);
		kvm_close(fd);
		for (j = 0; j < 2; j++)
			kvm_pthread_join(threads[j], NULL);

		/* which can be a vCPU with a fault in flight. */
		wait_for_closed();
		gmem_delete_slot(self->vm, GMEM_SLOT2);
		end_change(self->vm, &epoch, -1);
		begin_change(self->vm, &epoch);
	}

	stop_vcpus(self);
}

int main(int argc, char *argv[])
{
	return test_harness_run(argc, argv);
}
