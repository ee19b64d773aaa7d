// SPDX-License-Identifier: GPL-2.0-only
/*
 * Proves C25.  Fragment the attributes of a guest_memfd as far as a hostile or
 * unlucky guest can, convert all of it at once, and close it while it is in
 * pieces: neither may hurt the host, nor keep any of its memory.
 *
 * The attributes are in a maple tree, which a single store may replace and which is
 * freed by RCU.  That takes another path from the fourth level on, where freeing a
 * tree of plain ranges used to crash the host.  An entry of the tree covers whole
 * chunks of 512 pages, i.e. a page of every chunk makes as many entries as
 * converting every other page does.  A node has at most 16 entries, i.e. three
 * levels have at most 4,096, and the default of 32,768 chunks, 64 GiB, has at least
 * four, however full the nodes are.  A million (-n 1048576) takes minutes.
 *
 * Only the attributes are fragmented.  The memory itself is (almost) never touched,
 * and thus never allocated.
 */
#include <pthread.h>
#include <time.h>

#include "gmem_util.h"
#include "kvm_syscalls.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"

#define GMEM_NR_PAGES	16

#define CHUNK_PAGES	512ul
#define CHUNK_SIZE	(CHUNK_PAGES * PAGE_SIZE)

/* Pages to look at after each step, all over the file. */
#define NR_SAMPLES	1000

/* Any odd number gives an order that visits every index of a power of two. */
#define SCATTER		0x9e3779b1ul

/* A maple node is 256 bytes. */
static u64 tree_kb(void)
{
	return slab_objects("maple_node") / 4;
}

/* Give a page of every chunk the attributes that its neighbours don't have. */
static void fragment(int fd, u64 nr_chunks, u64 attributes, bool scatter)
{
	struct timespec start;
	u64 i, chunk;

	clock_gettime(CLOCK_MONOTONIC, &start);
	for (i = 0; i < nr_chunks; i++) {
		chunk = scatter ? i * SCATTER % nr_chunks : i;
		gmem_set_memory_attributes(fd, chunk * CHUNK_SIZE, PAGE_SIZE, attributes);
	}

	ksft_print_msg("%lu chunks by as many calls, %lu ns each\n", nr_chunks,
		       timespec_to_ns(timespec_elapsed(start)) / nr_chunks);
}

static void check_page(u8 *mem, u64 page, bool private)
{
	TEST_ASSERT(read_raises_sigbus(mem + page * PAGE_SIZE) == private,
		    "Page %lu should be %s", page, private ? "private" : "shared");
}

/* Is the first page of a chunk private, and are the others? */
static void check(int fd, u64 nr_chunks, bool first_private, bool others_private)
{
	const size_t size = nr_chunks * CHUNK_SIZE;
	u64 i, chunk;
	u8 *mem;

	/* Map the file only here, or else conversions take twice as long. */
	mem = kvm_mmap(size, PROT_READ, MAP_SHARED, fd);

	for (i = 0; i <= NR_SAMPLES; i++) {
		/* All chunks of the first and last few nodes, and some others. */
		if (i < NR_SAMPLES / 4)
			chunk = i;
		else if (i < NR_SAMPLES / 2)
			chunk = nr_chunks - 1 - i + NR_SAMPLES / 4;
		else
			chunk = i * SCATTER % nr_chunks;

		check_page(mem, chunk * CHUNK_PAGES, first_private);
		check_page(mem, chunk * CHUNK_PAGES + 1, others_private);
		check_page(mem, (chunk + 1) * CHUNK_PAGES - 1, others_private);
	}

	kvm_munmap(mem, size);
}

static void guest_code(void)
{
	int i;

	for (;;) {
		for (i = 0; i < GMEM_NR_PAGES; i++)
			++*(u64 *)(GMEM_GPA + i * PAGE_SIZE);
		GUEST_SYNC(0);
	}
}

/* Verify that the host works: have another VM convert and use memory. */
static void run_vm(void)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u8 *mem;
	int i;

	vm = __vm_create_shape_with_one_vcpu(in_place_shape, &vcpu, GMEM_NR_PAGES, guest_code);
	vm_mem_add(vm, DEFAULT_VM_MEM_SRC, GMEM_GPA, GMEM_SLOT, GMEM_NR_PAGES,
		   KVM_MEM_GUEST_MEMFD, -1, 0);
	virt_map(vm, GMEM_GPA, GMEM_GPA, GMEM_NR_PAGES);
	mem = addr_gpa2hva(vm, GMEM_GPA);

	for (i = 1; i < 20; i++) {
		vcpu_run(vcpu);
		TEST_ASSERT_EQ(get_ucall(vcpu, NULL), UCALL_SYNC);
		vm_mem_set_shared(vm, GMEM_GPA, GMEM_NR_PAGES * PAGE_SIZE);
		TEST_ASSERT_EQ(*(u64 *)mem, i);
		vm_mem_set_private(vm, GMEM_GPA, GMEM_NR_PAGES * PAGE_SIZE);
		TEST_ASSERT_EQ(read_raises_sigbus(mem), true);
	}

	kvm_vm_free(vm);
}

