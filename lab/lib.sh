# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# What every script of the lab shares. Sourced first thing:
#
#	. "$(dirname "$0")/lib.sh"
#
# Sets: top (the repository), lab ($top/lab), out ($top/out, ignored by git), logs ($out/log), linux ($top/linux: the tree),
# and, from lab/base, base_package base_version base_suite base_member base_sha256 base_release base_tree base_epoch and
# series (the series' directory, $top/$base_series); project, patched ($top/$project: its tree), title
# (its name in a sentence) and target (what its make targets begin with), see PROJECT.
#
# Offers: say, step, note, die, at_exit, run_logged, need, need_disk, cores, lock, lines, tests_of_boot, matches, in_view, overlay, linux_version.
#
# Environment:
#	LAB_START	when the command that the user gave began, in seconds since 1970; set here for all scripts below it
#	ARCH		the architecture to run on: x86_64 (the default) or arm64. The scripts have it as LAB_ARCH; makes of the
#			kernel's are always told theirs
#	PROJECT		whose series it is about, for the scripts that make commits of a series and back: linux (the default), qemu or
#			emulator: QEMU as a VMM, and as what emulates a machine; lab/base-qemu is the base of both
#	LAB_OUT		another directory than out/, for what the scripts make
#	LAB_QUIET	if not empty, step and note and run_logged print nothing, unless something fails

set -Eeuo pipefail
export LC_ALL=C.UTF-8
# What the user's make was told is not for the kernel's.
unset MAKEFLAGS MFLAGS MAKEOVERRIDES MAKELEVEL
LAB_ARCH=${ARCH:-${LAB_ARCH:-x86_64}}
[ "$LAB_ARCH" != x86 ] || LAB_ARCH=x86_64
export LAB_ARCH
unset ARCH
umask 022

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
lab=$top/lab
out=${LAB_OUT:-$top/out}
logs=$out/log
linux=$top/linux
# What the series in question is for
project=${PROJECT:-linux}
# shellcheck disable=SC2034 # used by the scripts that source this
patched=$top/$project title=Linux target=
script=${0##*/}

# shellcheck source=lab/base
. "$lab/base"
case $project in
linux) ;;
qemu | emulator)
	# shellcheck source=lab/base-qemu
	. "$lab/base-qemu"
	# shellcheck disable=SC2034 # used by the scripts that source this
	base_series=vmm/$project title=QEMU target=$project-
	;;
*) echo "$script: PROJECT is '$project', and has to be linux, qemu or emulator" >&2 && exit 2 ;;
esac
# shellcheck disable=SC2154 # base_* come from lab/base
series=$top/$base_series
export LAB_START=${LAB_START:-$(date +%s)}
# shellcheck disable=SC2034 # used by the scripts that source this
readonly top lab out logs project series script

# --- what is said -------------------------------------------------------------------------------------------------------

# elapsed: m:ss since the user's command began
elapsed()
{
	local s=$(($(date +%s) - LAB_START))

	printf '%d:%02d' $((s / 60)) $((s % 60))
}

# step TEXT: a new step begins
step()
{
	[ -n "${LAB_QUIET:-}" ] || printf '[%s] %s\n' "$(elapsed)" "$*" >&2
}

# note TEXT: something worth knowing within a step
note()
{
	[ -n "${LAB_QUIET:-}" ] || printf '[%s]   %s\n' "$(elapsed)" "$*" >&2
}

# say TEXT: something that has to be said, quiet or not
say()
{
	printf '%s: %s\n' "$script" "$*" >&2
}

# die SENTENCE: what is wrong and what to do; the script ends with 1
die()
{
	lab_died=1
	say "$*"
	exit 1
}

# --- the end of a script ------------------------------------------------------------------------------------------------

lab_died=
lab_error=
lab_at_exit=()

# at_exit COMMAND: evaluated when the script ends, however it ends; last come, first served
at_exit()
{
	lab_at_exit=("$1" "${lab_at_exit[@]}")
}

