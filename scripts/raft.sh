# Finds or builds libraft (sourced by dev_deps.sh; see docs/DEPENDENCIES.md for why 0.15 will not do).

RAFT_MIN=0.22
RAFT_SUITE=trixie

version_at_least() { # VERSION MINIMUM
    [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

# The version that pkg-config sees: in PREFIX, or without one wherever it looks by itself. Empty when there is none.
raft_version() { # [PREFIX]
    command -v pkg-config >/dev/null || return 0
    if [ $# -gt 0 ]; then
        PKG_CONFIG_PATH='' PKG_CONFIG_LIBDIR="$1/lib/pkgconfig" pkg-config --modversion raft 2>/dev/null || true
    else
        pkg-config --modversion raft 2>/dev/null || true
    fi
}

raft_usable() { # [PREFIX]
    local version
    version=$(raft_version "$@" | tr -d ' ')
    [ -n "$version" ] && version_at_least "$version" "$RAFT_MIN"
}

raft_ready() {
    { raft_usable "$DEPS_ROOT/raft" || raft_usable; } && raft_usable "$DEPS_ROOT/raft-assert"
}

# The package archives that this machine is configured with, as "signed-by=KEYRING|URI" lines ("|URI" without a keyring).
archive_sources() {
    local file
    for file in /etc/apt/sources.list.d/*.sources; do
        if [ -e "$file" ]; then archives_deb822 <"$file"; fi
    done
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        if [ -e "$file" ]; then archives_lines <"$file"; fi
    done
}

archives_deb822() {
    awk '
        function flush(   n, list, i) {
            if (uris != "" && (" " components " ") ~ / main / && enabled != "no") {
                n = split(uris, list, " ")
                for (i = 1; i <= n; i++) print (signed == "" ? "" : "signed-by=" signed) "|" list[i]
            }
            uris = components = signed = enabled = ""
        }
        /^#/ { next }
        /^[ \t]*$/ { flush(); next }
        { key = tolower($0); sub(/:.*/, "", key); value = $0; sub(/^[^:]*:[ \t]*/, "", value) }
        key == "uris" { uris = value }
        key == "components" { components = value }
        key == "signed-by" && value ~ /^\// { signed = value }
        key == "enabled" { enabled = tolower(value) }
        END { flush() }
    '
}

archives_lines() {
    awk '
        $1 == "deb" || $1 == "deb-src" {
            signed = ""
            line = $0
            if (match(line, /\[[^]]*\]/)) {
                options = substr(line, RSTART + 1, RLENGTH - 2)
                line = substr(line, 1, RSTART - 1) substr(line, RSTART + RLENGTH)
                if (match(options, /signed-by=[^ ]+/)) signed = substr(options, RSTART, RLENGTH)
            }
            n = split(line, word, " ")
            for (i = 4; i <= n; i++)
                if (word[i] == "main") { print signed "|" word[2]; break }
        }
    '
}

# Downloads the source package into DIR with a private apt state; apt checks it against the archive's signature.
raft_fetch() { # DIR
    local dir=$1 options uri apt
    mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial" "$dir/none"
    apt=(apt-get -q -o "Dir::State::lists=$dir/lists" -o "Dir::Cache=$dir/cache" -o "Dir::Etc::sourcelist=$dir/raft.list"
        -o "Dir::Etc::sourceparts=$dir/none" -o Acquire::Languages=none)
    [ "$(id -u)" -eq 0 ] && apt+=(-o APT::Sandbox::User=root) # the directory is ours alone
    while IFS='|' read -r options uri; do
        printf 'deb-src %s %s %s main\n' "${options:+[$options]}" "$uri" "$RAFT_SUITE" >"$dir/raft.list"
        say "fetching the source package raft of $RAFT_SUITE from $uri"
        if "${apt[@]}" update >>"$dir/log" 2>&1 &&
            (cd "$dir" && "${apt[@]}" source --download-only raft) >>"$dir/log" 2>&1; then
            return 0
        fi
    done < <(archive_sources | awk '!seen[$0]++')
    tail -n 20 "$dir/log" >&2 || true
    die "no archive that this machine is configured with has the source package raft of $RAFT_SUITE. Install libraft >= \
$RAFT_MIN by hand, where pkg-config finds it, and run this again."
}

