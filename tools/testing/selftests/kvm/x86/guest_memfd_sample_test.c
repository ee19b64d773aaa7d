// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test samples/kvm/gmem_memory.h, the part of a VMM that is there to be copied.
 */
#include <fcntl.h>
#include <pthread.h>
#include <time.h>

#include "gmem_util.h"
#include "kvm_test_harness.h"
#include "kvm_util.h"
#include "test_util.h"

#include "../../../../../samples/kvm/gmem_memory.h"

FIXTURE(sample) {
	struct gmem_memory memory;
	int kvm_fd;
	int vm_fd;
};

FIXTURE_SETUP(sample)
{
	self->kvm_fd = open_kvm_dev_path_or_exit();
	self->vm_fd = gmem_create_vm(self->kvm_fd, KVM_X86_SW_PROTECTED_VM);
	ASSERT_LE(0, self->vm_fd);
	ASSERT_EQ(0, gmem_create_memory(&self->memory, self->vm_fd, 0, GMEM_GPA, GMEM_SIZE));
}

FIXTURE_TEARDOWN(sample)
{
	kvm_close(self->vm_fd);
	gmem_free_memory(&self->memory);
	kvm_close(self->kvm_fd);
}

static int set_private(struct gmem_memory *memory, int page, int nr, bool private,
		       u64 *error_page)
{
	__u64 error_gpa;
	int r;

	r = gmem_convert(memory, page_gpa(page), nr, private, &error_gpa);
	*error_page = (error_gpa - GMEM_GPA) / PAGE_SIZE;
	return r;
}

/* C9, C10: Convert to and fro, and have that on record. */
TEST_F(sample, convert)
{
	u64 error_page;
	int i;

	host_fill(self->memory.mem, 0, NR_PAGES, 1);
	ASSERT_EQ(0, set_private(&self->memory, 3, 5, true, &error_page));
	check_state(self->memory.mem, pages(3, 5));
	for (i = 0; i < NR_PAGES; i++)
		ASSERT_EQ(i >= 3 && i < 8, self->memory.is_private[i]);

	ASSERT_EQ(0, set_private(&self->memory, 0, NR_PAGES, false, &error_page));
	host_check(self->memory.mem, 0, NR_PAGES, 1);
	for (i = 0; i < NR_PAGES; i++)
		ASSERT_FALSE(self->memory.is_private[i]);
}

/* C4: Ask for what isn't a range of the memory, as guests may. */
TEST_F(sample, bad_ranges)
{
	static const struct {
		u64 gpa;
		u64 nr;
	} bad[] = {
		{ GMEM_GPA, 0 },
		{ GMEM_GPA + 1, 1 },
		{ GMEM_GPA - PAGE_SIZE, 1 },
		{ GMEM_GPA - PAGE_SIZE, 2 },
		{ GMEM_GPA, NR_PAGES + 1 },
		{ GMEM_GPA + GMEM_SIZE, 1 },
		{ GMEM_GPA + PAGE_SIZE, NR_PAGES },
		{ GMEM_GPA, 1ull << 52 },
		{ GMEM_GPA + PAGE_SIZE, ~0ull },
		{ 0, 1 },
		{ ~0xfffull, 1 },
	};
	__u64 error_gpa;
	int i, r;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		r = gmem_convert(&self->memory, bad[i].gpa, bad[i].nr, true, &error_gpa);
		ASSERT_EQ(-EINVAL, r) TH_LOG("%d", i);
		ASSERT_EQ(bad[i].gpa, error_gpa);
	}
	check_state(self->memory.mem, 0);
}

/* C4, C5, C6: Be told of the page that stays in use, and not wait for ever. */
TEST_F(sample, in_use)
{
	struct timespec begin, end;
	int pipe_fds[2], i;
	char buf[PAGE_SIZE];
	u64 error_page;

	host_fill(self->memory.mem, 0, NR_PAGES, 1);
	ASSERT_EQ(PAGE_SIZE, splice_page(pipe_fds, page_hva(self->memory.mem, 33)));

	clock_gettime(CLOCK_MONOTONIC, &begin);
	ASSERT_EQ(-EAGAIN, set_private(&self->memory, 0, NR_PAGES, true, &error_page));
	clock_gettime(CLOCK_MONOTONIC, &end);
	ASSERT_EQ(33, error_page);
	ASSERT_LE(102, timespec_to_ns(timespec_sub(end, begin)) / 1000000);

	for (i = 0; i < NR_PAGES; i++)
		ASSERT_FALSE(self->memory.is_private[i]);
	check_state(self->memory.mem, 0);

	/* To shared, nobody is in the way. */
	ASSERT_EQ(0, set_private(&self->memory, 0, NR_PAGES, false, &error_page));

	unsplice_page(pipe_fds, buf);
	ASSERT_EQ(0, set_private(&self->memory, 0, NR_PAGES, true, &error_page));
	check_state(self->memory.mem, ALL_PAGES);
}

