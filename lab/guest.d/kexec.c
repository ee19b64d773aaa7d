// SPDX-License-Identifier: GPL-2.0
/*
 * Loads a kernel to be booted by kexec, or boots the one that was loaded: kexec-tools, for the guest of make guest, which has neither a
 * library nor room for them.
 *
 *	kexec KERNEL INITRD COMMAND-LINE
 *	kexec
 *
 * Returns 0, or 1 with what the kernel said.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/reboot.h>

int main(int argc, char **argv)
{
	int kernel, initrd;

	if (argc == 1) {
		syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_KEXEC, NULL);
		perror("kexec: boot");
		return 1;
	}
	if (argc != 4) {
		fprintf(stderr, "usage: kexec [KERNEL INITRD COMMAND-LINE]\n");
		return 1;
	}
	kernel = open(argv[1], O_RDONLY);
	initrd = open(argv[2], O_RDONLY);
	if (kernel < 0 || initrd < 0) {
		perror("kexec: open");
		return 1;
	}
	if (syscall(SYS_kexec_file_load, kernel, initrd, strlen(argv[3]) + 1, argv[3], 0UL)) {
		perror("kexec: load");
		return 1;
	}
	return 0;
}