raft_unpack() { # DIR: leaves the sources in DIR/src
    local dir=$1 dsc version
    dsc=$(find "$dir" -maxdepth 1 -name 'raft_*.dsc' | sort -V | tail -n 1)
    [ -n "$dsc" ] || die "apt fetched no source package"
    version=$(sed -n 's/^Version: *//p' "$dsc" | tail -n 1)
    version_at_least "$version" "$RAFT_MIN" || die "the archive's raft is $version, >= $RAFT_MIN is needed"
    mkdir "$dir/src"
    tar -xf "$(find "$dir" -maxdepth 1 -name 'raft_*.orig.tar.*' ! -name '*.asc')" -C "$dir/src" --strip-components=1
    raft_patch "$dir"
}

# Debian's patches, if this version of the package has any.
raft_patch() { # DIR
    local dir=$1 patch
    mkdir "$dir/packaging"
    tar -xf "$(find "$dir" -maxdepth 1 -name 'raft_*.debian.tar.*')" -C "$dir/packaging"
    [ -e "$dir/packaging/debian/patches/series" ] || return 0
    while read -r patch _; do
        case $patch in '' | '#'*) continue ;; esac
        patch -s -p1 -d "$dir/src" <"$dir/packaging/debian/patches/$patch" || die "patch $patch does not apply"
    done <"$dir/packaging/debian/patches/series"
}

# Builds DIR/src as $DEPS_ROOT/NAME. The finished installation is moved there, so that one in use stays complete.
raft_build() { # DIR NAME CFLAGS
    local dir=$1 name=$2 flags=$3 target=$DEPS_ROOT/$2
    say "building libraft as $target (about ten seconds)"
    cp -a "$dir/src" "$dir/build-$name"
    (
        cd "$dir/build-$name"
        ./configure --prefix="$target" --disable-shared --enable-static --disable-lz4 CFLAGS="$flags" &&
            make -j"$(nproc)" &&
            make install DESTDIR="$dir/stage-$name"
    ) >>"$dir/log" 2>&1 || { tail -n 40 "$dir/log" >&2; die "building libraft failed"; }
    rm -rf "$target.old" "$target.new"
    mv "$dir/stage-$name$target" "$target.new"
    if [ -e "$target" ]; then mv "$target" "$target.old"; fi
    mv "$target.new" "$target"
    rm -rf "$target.old"
}

raft_packaged_candidate() {
    apt-cache policy libraft-dev 2>/dev/null | sed -n 's/^ *Candidate: \([0-9].*\)/\1/p'
}

deps_raft() {
    local dir candidate
    raft_ready && return 0
    mkdir -p "$DEPS_ROOT"
    exec 9>"$DEPS_ROOT/.lock"
    flock -n 9 || { say "waiting for another ./dev deps"; flock 9; }
    if raft_ready; then return 0; fi
    candidate=$(raft_packaged_candidate)
    if [ -n "$candidate" ] && version_at_least "$candidate" "$RAFT_MIN"; then install_packages libraft-dev; fi
    command -v apt-get >/dev/null || die "no apt-get here: install libraft >= $RAFT_MIN where pkg-config finds it"
    dir=$(mktemp -d)
    # shellcheck disable=SC2064
    trap "rm -rf '$dir'" EXIT
    raft_fetch "$dir"
    raft_unpack "$dir"
    (cd "$dir/src" && autoreconf -i) >>"$dir/log" 2>&1 || { tail -n 40 "$dir/log" >&2; die "autoreconf failed"; }
    raft_usable "$DEPS_ROOT/raft" || raft_usable || raft_build "$dir" raft "-O2 -g -DNDEBUG -fno-omit-frame-pointer"
    raft_usable "$DEPS_ROOT/raft-assert" || raft_build "$dir" raft-assert "-O1 -g -fno-omit-frame-pointer"
    raft_ready || die "libraft was built, but pkg-config does not find it in $DEPS_ROOT"
}
