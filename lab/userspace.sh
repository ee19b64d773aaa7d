# shellcheck shell=bash disable=SC2154 # the variables come from the scripts that source this
# SPDX-License-Identifier: GPL-2.0
#
# Builds a program of tools/testing outside of the tree. Sourced behind lib.sh; wants src (the tree).
#
#	userspace DIR NAME	lays out in DIR what tools/testing/NAME of the tree is built from, by links; objects of an earlier
#				build stay. Sets build (the directory to call make in)

userspace()
{
	local dir=$1 name=$2 file

	[ -d "$src/tools/testing/$name" ] || die "$src has no tools/testing/$name; 'make tree' lays the series out"
	build=$dir/tools/testing/$name
	# The Makefile and the sources name their neighbours by relative paths: give them the same neighbours.
	rm -rf "${dir:?}"/{include,lib,scripts,virt} "$dir"/tools/{arch,include,lib,scripts} "$dir/tools/testing/shared"
	mkdir -p "$build"
	find "$build" -type l -delete
	ln -s "$src"/{include,lib,scripts,virt} "$dir/"
	ln -s "$src"/tools/{arch,include,lib,scripts} "$dir/tools/"
	ln -s "$src/tools/testing/shared" "$dir/tools/testing/"
	for file in "$src/tools/testing/$name"/*; do
		case $file in
		*/idr.c | */radix-tree.c) ;; # made by a build in that place
		*.[ch] | */Makefile | */linux) ln -sf "$file" "$build/" ;;
		esac
	done
}
