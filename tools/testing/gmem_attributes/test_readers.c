// SPDX-License-Identifier: GPL-2.0-only
/*
 * Look up pages without the lock while a writer stores.  The bitmap is the
 * writer's own; what readers can rely on is
 *
 *  - that pages change in pairs, 2n with 2n + 1, so that no lookup may see a
 *    boundary within a pair; and
 *
 *  - that some pages never change, whatever happens to those next to them: in
 *    every block of 16, the first pair is private and the fifth is shared.
 */
#include <pthread.h>
#include <time.h>

#include "file.h"

#define NR_PAGES	4096UL
#define NR_READERS	2
#define RUN_MS		1500

static struct file f;
static bool started[NR_READERS];
static bool closing, stop;
static unsigned long nr_lookups[NR_READERS];

/* In a thread, CHECK() would race with the writer's. */
static bool reader_failed[NR_READERS];

static bool read_pair(unsigned long *state)
{
	pgoff_t start = random_below(state, NR_PAGES / 2) * 2;
	pgoff_t s = start, e = start + 2;

	if (!gmem_attributes_next_change(&f.ga, &s, &e, random_below(state, 2)))
		return true;

	return s == start && e == start + 2;
}

static bool read_fixed(unsigned long *state)
{
	pgoff_t start = random_below(state, NR_PAGES / 16) * 16;

	if (gmem_attributes_is_private(&f.ga, start + 8) ||
	    gmem_attributes_is_private(&f.ga, start + 9))
		return false;

	if (gmem_attributes_is_private(&f.ga, start) &&
	    gmem_attributes_is_uniform(&f.ga, start, start + 2, true))
		return true;

	/* It may be destroyed; pairs with the barrier before that. */
	cmm_smp_mb();
	return uatomic_read(&closing);
}

/* The sub-ranges may be from different times, but they are in order. */
static bool read_walk(unsigned long *state)
{
	pgoff_t start = random_below(state, NR_PAGES / 2) * 2;
	pgoff_t end = min(start + 64, NR_PAGES);
	pgoff_t s, e, prev = start;

	gmem_attributes_for_each_change(&f.ga, start, end,
					random_below(state, 2), s, e) {
		if (s < prev || s >= e || e > end || (s & 1) || (e & 1))
			return false;
		prev = e;
	}
	return true;
}

static void *reader(void *arg)
{
	unsigned long id = (unsigned long)arg, state = random_seed + id;

	rcu_register_thread();
	while (!uatomic_read(&stop)) {
		if (!read_pair(&state) || !read_fixed(&state) ||
		    !read_walk(&state)) {
			reader_failed[id] = true;
			break;
		}
		nr_lookups[id]++;
		uatomic_set(&started[id], true);
	}
	rcu_unregister_thread();
	return NULL;
}

static void write_some(unsigned long *state)
{
	pgoff_t start, end;
	bool private;

	/* From after one fixed pair to before the next that is different. */
	start = random_below(state, NR_PAGES / 16) * 16;
	private = random_below(state, 2);
	if (private)
		start -= start ? 6 : 0;
	else
		start += 2;
	end = start + 2 * (1 + random_below(state, 7));
	if (start && random_below(state, 2))
		start += 2 * random_below(state, (end - start) / 2);
	if (private && !start)
		end = min(end, 8UL);

	file_set(&f, start, end, private);
}

static unsigned long now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void readers(void)
{
	unsigned long state = random_seed, nr = 0, sum = 0, until, i;
	pthread_t threads[NR_READERS];
	int r;

	file_open(&f, NR_PAGES, false);
	for (i = 0; i < NR_PAGES; i += 16)
		file_set(&f, i, i + 2, true);

	for (i = 0; i < NR_READERS; i++) {
		r = pthread_create(&threads[i], NULL, reader, (void *)i);
		assert(!r);
	}
	for (i = 0; i < NR_READERS; i++) {
		while (!uatomic_read(&started[i]) && !reader_failed[i])
			sched_yield();
	}

	until = now_ms() + RUN_MS;
	do {
		write_some(&state);
	} while (!test_failed && (++nr % 64 || now_ms() < until));
	file_check(&f);

	/* Have them look up pages while the tree is destroyed, too. */
	uatomic_set(&closing, true);
	cmm_smp_mb();
	file_close(&f);
	sched_yield();
	uatomic_set(&stop, true);

	for (i = 0; i < NR_READERS; i++) {
		pthread_join(threads[i], NULL);
		CHECK(!reader_failed[i]);
		sum += nr_lookups[i];
	}
	diag("%lu stores, %lu rounds of lookups", nr, sum);
}

const struct test reader_tests[] = {
	{ "readers", readers },
	{ }
};
