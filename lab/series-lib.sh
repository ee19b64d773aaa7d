# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# What the scripts that turn the repository into commits and back have in common. Sourced after lib.sh by tree, series,
# series-check, export and export-check.
#
# Three states of "the series" are compared, each as a directory laid out as the repository is (patches/7.3/series, the patches, and
# the new files where they lie in Linux):
#
#	here	what the repository has: collect
#	there	what a commit of linux/ amounts to: take
#	synced	what the repository had when both last agreed (linux/.git/lab/here, and refs/lab/synced for linux/'s side)
#
# shellcheck source=lab/lib.sh
[ -n "${top:-}" ] || . "$(dirname "$0")/lib.sh"

need git

# Nothing of the user's git may change what git writes here, or run: neither the repository that a hook runs in, nor settings.
# linux/'s own settings lose against these too.
mapfile -t lab_git_variables < <(git rev-parse --local-env-vars)
unset "${lab_git_variables[@]}"
export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null GIT_LITERAL_PATHSPECS=1
lab_git_settings=(
	'safe.directory=*' core.hooksPath=/dev/null core.fsmonitor=false core.autocrlf=false core.quotePath=false core.fileMode=true
	gc.auto=0 maintenance.auto=false advice.detachedHead=false init.defaultBranch=series apply.whitespace=nowarn
	apply.ignoreWhitespace=no diff.suppressBlankEmpty=false
	# What git 2.39 finds a function by, so that every git writes the same after @@. Linux's .gitattributes asks for cpp.
	'diff.cpp.xfuncname=!^[ 	]*[A-Za-z_][A-Za-z_0-9]*:[[:space:]]*($|/[/*])
^((::[[:space:]]*)?[A-Za-z_].*)$'
)
GIT_CONFIG_COUNT=0
for lab_setting in "${lab_git_settings[@]}"; do
	export "GIT_CONFIG_KEY_$GIT_CONFIG_COUNT=${lab_setting%%=*}" "GIT_CONFIG_VALUE_$GIT_CONFIG_COUNT=${lab_setting#*=}"
	GIT_CONFIG_COUNT=$((GIT_CONFIG_COUNT + 1))
done
export GIT_CONFIG_COUNT

# tgit ARGUMENT...: git in linux/
tgit()
{
	git -C "$patched" "$@"
}

# --- the repository's side ----------------------------------------------------------------------------------------------

