// SPDX-License-Identifier: GPL-2.0-only
/*
 * Do what a string of characters says, any string.  A fuzzer makes them up, see
 * fuzz_main.c; here are those that have found something, or that reach together
 * what it has ever reached.
 *
 * A character stands for a number below 64.  The first three are the file: how
 * many chunks it has, how many pages its last chunk lacks, and its state.  Each
 * step after that is a number that says what to do, see enum step, and the numbers
 * that this takes: most take a range, which is four.  If the string ends, what is
 * missing is 0.
 */
#include "file.h"
#include "fuzz.h"

static struct file f;
static const char *input;
static size_t left;

void (*after_step)(void);
bool verbose_input;

enum step {
	SET,			/* A range. */
	SET_CHUNKS,		/* The whole chunks that a range begins and ends in. */
	SET_ALL,
	SET_PAGES,		/* Single pages of a range, a few pages apart. */
	SET_SOME_CHUNKS,	/* Single chunks from the range's start on. */
	SET_FAILING,		/* With memory for so many allocations. */
	ABANDON,
	LOOK,
	REOPEN,
	REOPEN_FAILING,
	INVALID,
	NR_STEPS,
};

static const char *const step_names[NR_STEPS] = {
	"set", "set chunks", "set all", "set pages", "set some chunks",
	"set, failing", "abandon", "look", "reopen", "reopen, failing", "invalid",
};

/* Printable ones that are next to each other mean what's next to each other. */
static unsigned int number(void)
{
	if (!left)
		return 0;

	left--;
	return *input++ & 63;
}

/* A page of a chunk: more often than not at an end of it, or of a word. */
static pgoff_t page_number(void)
{
	static const unsigned short edges[] = {
		0, 1, 2, 3, 31, 32, 62, 63, 64, 65, 66, 127, 128, 129, 191, 192,
		255, 256, 257, 320, 383, 384, 445, 446, 447, 448, 449, 508, 509, 510, 511,
	};
	unsigned int nr = number();

	if (nr < ARRAY_SIZE(edges))
		return edges[nr];

	return nr < 48 ? 0 : (nr * 37) % CHUNK_PAGES;
}

static void range(pgoff_t *start, pgoff_t *end)
{
	*start = (number() * CHUNK_PAGES + page_number()) % f.nr_pages;
	*end = *start + number() * CHUNK_PAGES;
	*end += page_number();
	*end = min(max(*end, *start + 1), f.nr_pages);
}

static void open_file(bool failing)
{
	pgoff_t nr_pages = (number() + 1) * CHUNK_PAGES, lacks = page_number();
	bool private = number() & 1;
	unsigned int nr;
	int r;

	nr_pages -= lacks;
	if (failing) {
		nr = number() % 4;
		alloc_fail_after(nr);
		r = attributes_create(&f.ga, nr_pages, private);
		alloc_fail_never();
		CHECK(!r || (r == -ENOMEM && nr < 2));
		CHECK(gmem_attributes_is_private(&f.ga, nr_pages - 1) == (private && !r));
		write_locked = true;
		gmem_attributes_destroy(&f.ga);
		write_locked = false;
	}

	file_open(&f, nr_pages, private);
	if (verbose_input)
		diag("%lu pages, %s", nr_pages, private ? "private" : "shared");
}

/* What is around a range that has changed or should not have. */
static void look(pgoff_t start, pgoff_t end)
{
	pgoff_t s = start ? start - 1 : 0, e = min(end + 1, f.nr_pages);

	file_check_index(&f, s);
	file_check_index(&f, start);
	file_check_index(&f, end - 1);
	file_check_index(&f, e - 1);
	file_check_range(&f, start, end, false);
	file_check_range(&f, start, end, true);
	file_check_range(&f, s, e, false);
	file_check_range(&f, s, e, true);
}

