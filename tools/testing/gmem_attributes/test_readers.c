// SPDX-License-Identifier: GPL-2.0-only
/*
 * Look up pages without the lock while a writer stores.  The bitmap is the
 * writer's own; what readers can rely on is that some pages never change, whatever
 * happens to those next to them: of every four chunks, the first is private and
 * the third is shared, and of every 16 pages of the first chunks of the file, the
 * first two are private and the ninth and tenth are shared.
 */
#include <pthread.h>
#include <time.h>

#include "file.h"

#define NR_CHUNKS	64UL
#define NR_PAGES	(NR_CHUNKS * CHUNK_PAGES)
#define NR_MIXED	(2 * CHUNK_PAGES)
#define NR_READERS	2
#define RUN_MS		1500

static struct file f;
static bool started[NR_READERS];
static bool closing, stop;
static unsigned long nr_lookups[NR_READERS];

/* In a thread, CHECK() would race with the writer's. */
static bool reader_failed[NR_READERS];

/* Of a fixed page, the state. */
static bool is_fixed(pgoff_t index, bool private)
{
	if (index < NR_MIXED)
		return index % 16 / 2 == (private ? 0 : 4);

	return index / CHUNK_PAGES % 4 == (private ? 0 : 2);
}

static bool read_fixed(unsigned long *state)
{
	pgoff_t index = random_below(state, NR_PAGES);
	bool private;

	if (is_fixed(index, false))
		return !gmem_attributes_is_private(&f.ga, index) &&
		       gmem_attributes_is_uniform(&f.ga, index, index + 1, false);

	private = gmem_attributes_is_private(&f.ga, index);
	if (private || !is_fixed(index, true))
		return true;

	/* It may be destroyed; pairs with the barrier before that. */
	cmm_smp_mb();
	return uatomic_read(&closing);
}

/* A uniform range has no page that is fixed in the other state. */
static bool read_range(unsigned long *state)
{
	bool private = random_below(state, 2);
	pgoff_t start = random_below(state, NR_PAGES), end, i;

	end = min(start + 1 + random_below(state, 3 * CHUNK_PAGES), NR_PAGES);
	if (!gmem_attributes_is_uniform(&f.ga, start, end, private))
		return true;

	for (i = start; i < end; i++) {
		if (is_fixed(i, !private)) {
			cmm_smp_mb();
			return !private && uatomic_read(&closing);
		}
	}
	return true;
}

static void *reader(void *arg)
{
	unsigned long id = (unsigned long)arg, state = random_seed + id, i;

	rcu_register_thread();
	while (!uatomic_read(&stop)) {
		for (i = 0; i < 16 && read_fixed(&state); i++)
			;
		if (i < 16 || !read_range(&state)) {
			reader_failed[id] = true;
			break;
		}
		nr_lookups[id]++;
		uatomic_set(&started[id], true);
	}
	rcu_unregister_thread();
	return NULL;
}

/* From after one page that's fixed in the other state to before the next. */
static void write_some(unsigned long *state)
{
	bool private = random_below(state, 2);
	pgoff_t start, end, low, high;

	start = random_below(state, NR_PAGES);
	if (random_below(state, 4) == 0)
		start = random_below(state, NR_MIXED);
	if (is_fixed(start, !private))
		return;

	for (low = start; low && !is_fixed(low - 1, !private); low--)
		;
	for (high = start + 1; high < NR_PAGES && !is_fixed(high, !private); high++)
		;

	end = start + 1 + random_below(state, high - start);
	start = low + random_below(state, start - low + 1);

	if (random_below(state, 2)) {
		low = round_down(start, CHUNK_PAGES) < low ? low :
		      round_down(start, CHUNK_PAGES);
		start = low;
		end = min(round_up(end, CHUNK_PAGES), high);
	}

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
	for (i = 0; i < NR_PAGES; i++) {
		if (is_fixed(i, true))
			file_set(&f, i, i + 1, true);
	}

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