# read_series: the arrays patches (file names, in order) and brings (the new files of each, separated by blanks)
read_series()
{
	local patch new

	patches=()
	brings=()
	[ -r "$series/series" ] || return 0
	while read -r patch new; do
		[[ -n $patch && $patch != \#* ]] || continue
		[ -r "$series/$patch" ] || die "$base_series/series names $patch, and there is no such patch"
		patches+=("$patch")
		brings+=("$new")
	done <"$series/series"
}

# read_parts: what the cover letter says of the parts of the series, behind read_series. It may have a section for each,
#
#	[name] Subject of the part's own cover letter
#	First: title of its first patch
#	For: entries of Linux's MAINTAINERS, separated by ;
#	On: names of the parts that it needs, or -
#
#	Text
#
# A part goes from its first patch up to the next part's. It is found by the title, so that it stays what it is when patches get other
# numbers. Sets the array parts to the names, in the order of the patches, and part_first and part_last (from 0), part_subject, part_for and
# part_on by name. Dies if a section does not say what the series has.
read_parts()
{
	local i name first last='' patch titles=()

	parts=()
	declare -gA part_first=() part_last=() part_subject=() part_for=() part_on=()
	for patch in "${patches[@]}"; do
		titles+=("$(sed -n '/^$/q; s/^Subject: \[PATCH\] //p' "$series/$patch")")
	done
	while read -r name; do
		# shellcheck disable=SC2034 # part_subject is for the scripts that source this
		part_subject[$name]=$(part_text "$name" | sed -n 1p)
		part_for[$name]=$(part_line "$name" For)
		part_on[$name]=$(part_line "$name" On)
		first=$(part_line "$name" First)
		[[ -n ${part_for[$name]} && -n ${part_on[$name]} ]] || die "$base_series/cover-letter: the section [$name] has no line 'For: ...' or 'On: ...'"
		for i in "${!titles[@]}"; do
			[ "${titles[i]}" != "$first" ] || part_first[$name]=$i
		done
		[ -n "${part_first[$name]:-}" ] ||
			die "$base_series/cover-letter: the part [$name] begins with a patch that the series doesn't have; First: $first"
	done < <(sed -nE 's/^\[([a-z][a-z0-9-]*)\] .*/\1/p' "$series/cover-letter")
	[ ${#part_first[@]} -gt 0 ] || return 0

	mapfile -t parts < <(for name in "${!part_first[@]}"; do echo "${part_first[$name]} $name"; done | sort -n | cut -d ' ' -f 2)
	[ "${part_first[${parts[0]}]}" -eq 0 ] || die "$base_series/cover-letter: ${patches[0]} is in no part; the first one, [${parts[0]}], begins behind it"
	for name in "${parts[@]}"; do
		[ -z "$last" ] || part_last[$last]=$((part_first[$name] - 1))
		last=$name
	done
	part_last[$last]=$((${#patches[@]} - 1))
	for name in "${parts[@]}"; do
		[ "${part_first[$name]}" -le "${part_last[$name]}" ] || die "$base_series/cover-letter: two parts begin with ${patches[${part_first[$name]}]}"
		for last in ${part_on[$name]/#-/}; do
			[ -n "${part_first[$last]:-}" ] || die "$base_series/cover-letter: [$name] is on [$last], and there is no such part"
			[ "${part_first[$last]}" -lt "${part_first[$name]}" ] || die "$base_series/cover-letter: [$name] is on [$last], which comes behind it in the series"
		done
	done
}

# part_text NAME: its section of the cover letter, from the subject on; with -, what stands before the first of them
part_text()
{
	awk -v name="$1" '
		BEGIN { on = name == "-" }
		match($0, /^\[[a-z][a-z0-9-]*\] /) {
			on = $1 == "[" name "]"
			if (on)
				print substr($0, RLENGTH + 1)
			next
		}
		on' "$series/cover-letter"
}

# part_line NAME KEY: what a line "KEY: ..." at the beginning of its section says
part_line()
{
	part_text "$1" | awk -v key="$2: " '/^$/ { past = 1 } !past && index($0, key) == 1 { print substr($0, length(key) + 1) }'
}

# below NAME: the parts that it is on, and what those are on, in the order of the patches
below()
{
	local name wanted=" $1 " i

	for ((i = ${#parts[@]} - 1; i >= 0; i--)); do
		name=${parts[i]}
		[[ $wanted != *" $name "* ]] || wanted+="${part_on[$name]/#-/} "
	done
	for name in "${parts[@]}"; do
		[ "$name" = "$1" ] || [[ $wanted != *" $name "* ]] || echo "$name"
	done
}

# split_patch FILE DIR: takes a patch of the series apart: DIR/name, DIR/email, DIR/subject, DIR/body, DIR/message, DIR/diff (may be empty)
split_patch()
{
	local file=${1#"$top"/}

	rm -f "$2"/{name,email,subject,body,message,diff}
	awk -v dir="$2" '
		BEGIN { state = "head"; printf "" >(dir "/body"); printf "" >(dir "/diff") }
		state == "head" && /^From: .+ <.+@.+>$/ {
			name = email = substr($0, 7)
			sub(/ <[^<]*$/, "", name); sub(/^.* </, "", email); sub(/>$/, "", email)
			print name >(dir "/name"); print email >(dir "/email"); next
		}
		state == "head" && /^Subject: \[PATCH\] ./ { print substr($0, 18) >(dir "/subject"); next }
		state == "head" && /^$/ { state = "body"; next }
		state == "head" { exit 1 }
		state == "body" && /^---$/ { state = "notes"; next }
		state == "body" { print >(dir "/body"); next }
		/^diff --git / { state = "diff" }
		state == "diff" { print >(dir "/diff") }
		END { exit state == "head" || state == "body" }
	' "$1" || die "$file is not what a patch of the series looks like: From:, Subject: [PATCH], a changelog, ---, a diff"
	[ -s "$2/name" ] || die "$file has no line 'From: name <address>'"
	[ -s "$2/subject" ] || die "$file has no line 'Subject: [PATCH] title'"
	{ cat "$2/subject"; [ ! -s "$2/body" ] || { echo; cat "$2/body"; }; } >"$2/message"
}

# collect DIR: copies the repository's side to DIR: the series, its patches, the files that the series names, and whatever else lies in
# a directory that Linux has too
collect()
{
	local roots

	mkdir -p "$1"
	roots=
	[ "$project" != linux ] || roots=$(tgit ls-tree -d --name-only refs/tags/base | paste -sd /)
	{
		repository_files | awk -F / -v roots="$roots" -v patches="$base_series" '
			BEGIN { split(roots, a, "/"); for (i in a) root[a[i]] }
			index($0, patches "/") == 1 && ($NF == "series" || $NF ~ /^[0-9].*\.patch$/) { print; next }
			NF > 1 && $1 in root'
		read_series
		[ ${#brings[@]} -eq 0 ] || printf '%s\n' "${brings[@]}" | tr ' ' '\n'
	} | sort -u | while read -r path; do
		[ ! -f "$top/$path" ] || printf '%s\n' "$path"
	done | tar -C "$top" -cf - -T - | tar -C "$1" -xf -
}

# What could belong to the repository: what git knows or would take; all, where the repository is not a git one
repository_files()
{
	local inside

	inside=$(git -C "$top" rev-parse --show-toplevel 2>/dev/null || :)
	if [ "$inside" = "$top" ]; then
		git -C "$top" ls-files -co --exclude-standard
	else
		(cd "$top" && find . \( -path ./linux -o -path ./out -o -name .git \) -prune -o -type f -print | sed 's,^\./,,')
	fi
}

# --- linux/'s side ------------------------------------------------------------------------------------------------------

# need_base: linux/ is a tree that the lab can compare
need_base()
{
	[ -e "$patched/.git" ] || die "$project/ is there, but is no git repository; move it away, and make ${target}tree lays out a new one"
	tgit rev-parse -q --verify 'refs/tags/base^{commit}' >/dev/null ||
		die "$project/ has no tag base on the commit that is $title without the series; move it away, and make ${target}tree lays out a new one"
}

# uncommitted: what in linux/ is not committed, one path a line
uncommitted()
{
	tgit status --porcelain=v1 --untracked-files=normal --ignore-submodules=all | cut -c 4-
}

# busy: says what git is in the middle of in linux/, if it is
busy()
{
	local what

	for what in rebase-merge rebase-apply CHERRY_PICK_HEAD MERGE_HEAD REVERT_HEAD; do
		if [ -e "$(tgit rev-parse --path-format=absolute --git-path "$what")" ]; then
			echo "$what" | tr 'A-Z_' 'a-z-' | sed 's/-\(head\|merge\|apply\)$//'
			return
		fi
	done
}

# of_commit COMMIT: how a commit is called in a message
of_commit()
{
	tgit log -1 --format='%h ("%s")' --abbrev=9 "$1"
}

# take DIR COMMIT: writes what COMMIT amounts to into DIR
take()
{
	local dir=$1 to=$2 from commit parents n=0 name new paths path status modes base_has
	local author subject slug body line
	local -A brought=()

	from=$(tgit rev-parse 'refs/tags/base^{commit}')
	mkdir -p "$dir/$base_series"
	tgit merge-base --is-ancestor "$from" "$to" || die "$project/'s HEAD is not on top of its tag base; git -C $project rebase base"

	while read -r commit parents; do
		[[ $parents != *' '* ]] || die "the series is a line of commits, and $(of_commit "$commit") is a merge"
		{
			IFS= read -rd '' author
			IFS= read -rd '' subject
			IFS= read -rd '' slug
			IFS= read -rd '' body
		} < <(tgit log -1 --format='%an <%ae>%x00%s%x00%f%x00%b%x00' "$commit")
		case $subject in
		fixup!*|squash!*|amend!*) die "$(of_commit "$commit") has to be folded in first: git -C $project rebase --autosquash -i base" ;;
		'['*) die "$(of_commit "$commit"): git am would drop what stands in brackets at the beginning of a subject" ;;
		esac
		n=$((n + 1))
		slug=${slug:0:52}
		printf -v name '%04d-%s.patch' $n "${slug%"${slug##*[^-.]}"}"

		paths=()
		new=()
		mapfile -d '' -t modes < <(tgit diff-tree -r -z --no-renames "$parents" "$commit")
		[ ${#modes[@]} -gt 0 ] || die "$(of_commit "$commit") changes nothing"
		for ((i = 0; i < ${#modes[@]}; i += 2)); do
			paths+=("${modes[i + 1]}")
		done
		base_has=$'\n'$(tgit ls-tree -r --name-only "$from" -- "${paths[@]}")$'\n'
		paths=()
		for ((i = 0; i < ${#modes[@]}; i += 2)); do
			read -r _ mode _ _ status <<<"${modes[i]}"
			path=${modes[i + 1]}
			# Only Linux's new files have a place in the repository.
			if [ "$project" != linux ] || [[ $base_has = *$'\n'"$path"$'\n'* ]]; then
				paths+=("$path")
				continue
			fi
			[ -z "${brought[$path]:-}" ] || die "$path is new and has to arrive whole, in one commit; $(of_commit "${brought[$path]}")" \
				"brings it and $(of_commit "$commit") touches it again"
			[[ $status = A && $mode = 100[67][45]* ]] || die "$(of_commit "$commit"): $path is neither a file nor an executable"
			[[ $path != *[[:space:]]* ]] || die "$(of_commit "$commit"): the name of a new file has no blanks in it: $path"
			case $path in
			lab/*|patches/*|out/*|linux/*|.ci/*|README.md) die "$(of_commit "$commit"): $path is the repository's, not Linux's" ;;
			esac
			brought[$path]=$commit
			new+=("$path")
		done
		# What a mail could not carry.
		! line=$(grep -m 1 -E '^(---|diff -|Index: )' <<<"$body") ||
			die "$(of_commit "$commit"): git am takes this line of the changelog for the end of it; indent it: $line"
		[ ${#paths[@]} -eq 0 ] || write_diff "$parents" "$commit" "${paths[@]}" >"$dir/diff"
		! line=$(grep -s -m 1 '^Binary files ' "$dir/diff") || die "$(of_commit "$commit") changes what is no text: $line"
		{
			printf 'From: %s\nSubject: [PATCH] %s\n\n' "$author" "$subject"
			body=$(printf '%s' "$body")
			[ -z "$body" ] || printf '%s\n' "$body"
			echo ---
			[ ${#paths[@]} -eq 0 ] || cat "$dir/diff"
		} >"$dir/$base_series/$name"
		rm -f "$dir/diff"
		if [ ${#new[@]} -gt 0 ]; then
			tgit archive --format=tar "$commit" -- "${new[@]}" | tar -C "$dir" --no-same-permissions -xmf -
			for path in "${new[@]}"; do
				[ -s "$dir/$path" ] || die "$(of_commit "$commit"): $path is empty"
				grep -Iq . "$dir/$path" || die "$(of_commit "$commit"): $path is no text"
			done
		fi
		echo "$name${new:+ ${new[*]}}" >>"$dir/$base_series/series"
	done < <(tgit rev-list --reverse --topo-order --parents "$from..$to")
}

# write_diff PARENT COMMIT PATH...: the changes to these, with nothing in it that changes when nothing has changed
write_diff()
{
	local from=$1 to=$2

	shift 2
	tgit diff-tree -r -p --no-ext-diff --no-textconv --no-color --no-renames --diff-algorithm=myers --indent-heuristic -U3 \
		--inter-hunk-context=0 --src-prefix=a/ --dst-prefix=b/ -O/dev/null "$from" "$to" -- "$@" | sed '/^index /d'
}

# --- comparing ----------------------------------------------------------------------------------------------------------

# same FILE FILE: equal, the x bit included. On another base than the pinned one, hunks may lie elsewhere.
same()
{
	if [ ! -e "$1" ] || [ ! -e "$2" ]; then
		[ ! -e "$1" ] && [ ! -e "$2" ]
		return
	fi
	if [ -x "$1" ]; then [ -x "$2" ]; else [ ! -x "$2" ]; fi || return
	cmp -s "$1" "$2" && return
	[[ $1 = *.patch ]] && [ "$(tgit rev-parse 'refs/tags/base^{tree}')" != "$base_tree" ] &&
		cmp -s <(sed 's/^@@ -[0-9].*/@@/' "$1") <(sed 's/^@@ -[0-9].*/@@/' "$2")
}

# differing DIR DIR: the paths that are not the same in both, one a line
differing()
{
	local path

	{
		find "$1" -type f -printf '%P\n'
		find "$2" -type f -printf '%P\n'
	} | sort -u | while read -r path; do
		same "$1/$path" "$2/$path" || printf '%s\n' "$path"
	done
}

# synced_dir: where the repository's side of the last agreement is kept
synced_dir()
{
	echo "$(tgit rev-parse --path-format=absolute --git-common-dir)/lab/here"
}

# mark_synced DIR COMMIT: from now on DIR is what the repository had, and COMMIT what linux/ had, when both last agreed
mark_synced()
{
	local dir

	dir=$(synced_dir)
	mkdir -p "${dir%/*}"
	rm -rf "$dir.new"
	cp -a "$1" "$dir.new"
	rm -rf "$dir"
	mv "$dir.new" "$dir"
	tgit update-ref refs/lab/synced "$2"
}

# scratch: a new directory, which goes away with the script
scratch()
{
	mkdir -p "$out"
	tmp=$(mktemp -d "$out/.$script.XXXXXX")
	at_exit "rm -rf '$tmp'"
}