static void *unsplice_soon(void *arg)
{
	char buf[PAGE_SIZE];

	usleep(20000);
	unsplice_page(arg, buf);
	return NULL;
}

/* C4: Wait for one who lets go. */
TEST_F(sample, in_use_for_a_while)
{
	pthread_t thread;
	int pipe_fds[2];
	u64 error_page;

	host_fill(self->memory.mem, 0, NR_PAGES, 1);
	ASSERT_EQ(PAGE_SIZE, splice_page(pipe_fds, page_hva(self->memory.mem, 33)));
	pthread_create(&thread, NULL, unsplice_soon, pipe_fds);
	ASSERT_EQ(0, set_private(&self->memory, 0, NR_PAGES, true, &error_page));
	pthread_join(thread, NULL);
	check_state(self->memory.mem, ALL_PAGES);
}

/* C4: Be told of a poisoned page, at once. */
TEST_F(sample, poisoned)
{
	u64 error_page;

	host_fill(self->memory.mem, 0, NR_PAGES, 1);
	if (poison_page(page_hva(self->memory.mem, 7)))
		SKIP(return, "Needs CONFIG_MEMORY_FAILURE and root");

	ASSERT_EQ(-EHWPOISON, set_private(&self->memory, 2, 10, true, &error_page));
	ASSERT_EQ(7, error_page);
	ASSERT_FALSE(self->memory.is_private[2]);
	kvm_fallocate(self->memory.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		      7 * PAGE_SIZE, PAGE_SIZE);
	ASSERT_EQ(0, set_private(&self->memory, 2, 10, true, &error_page));
}

/* C15: Tell by the exits what a guest asks for, and what is no request. */
TEST_F(sample, requests)
{
	struct gmem_request request;
	struct kvm_run run = {};
	u64 error_page;

	run.exit_reason = KVM_EXIT_HLT;
	ASSERT_EQ(0, gmem_get_request(&self->memory, &run, &request));

	run.exit_reason = KVM_EXIT_HYPERCALL;
	run.hypercall.nr = KVM_HC_MAP_GPA_RANGE + 1;
	ASSERT_EQ(0, gmem_get_request(&self->memory, &run, &request));

	run.hypercall.nr = KVM_HC_MAP_GPA_RANGE;
	run.hypercall.args[0] = page_gpa(4);
	run.hypercall.args[1] = 3;
	run.hypercall.args[2] = KVM_MAP_GPA_RANGE_ENCRYPTED | KVM_MAP_GPA_RANGE_PAGE_SZ_4K;
	ASSERT_EQ(1, gmem_get_request(&self->memory, &run, &request));
	ASSERT_EQ(page_gpa(4), request.gpa);
	ASSERT_EQ(3, request.nr_pages);
	ASSERT_TRUE(request.private);

	ASSERT_EQ(0, gmem_answer_request(&run, 0));
	ASSERT_EQ(0, run.hypercall.ret);
	ASSERT_EQ(0, gmem_answer_request(&run, -EAGAIN));
	ASSERT_EQ(EAGAIN, run.hypercall.ret);
	ASSERT_EQ(0, gmem_answer_request(&run, -EHWPOISON));
	ASSERT_EQ(EINVAL, run.hypercall.ret);

	/* An access to page 5, and a part of page 6, which are shared. */
	run.exit_reason = KVM_EXIT_MEMORY_FAULT;
	run.memory_fault.flags = KVM_MEMORY_EXIT_FLAG_PRIVATE;
	run.memory_fault.gpa = page_gpa(5);
	run.memory_fault.size = PAGE_SIZE + 1;
	ASSERT_EQ(1, gmem_get_request(&self->memory, &run, &request));
	ASSERT_EQ(page_gpa(5), request.gpa);
	ASSERT_EQ(2, request.nr_pages);
	ASSERT_TRUE(request.private);
	ASSERT_EQ(0, gmem_answer_request(&run, 0));
	ASSERT_EQ(-EAGAIN, gmem_answer_request(&run, -EAGAIN));

	/* It has what it wants, so a conversion can't be what is missing. */
	ASSERT_EQ(0, set_private(&self->memory, 5, 2, true, &error_page));
	ASSERT_EQ(-EFAULT, gmem_get_request(&self->memory, &run, &request));
	run.memory_fault.flags = 0;
	ASSERT_EQ(1, gmem_get_request(&self->memory, &run, &request));
	ASSERT_FALSE(request.private);
}

int main(int argc, char *argv[])
{
	require_in_place_vm();

	return test_harness_run(argc, argv);
}
