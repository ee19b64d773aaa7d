/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef GMEM_ATTRIBUTES_FILE_H
#define GMEM_ATTRIBUTES_FILE_H

#include "alloc.h"
#include "shim.h"
#include "../../../virt/kvm/gmem_attributes.h"

/*
 * The attributes of a file, and a plain bitmap that says what they should be.
 */
struct file {
	struct gmem_attributes ga;
	pgoff_t nr_pages;
	unsigned long *private;

	/* A change that was called off may have left equal neighbors. */
	bool split;

	/* The last operations, to tell about when a check fails. */
	struct op {
		pgoff_t start;
		pgoff_t end;
		bool private;
	} ops[8];
	unsigned long nr_ops;
};

/* Set up the attributes of nr_pages pages. */
int attributes_create(struct gmem_attributes *ga, pgoff_t nr_pages, bool private);

void file_open(struct file *f, pgoff_t nr_pages, bool private);
void file_close(struct file *f);

/* Prepare, and, under the same lock, commit. */
int file_prepare(struct file *f, struct gmem_attributes_store *store,
		 pgoff_t start, pgoff_t end, bool private, gfp_t gfp);
void file_commit(struct file *f, struct gmem_attributes_store *store);
void file_set(struct file *f, pgoff_t start, pgoff_t end, bool private);

/* What an entry can be, told by the size of its object. */
#define CHUNK_PAGES	512UL
#define UNIFORM_BYTES	64
#define MAX_CHUNK_BYTES	96

/* Page by page, every other one private, the rest shared. */
void file_fragment(struct file *f);

/* The same by ranges of whole chunks. */
void file_fragment_chunks(struct file *f);

/* The number of entries of the tree. */
unsigned long file_nr_entries(struct file *f);

/* What the bitmap says: the first index in [start, end) in that state, or end. */
pgoff_t file_next(struct file *f, pgoff_t start, pgoff_t end, bool private);

/* Compare with the bitmap, from a single lookup to all that can be asked. */
bool file_check_index(struct file *f, pgoff_t index);
bool file_check_range(struct file *f, pgoff_t start, pgoff_t end, bool private);
bool file_check_entries(struct file *f);
bool file_check(struct file *f);
bool file_check_all(struct file *f);

/* From the command line; without it, every run does the same. */
extern unsigned long random_seed;
extern unsigned long nr_random_ops;
unsigned long random_below(unsigned long *state, unsigned long bound);

extern bool test_failed;
void check_failed(const char *file, int line, const char *what);

#define CHECK(cond) ({						\
	bool __ok = (cond);					\
								\
	if (!__ok)						\
		check_failed(__FILE__, __LINE__, #cond);	\
	__ok;							\
})

void __printf(1, 2) diag(const char *fmt, ...);

struct test {
	const char *name;
	void (*run)(void);
};

extern const struct test edge_tests[];
extern const struct test exhaustive_tests[];
extern const struct test failure_tests[];
extern const struct test input_tests[];
extern const struct test memory_tests[];
extern const struct test random_tests[];
extern const struct test reader_tests[];

#endif /* GMEM_ATTRIBUTES_FILE_H */
