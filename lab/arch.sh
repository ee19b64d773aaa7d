# shellcheck shell=bash disable=SC2034 # the variables are for the scripts that source this
# SPDX-License-Identifier: GPL-2.0
#
# What the lab knows about architectures. Sourced behind lib.sh.
#
#	arch ARCH		ARCH is the kernel's name of one: x86_64 i386 arm64 s390 riscv powerpc loongarch. Sets
#				kbuild_arch, srcarch	the kernel's ARCH and the directory below arch/
#				triplet			the GNU name of it, empty for this machine's own
#				arch_suffix		what directories for it end in, empty for this machine's own
#				image, kvm_modules	what a build makes, below its directory
#	need_toolchain gcc|clang
#				installs what builds a kernel for it, and sets
#				toolchain		the arguments of make that say so
#				toolchain_name		what it is, for people
#	has_toolchain gcc|clang	can it be installed, or is it there?

llvm=19		# Debian 12 and 13 both have it; Linux 7.3 wants at least 17.0.1

arch()
{
	kbuild_arch=$1 srcarch=$1 triplet='' arch_suffix=-$1 image='' kvm_modules=()
	case $1 in
	x86_64 | i386)
		srcarch=x86
		arch_suffix=''
		image=arch/x86/boot/bzImage
		kvm_modules=(virt/lib/irqbypass.ko arch/x86/kvm/kvm{,-amd,-intel}.ko)
		;;
	arm64)
		triplet=aarch64-linux-gnu
		image=arch/arm64/boot/Image
		;;
	s390) triplet=s390x-linux-gnu ;;
	riscv) triplet=riscv64-linux-gnu ;;
	powerpc) triplet=powerpc64le-linux-gnu ;;
	loongarch) triplet=loongarch64-linux-gnu ;;
	*) die "the lab knows no architecture '$1'; it knows x86_64 i386 arm64 s390 riscv powerpc loongarch" ;;
	esac
	[ "$(uname -m)" = x86_64 ] || die "this machine is $(uname -m); the lab builds and runs on x86-64"
}

has_toolchain()
{
	local root=()

	[ "$1" = gcc ] && [ -n "$triplet" ] || return 0
	! command -v "$triplet-gcc" >/dev/null || return 0
	command -v apt-get >/dev/null || return 1
	# What is known of the archive may be nothing yet. Every Debian has a compiler for s390.
	if ! in_archive gcc-s390x-linux-gnu; then
		[ "$(id -u)" -eq 0 ] || root=(sudo -n)
		try_logged apt-update lab_apt update || return 1
	fi
	in_archive "gcc-$triplet"
}

in_archive()
{
	[ -n "$(apt-cache policy "$1" 2>/dev/null | sed -n 's/^ *Candidate: \([^(]\)/\1/p')" ]
}

need_toolchain()
{
	local ccache=

	! command -v ccache >/dev/null || ccache="ccache "
	toolchain=(ARCH="$kbuild_arch")
	if [ "$1" = clang ]; then
		need toolchain-clang
		toolchain+=("LLVM=-$llvm" "CC=${ccache}clang-$llvm")
		toolchain_name="${ccache}clang $(clang-$llvm -dumpversion)"
		return
	fi
	if [ -n "$triplet" ]; then need toolchain-cross; else need toolchain-gcc; fi
	toolchain+=(CROSS_COMPILE="${triplet:+$triplet-}" CC="$ccache${triplet:+$triplet-}gcc")
	toolchain_name="$ccache${triplet:+$triplet-}gcc $("${triplet:+$triplet-}gcc" -dumpfullversion)"
}
