/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef GMEM_ATTRIBUTES_FUZZ_H
#define GMEM_ATTRIBUTES_FUZZ_H

#include <stddef.h>
#include <stdint.h>

struct rcu_head;

/* Do what @input says, see fuzz.c, and compare after each step. */
void run_input(const char *input, size_t size);

/* Called between two steps. */
extern void (*after_step)(void);

/* Print each step. */
extern bool verbose_input;

/* What libFuzzer calls, see fuzz_main.c. */
int fuzz_init(int *argc, char ***argv);
int fuzz_one(const uint8_t *data, size_t size);

/* Instead of liburcu's. */
void __wrap_urcu_memb_call_rcu(struct rcu_head *head,
			       void (*func)(struct rcu_head *head));
void __wrap_urcu_memb_barrier(void);

#endif /* GMEM_ATTRIBUTES_FUZZ_H */