lab_exit()
{
	local rc=$? command

	trap - ERR
	set +e
	for command in "${lab_at_exit[@]}"; do
		eval "$command"
	done
	# No script ends without a word.
	if [ $rc -ne 0 ] && [ -z "$lab_died" ] && [ -n "$lab_error" ]; then
		say "stopped at $lab_error"
	fi
	exit $rc
}
trap 'lab_error="line $LINENO of ${BASH_SOURCE[0]##*/} (exit $?): ${BASH_COMMAND%%$'"'\n'"'*}"' ERR
trap lab_exit EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

# --- commands with a log ------------------------------------------------------------------------------------------------

# Every 30 s, how far the log has got. In the background, so that the command itself stays in the foreground, where ^C reaches it.
# The wait is a read from a pipe that nobody writes to: no sleep is left behind.
lab_heartbeat()
{
	local name=$1 log=$2 fd last
	local start=$SECONDS

	trap - ERR EXIT INT TERM HUP
	set +e
	exec {fd}<> <(:)
	while read -rt "${LAB_HEARTBEAT:-30}" -u "$fd"; [ $? -gt 128 ]; do
		kill -0 "$$" 2>/dev/null || return
		last=$(tail -c 400 "$log" | tr -c '[:print:]\n' ' ' | tail -n 1)
		note "$name: $((SECONDS - start)) s, $(wc -l <"$log") lines of log, now: ${last:0:80}"
	done
}

# try_logged NAME COMMAND...: runs it with its output in out/log/NAME.log, and returns what it returns
try_logged()
{
	local name=$1 log=$logs/$1.log rc=0 beat

	shift
	mkdir -p "${log%/*}"
	: >"$log"
	note "log: ${log#"$top"/}"
	lab_heartbeat "$name" "$log" &
	beat=$!
	at_exit "kill $beat 2>/dev/null"
	"$@" >"$log" 2>&1 </dev/null || rc=$?
	unset 'lab_at_exit[0]'
	lab_at_exit=("${lab_at_exit[@]}")
	kill $beat 2>/dev/null || true
	wait $beat 2>/dev/null || true
	return $rc
}

# run_logged NAME COMMAND...: the same; if it fails, shows the end of its log and dies
run_logged()
{
	local log=$logs/$1.log rc=0

	try_logged "$@" || rc=$?
	[ $rc -ne 0 ] || return 0
	tail -n 20 "$log" | sed 's/^/    | /' >&2
	die "$1 failed (exit $rc); the lines above are the end of ${log#"$top"/}"
}

# --- what a machine must have -------------------------------------------------------------------------------------------

# need NAME...: what these lines of lab/needs list; installed if it is missing
need()
{
	local pair pairs missing=() packages=()

	mapfile -t pairs < <(needs_of "$@" | awk '!seen[$0]++')
	for pair in "${pairs[@]}"; do
		[ "$pair" != - ] || die "lab/needs has no line '$*', or one that it refers to"
		has "${pair%:*}" || { missing+=("${pair%:*}") && packages+=("${pair##*:}"); }
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	command -v apt-get >/dev/null ||
		die "missing on this machine: ${missing[*]} (Debian's packages: ${packages[*]}); install them and run this again"
	install_packages "${packages[@]}"
	for pair in "${pairs[@]}"; do
		has "${pair%:*}" || die "package ${pair##*:} is installed, but ${pair%:*} is still missing"
	done
}

# needs_of NAME...: TOOL:PACKAGE, one a line; - for a name that lab/needs doesn't have
needs_of()
{
	local name line item

	for name; do
		line=$(sed -nE "s/^${name}[[:space:]]+//p" "$lab/needs")
		[ -n "$line" ] || echo -
		for item in $line; do
			item=${item//\{arch\}/$LAB_ARCH}
			item=${item//\{triplet\}/${triplet:-}}
			item=${item//\{llvm\}/${llvm:-}}
			case $item in
			-) ;;
			@*) needs_of "${item#@}" ;;
			*) printf '%s\n' "$item" ;;
			esac
		done
	done
}

