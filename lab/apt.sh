# shellcheck shell=bash disable=SC2154 # logs and instead come from who sources this
# SPDX-License-Identifier: GPL-2.0
#
# Files out of Debian's packages, through apt: with sources, lists and cache of its own, with the mirror, the proxies and the
# passwords that this machine's apt has. Nothing in /etc changes, and nothing is installed. Sourced behind lib.sh, with
# instead=SENTENCE: what the user can do without.
#
# Sets cache: where files are kept between checkouts.
#
#	open_archive SUITE [ARCHITECTURE]	looks at the archive; this machine's architecture is the default. With an architecture, and
#						so with what this machine has installed left out of account, SUITE can be several
#	open_sources SUITE			the same for source packages
#	archive_versions PACKAGE		the versions that it has, newest first
#	find_version PACKAGE VERSION		sets version to VERSION or, if it has only others and the user wants that, to its newest
#	from_package PACKAGE VERSION PATTERN	a file of a package, to stdout
#	from_source PACKAGE VERSION PATTERN	a file of a source package, to stdout
#	unpack_only PACKAGE DIR [VERSION]	a package without what it depends on, into DIR; the newest by default
#	unpack_package SUITE PACKAGE VERSION DIR	a package and all that it depends on, into DIR; SUITE's are preferred
#
# Environment:
#	GMEM_CACHE	where the files are kept, in gmem-lab/ (default: $XDG_CACHE_HOME or ~/.cache); it may vanish
#	ACCEPT_NEWER	if not empty, and the mirror no longer has the version that is looked for: take the newest that it has

keyring=/usr/share/keyrings/debian-archive-keyring.gpg
archive_type=deb

cache=${GMEM_CACHE:-${XDG_CACHE_HOME:-${HOME:-$out}/.cache}}/gmem-lab
if ! mkdir -p "$cache" 2>/dev/null || [ ! -w "$cache" ]; then
	cache=$out/cache
	mkdir -p "$cache"
fi

# Writes the sources that may have the package, one a line and best first: the machine's own Debian archives, whatever they are called.
# The archive's signature decides if it is one, so trying a wrong one does no harm.
mirrors()
{
	local codename

	codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
	# shellcheck disable=SC2016 # apt-get puts in the values
	apt-get -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= indextargets --no-release-info --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' 'Identifier: Packages' 2>/dev/null |
	awk -v codename="$codename" '
		$2 != "main" || $1 ~ /security/ || $3 ~ /security/ { next }
		{ print ($1 == codename ? 0 : $1 ~ codename ? 1 : 2), $3 }' |
	sort -u | sort -s -k 1,1n | awk '!seen[$2]++ { print $2 }'
}

# configure_apt [ARCHITECTURE]: settings on top of the machine's: -c is read last
configure_apt()
{
	mkdir -p "$work"/{empty,lists/partial,cache/archives/partial}
	cat >"$work/apt.conf" <<-END
		Dir::Etc::sourcelist "$work/sources.list";
		Dir::Etc::sourceparts "$work/empty";
		Dir::Etc::preferences "/dev/null";
		Dir::Etc::preferencesparts "$work/empty";
		Dir::State::lists "$work/lists";
		Dir::Cache "$work/cache";
		Dir::Cache::archives "$work/cache/archives";
		Dir::Cache::pkgcache "";
		Dir::Cache::srcpkgcache "";
		APT::Sandbox::User "root";
		APT::Update::Error-Mode "any";
		Acquire::Languages { "none"; };
		Acquire::Retries "3";
		#clear APT::Update::Pre-Invoke;
		#clear APT::Update::Post-Invoke;
		#clear APT::Update::Post-Invoke-Success;
		#clear Acquire::IndexTargets::deb::DEP-11;
		#clear Acquire::IndexTargets::deb::DEP-11-icons;
		#clear Acquire::IndexTargets::deb::DEP-11-icons-small;
		#clear Acquire::IndexTargets::deb::DEP-11-icons-large;
	END
	[ $# -eq 0 ] || cat >>"$work/apt.conf" <<-END
		APT::Architecture "$1";
		#clear APT::Architectures;
		Dir::State::status "/dev/null";
	END
}

private_apt()
{
	apt-get -c "$work/apt.conf" -q -y "$@"
}

# find_mirror SUITE: leaves the mirror that has it in sources.list, and its lists in $work
find_mirror()
{
	local suites=$1 suite uri tried=

	while read -r uri; do
		tried=1
		for suite in $suites; do
			echo "$archive_type [signed-by=$keyring] $uri $suite main"
		done >"$work/sources.list"
		try_logged fetch-update private_apt update && return
		note "$uri has no usable $suites"
	done < <(mirrors)
	[ -n "$tried" ] || die "no Debian archive in this machine's apt sources; $instead"
	tail -n 5 "$logs/fetch-update.log" | sed 's/^/    | /' >&2
	die "$suites could not be reached through this machine's apt sources (the lines above are apt's); $instead"
}

open_archive()
{
	{ command -v apt-get && command -v dpkg-deb; } >/dev/null || die "this machine isn't Debian; $instead"
	[ -e "$keyring" ] || die "$keyring is missing (package debian-archive-keyring), so Debian's archive can't be verified; $instead"
	need_disk "$cache" 1
	work=$(mktemp -d "$cache/fetch.XXXXXX")
	at_exit "rm -rf '$work'"
	configure_apt "${@:2}"
	find_mirror "$1"
}

open_sources()
{
	archive_type="deb-src"
	open_archive "$1"
}

archive_versions()
{
	apt-cache -c "$work/apt.conf" madison "$1" | awk '{ print $3 }'
}

find_version()
{
	local there

	there=$(archive_versions "$1")
	version=$2
	! grep -qxF "$version" <<<"$there" || return 0
	[ -n "$there" ] || die "the mirror has no $1 any more; $instead"
	version=${there%%$'\n'*}
	[ -n "${ACCEPT_NEWER:-}" ] ||
		die "the mirror has $1 $version and no longer $2; $instead, or try the newer one with ACCEPT_NEWER=1"
}

# download PACKAGE COMMAND...: has apt do it
download()
{
	try_logged fetch-download private_apt "${@:2}" && return
	tail -n 5 "$logs/fetch-download.log" | sed 's/^/    | /' >&2
	die "$1 could not be downloaded (the lines above are apt's); try again, or $instead"
}

from_package()
{
	note "$1 $2"
	(cd "$work" && download "$1" download "$1=$2") || exit
	dpkg-deb --fsys-tarfile "$work/$1"_*.deb | tar -xO --wildcards "$3"
}

from_source()
{
	note "$1 $2, its sources"
	(cd "$work" && download "$1" source --download-only "$1=$2") || exit
	(cd "$work" && find . -maxdepth 1 -name "$3" -exec cat {} +)
}

unpack_only()
{
	note "$1 ${3:-}"
	(cd "$work" && download "$1" download "$1${3:+=$3}") || exit
	mkdir -p "$2"
	dpkg-deb -x "$work/$1"_*.deb "$2"
}

unpack_package()
{
	local deb

	note "$2 $3, and what it depends on"
	download "$2" install --download-only --no-install-recommends -t "$1" "$2=$3"
	mkdir -p "$4"
	for deb in "$work"/cache/archives/*.deb; do
		dpkg-deb -x "$deb" "$4"
	done
}
