// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tests of virt/kvm/gmem_attributes.c in userspace, against a plain bitmap.
 *
 *	./gmem_attributes [seed [operations]]
 */
#include <sys/resource.h>
#include <sanitizer/lsan_interface.h>

#include "file.h"

unsigned long random_seed = 1;
unsigned long nr_random_ops = 1000000;

/* Not random(): the same on every machine, and a state for each thread. */
unsigned long random_below(unsigned long *state, unsigned long bound)
{
	u64 x = *state += 0x9e3779b97f4a7c15ULL;

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return (x ^ (x >> 31)) % bound;
}

static void no_leaks(void)
{
	CHECK(!__lsan_do_recoverable_leak_check());
}

static const struct test final_tests[] = {
	{ "no_leaks", no_leaks },
	{ }
};

static const struct test *const groups[] = {
	edge_tests,
	exhaustive_tests,
	failure_tests,
	input_tests,
	memory_tests,
	random_tests,
	reader_tests,
	final_tests,
};

static bool run(const struct test *test)
{
	long nodes = nodes_allocated();
	long objects = objects_allocated();

	test_failed = false;
	nr_warnings = 0;
	nr_lock_violations = 0;

	test->run();

	/* Verify that the test has freed what it has allocated, and caused no warning. */
	alloc_fail_never();
	CHECK(!nr_warnings);
	CHECK(!nr_lock_violations);
	CHECK(nodes_allocated() == nodes);
	CHECK(objects_allocated() == objects);

	return !test_failed;
}

int main(int argc, char **argv)
{
	const struct rlimit limit = { .rlim_cur = 200, .rlim_max = 200 };
	unsigned int nr_tests = 0, nr = 0, nr_failed = 0;
	const struct test *test;
	int i;

	if (argc > 1)
		random_seed = strtoul(argv[1], NULL, 0);
	if (argc > 2)
		nr_random_ops = strtoul(argv[2], NULL, 0);

	setvbuf(stdout, NULL, _IOLBF, 0);

	/*
	 * Fail if a walk does not end.  Limit the CPU time, so that a busy
	 * machine does not fail.
	 */
	setrlimit(RLIMIT_CPU, &limit);

	rcu_register_thread();
	maple_tree_init();

	for (i = 0; i < ARRAY_SIZE(groups); i++) {
		for (test = groups[i]; test->name; test++)
			nr_tests++;
	}

	printf("TAP version 13\n");
	printf("1..%u\n", nr_tests);

	for (i = 0; i < ARRAY_SIZE(groups); i++) {
		for (test = groups[i]; test->name; test++) {
			bool ok = run(test);

			nr_failed += !ok;
			printf("%sok %u %s\n", ok ? "" : "not ", ++nr, test->name);
		}
	}

	diag("pass:%u fail:%u", nr - nr_failed, nr_failed);
	rcu_unregister_thread();
	return nr_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