# has TOOL: a command, /FILE or <HEADER>
has()
{
	case $1 in
	/*) [ -e "$1" ] ;;
	\<*) gcc -E -x c - <<<"#include $1" >/dev/null 2>&1 ;;
	*) hash -r && command -v "$1" >/dev/null ;;
	esac
}

# install_packages PACKAGE...
install_packages()
{
	local root=()

	if [ "$(id -u)" -ne 0 ]; then
		root=(sudo -n)
		{ command -v sudo && sudo -n true; } >/dev/null 2>&1 ||
			die "missing packages; as root: apt-get install $*"
	fi
	step "installing: $*"
	# What is known of the archive may be nothing yet, or too old: then a look at it, and once more.
	lab_apt -s install "$@" >/dev/null 2>&1 && try_logged apt-install lab_apt install "$@" && return
	run_logged apt-update lab_apt update
	run_logged apt-install lab_apt install "$@"
}

lab_apt()
{
	"${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends -o DPkg::Lock::Timeout=600 "$@"
}

# need_disk DIR GIB: stops when the file system that DIR is (or will be) on has less than GIB free
need_disk()
{
	local dir=$1 free

	while [ ! -d "$dir" ]; do
		dir=$(dirname "$dir")
	done
	free=$(df --output=avail -k "$dir" | tail -n 1)
	[ "$free" -ge $(($2 * 1024 * 1024)) ] ||
		die "$dir has $((free / 1024 / 1024)) GiB of free disk space and $2 GiB are needed; make room, or check out elsewhere"
}

# cores: how many processors a build may use
cores()
{
	nproc
}

# lock NAME: waits until no other script of this checkout holds NAME; held until this script ends
lock()
{
	local fd

	mkdir -p "$out"
	exec {fd}>"$out/.lock-$1"
	flock -n "$fd" && return
	note "waiting for another script of this checkout (out/.lock-$1)"
	flock "$fd"
}

# --- lists of boots and tests -------------------------------------------------------------------------------------------

# lines KIND: the lines of $list that begin with that word, without it
lines()
{
	# shellcheck disable=SC2154 # the script's
	sed -nE "s/^${1}[[:space:]]+//p" "$list"
}

# tests_of_boot BOOT: LIMIT TEST [ARGUMENT...] of each test that it has
tests_of_boot()
{
	local boots test

	while read -r boots test; do
		! matches "$1" "$boots" || echo "$test"
	done < <(lines test)
}

# matches WORD PATTERN[,PATTERN...]
matches()
{
	local pattern alternatives

	IFS=, read -ra alternatives <<<"$2"
	for pattern in "${alternatives[@]}"; do
		# shellcheck disable=SC2053 # they are patterns
		[[ $1 = $pattern ]] && return
	done
	return 1
}

# --- views --------------------------------------------------------------------------------------------------------------

# in_view COMMAND...: becomes COMMAND, where that can mount what nobody else sees; call it in a subshell. As the first process of a PID
# namespace it takes along all that it began when it ends; and it ends when this does.
in_view()
{
	local user=()

	[ "$(id -u)" -eq 0 ] || user=(--user --map-root-user)
	exec unshare "${user[@]}" --mount-proc --pid --fork --kill-child=KILL "$@"
}

# overlay DIR SCRATCH [AT]: in a view: what is written to DIR from now on (or to AT, which shows DIR) goes to SCRATCH, an empty directory
overlay()
{
	mkdir "$2/upper" "$2/work"
	mount -t overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" overlay "${3:-$1}"
}

# --- Linux trees --------------------------------------------------------------------------------------------------------

# linux_version [DIR]: VERSION.PATCHLEVEL.SUBLEVEL of a tree (or of a Makefile on stdin, if DIR is -), nothing if it isn't one
linux_version()
{
	local dir=${1:-$linux} file

	file=$dir/Makefile
	[ "$dir" != - ] || file=/dev/stdin
	[ -r "$file" ] || return 0
	sed -n '1,10s/^\(VERSION\|PATCHLEVEL\|SUBLEVEL\) = \([0-9]*\)$/\2/p' "$file" | paste -sd . -
}