static void help(const char *name)
{
	printf("usage: %s [-h] [-n nr_chunks]\n", name);
	printf(" -n: number of chunks of 2 MiB, a power of two (default: 32768)\n");
	exit(0);
}

int main(int argc, char *argv[])
{
	u64 start_kb = 0, peak_kb = 0, end_kb, max_kb, nr_chunks = SZ_32K;
	const bool has_slab = has_slab_objects("maple_node");
	struct timespec start;
	struct kvm_vm *vm;
	int opt, fd;

	require_in_place_vm();

	while ((opt = getopt(argc, argv, "hn:")) != -1) {
		switch (opt) {
		case 'n':
			nr_chunks = atoi_positive("nr_chunks", optarg);
			break;
		case 'h':
		default:
			help(argv[0]);
		}
	}
	TEST_ASSERT(nr_chunks >= 2 * NR_SAMPLES && !(nr_chunks & (nr_chunks - 1)),
		    "nr_chunks must be a power of two, and at least %u", 2 * NR_SAMPLES);

	ksft_print_header();
	ksft_set_plan(6);

	/* Once before it counts, to have the library's and KVM's own memory. */
	run_vm();
	if (has_slab)
		start_kb = settled(tree_kb, -1);

	vm = ____vm_create(in_place_shape);
	fd = vm_create_guest_memfd(vm, nr_chunks * CHUNK_SIZE,
				   GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED);

	fragment(fd, nr_chunks, KVM_MEMORY_ATTRIBUTE_PRIVATE, false);
	check(fd, nr_chunks, true, false);
	ksft_test_result_pass("fragment\n");

	clock_gettime(CLOCK_MONOTONIC, &start);
	gmem_set_private(fd, 0, nr_chunks * CHUNK_SIZE);
	ksft_print_msg("%lu chunks by one call, %lu ns\n", nr_chunks,
		       timespec_to_ns(timespec_elapsed(start)));
	check(fd, nr_chunks, true, true);
	ksft_test_result_pass("convert everything by one call\n");

	fragment(fd, nr_chunks, 0, true);
	check(fd, nr_chunks, false, true);
	ksft_test_result_pass("fragment again\n");

	kvm_fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, nr_chunks * CHUNK_SIZE);

	/*
	 * Chunks are charged.  The nodes that their entries take are 16 bytes for
	 * each, or twice as much, and some more.
	 */
	if (has_slab) {
		max_kb = start_kb + nr_chunks * 64 / 1024;
		peak_kb = settled(tree_kb, max_kb);
		ksft_print_msg("maple nodes: %lu kB at start, %lu kB with %lu chunks\n",
			       start_kb, peak_kb, nr_chunks);
		TEST_ASSERT(peak_kb <= max_kb, "%lu chunks take %lu kB of nodes",
			    nr_chunks, peak_kb - start_kb);
		TEST_ASSERT(peak_kb >= start_kb + nr_chunks * 16 / 1024,
			    "%lu chunks can't take only %lu kB", nr_chunks, peak_kb - start_kb);
		ksft_test_result_pass("memory is bounded\n");
	} else {
		ksft_test_result_skip("memory is bounded, needs CONFIG_SLUB_DEBUG and root\n");
	}

	kvm_close(fd);
	kvm_vm_free(vm);

	/* Others use the same nodes. */
	if (has_slab) {
		max_kb = start_kb + (peak_kb - start_kb) / 8;
		end_kb = settled(tree_kb, max_kb);
		ksft_print_msg("maple nodes: %lu kB at the end\n", end_kb);
		TEST_ASSERT(end_kb <= max_kb, "%lu kB haven't been given back",
			    end_kb - start_kb);
		ksft_test_result_pass("memory is given back\n");
	} else {
		ksft_test_result_skip("memory is given back, needs CONFIG_SLUB_DEBUG and root\n");
	}

	run_vm();
	ksft_test_result_pass("another VM\n");

	ksft_finished();
}