static void invalid(pgoff_t start, pgoff_t end, bool private)
{
	struct gmem_attributes_store store;
	unsigned int warnings = nr_warnings;

	if (private)
		end = f.nr_pages + 1 + number();
	else
		end = start - min_t(pgoff_t, start, number());

	CHECK(file_prepare(&f, &store, start, end, private, GFP_KERNEL_ACCOUNT) == -EINVAL);
	CHECK(nr_warnings == warnings + 1);
	nr_warnings = warnings;

	/* Nothing has been prepared, and this does nothing. */
	write_locked = true;
	gmem_attributes_commit(&store);
	write_locked = false;
	gmem_attributes_abandon(&store);
}

static void set_failing(pgoff_t start, pgoff_t end, bool private, unsigned int nr)
{
	struct gmem_attributes_store store;
	int r;

	alloc_fail_after(nr);
	r = file_prepare(&f, &store, start, end, private, GFP_KERNEL_ACCOUNT);
	alloc_fail_never();

	if (!r) {
		file_commit(&f, &store);
		return;
	}
	CHECK(r == -ENOMEM);
	f.split = true;
	if (nr & 1)
		gmem_attributes_abandon(&store);
}

static void one_step(enum step step)
{
	struct gmem_attributes_store store;
	pgoff_t start = 0, end = f.nr_pages, i, by;
	bool private = number() & 1;

	if (step != SET_ALL && step != REOPEN && step != REOPEN_FAILING)
		range(&start, &end);
	if (verbose_input)
		diag("%s [%lu, %lu) %s", step_names[step], start, end,
		     private ? "private" : "shared");

	switch (step) {
	case SET_ALL:
		f.split = false;
		file_set(&f, start, end, private);
		break;
	case SET:
		file_set(&f, start, end, private);
		break;
	case SET_CHUNKS:
		start = round_down(start, CHUNK_PAGES);
		end = min(round_up(end, CHUNK_PAGES), f.nr_pages);
		file_set(&f, start, end, private);
		break;
	case SET_PAGES:
		by = 1 + page_number();
		end = min(end, start + 32 * by);
		for (i = start; i < end; i += by)
			file_set(&f, i, i + 1, private);
		break;
	case SET_SOME_CHUNKS:
		start = round_down(start, CHUNK_PAGES);
		by = (1 + number() % 8) * CHUNK_PAGES;
		end = f.nr_pages;
		for (i = start; i < end; i += by)
			file_set(&f, i, min(i + CHUNK_PAGES, end), private);
		break;
	case SET_FAILING:
		set_failing(start, end, private, number() % 16);
		break;
	case ABANDON:
		if (CHECK(!file_prepare(&f, &store, start, end, private, GFP_KERNEL_ACCOUNT)))
			gmem_attributes_abandon(&store);
		f.split = true;
		break;
	case INVALID:
		invalid(start, end, private);
		break;
	case REOPEN:
	case REOPEN_FAILING:
		file_close(&f);
		open_file(step == REOPEN_FAILING);
		start = 0;
		end = f.nr_pages;
		break;
	case LOOK:
	case NR_STEPS:
		break;
	}

	look(start, end);
	file_check_entries(&f);
}

/* Single lookups of pages where the state changes, and of their neighbors. */
static void look_at_all(void)
{
	pgoff_t i = 0;

	file_check_range(&f, 0, f.nr_pages, false);
	file_check_range(&f, 0, f.nr_pages, true);
	while (i < f.nr_pages && !test_failed) {
		if (i)
			file_check_index(&f, i - 1);
		file_check_index(&f, i);
		i = file_next(&f, i, f.nr_pages, !test_bit(i, f.private));
	}
	CHECK(!gmem_attributes_is_private(&f.ga, f.nr_pages));
}

void run_input(const char *string, size_t size)
{
	input = string;
	left = size;

	open_file(false);
	while (left && !test_failed) {
		one_step(number() % NR_STEPS);
		if (after_step)
			after_step();
	}
	look_at_all();
	file_close(&f);
}

static const char *const inputs[] = {
#include "fuzz_inputs.h"
};

static void saved_inputs(void)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(inputs) && !test_failed; i++) {
		run_input(inputs[i], strlen(inputs[i]));
		if (test_failed)
			diag("the input was \"%s\"", inputs[i]);
	}
	diag("%d inputs", i);
}

const struct test input_tests[] = {
	{ "saved_inputs", saved_inputs },
	{ }
};
