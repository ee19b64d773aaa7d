// SPDX-License-Identifier: GPL-2.0-only
/*
 * libFuzzer's side of fuzz.c:
 *
 *	make CC=clang fuzz
 *	./fuzz -only_ascii=1 CORPUS
 *
 * An input that it finds is text, for fuzz_inputs.h.  With FUZZ_VERBOSE in the
 * environment, each step is printed.
 *
 * The Makefile has libFuzzer's names of fuzz_init() and fuzz_one(), and has grace
 * periods end up here.
 */
#include <stdlib.h>

#include "file.h"
#include "fuzz.h"

/*
 * There are no readers between two steps: have a grace period right there, so
 * that what is used after it was freed is found, and fast.
 */
static struct rcu_head *pending;

void __wrap_urcu_memb_call_rcu(struct rcu_head *head,
			       void (*func)(struct rcu_head *head))
{
	head->func = func;
	head->next.next = (struct cds_wfcq_node *)pending;
	pending = head;
}

void __wrap_urcu_memb_barrier(void)
{
	struct rcu_head *head;

	while ((head = pending)) {
		pending = (struct rcu_head *)head->next.next;
		head->func(head);
	}
}

int fuzz_init(int *argc, char ***argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	rcu_register_thread();
	maple_tree_init();
	after_step = __wrap_urcu_memb_barrier;
	verbose_input = getenv("FUZZ_VERBOSE");
	return 0;
}

int fuzz_one(const uint8_t *data, size_t size)
{
	run_input((const char *)data, size);

	CHECK(!nr_warnings);
	CHECK(!nr_lock_violations);
	CHECK(!nodes_allocated());
	CHECK(!objects_allocated());
	if (test_failed)
		abort();
	return 0;
}
