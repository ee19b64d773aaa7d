# shellcheck shell=bash disable=SC2154 # the variables come from the scripts that source this
# SPDX-License-Identifier: GPL-2.0
#
# Configures a kernel by fragments. Sourced behind lib.sh and arch.sh; wants src (the tree), obj (where to build it) and what
# need_toolchain sets.
#
#	configure NAME OPTION...	makes $obj/.config, with its log in out/log/config-NAME.log. OPTION is a fragment's name, for
#					lab/configs/OPTION.config, or a single option: CONFIG_X=y, m, n or whatever X can be. They are
#					merged in this order over allnoconfig. Fails, with what and why, if an option isn't in the
#					final .config as it was asked for.
#	kbuild ARGUMENT...		make in $obj
#
# Environment:
#	BASE		if not empty, the tree has not all of the series: options that it doesn't know are not asked for

# wanted: the options that the fragments name, the last one that names it wins: SYMBOL VALUE FRAGMENT
wanted()
{
	awk '
		/^CONFIG_[A-Za-z0-9_]+=/ { eq = index($0, "="); name = substr($0, 1, eq - 1); value = substr($0, eq + 1) }
		/^# CONFIG_[A-Za-z0-9_]+ is not set$/ { name = $2; value = "n" }
		name == "" { next }
		{ if (!(name in last)) order[++n] = name; last[name] = value "\t" FILENAME; name = "" }
		END { for (i = 1; i <= n; i++) print order[i] "\t" last[order[i]] }
	' "$@"
}

# knows SYMBOL: does the tree have such an option, where the series brings some?
knows()
{
	(cd "$src" && grep -rqxE --include='Kconfig*' "(menu)?config ${1#CONFIG_}" "arch/$srcarch" virt)
}

# check_config: every wanted option is in the .config
check_config()
{
	local name value fragment line has bad=()

	while IFS=$'\t' read -r name value fragment; do
		line="$name=$value"
		[ "$value" != n ] || line="# $name is not set"
		has=$(grep -xE "$name=.*|# $name is not set" "$obj/.config") || has='nothing: unknown, or something that it depends on is off'
		[ "$has" = "$line" ] || { [ -n "${BASE:-}" ] && ! knows "$name"; } || bad+=("$line (${fragment##*/}); the final .config says: $has")
	done < <(wanted "$@")
	[ ${#bad[@]} -gt 0 ] || return 0
	printf '    | %s\n' "${bad[@]}" >&2
	say "${#bad[@]} of the options asked for did not get into ${obj#"$top"/}/.config; see what they depend on (make -C $src O=$obj menuconfig, key /), or take them out of the fragment"
	return 1
}

configure()
{
	local name=$1 option files=()

	shift
	mkdir -p "$obj"
	echo "# $name" >"$obj/options"
	for option; do
		case $option in
		CONFIG_*=n) echo "# ${option%=n} is not set" >>"$obj/options" ;;
		CONFIG_*) echo "$option" >>"$obj/options" ;;
		*)
			[ -f "$lab/configs/$option.config" ] || die "$name asks for '$option': neither lab/configs/$option.config nor CONFIG_X=value"
			files+=("$lab/configs/$option.config")
			;;
		esac
	done
	files+=("$obj/options")
	cat "${files[@]}" >"$obj/fragments"
	LAB_QUIET=1 run_logged "config-$name" kbuild allnoconfig
	check_config "${files[@]}"
}

kbuild()
{
	make -C "$src" O="$obj" -j"$(cores)" "${toolchain[@]}" LOCALVERSION= KCONFIG_ALLCONFIG="$obj/fragments" \
		KBUILD_BUILD_USER=lab KBUILD_BUILD_HOST=lab KBUILD_BUILD_VERSION=1 \
		KBUILD_BUILD_TIMESTAMP="$(date -u -d "@$base_epoch")" "$@"
}
