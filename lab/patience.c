// SPDX-License-Identifier: GPL-2.0
/*
 * kselftest_harness.h gives each test 30 seconds, by poll().  On a slow kernel, lab/init preloads
 * this into test programs: whoever is ready to wait as long as that waits LAB_FACTOR times as long.
 */
#include <poll.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

int poll(struct pollfd *fds, nfds_t nr, int timeout)
{
	const char *factor = getenv("LAB_FACTOR");

	if (timeout >= 30000 && factor)
		timeout *= atoi(factor);

	return syscall(SYS_poll, fds, nr, timeout);
}
