# deps: installs what building and testing needs (packages, and libraft >= 0.22)
#
# usage: ./dev deps [GROUP...]
#
# Groups: build, raft, test (the default is these three), lint, fuzz, model, jepsen, bench. scripts/packages.txt lists
# their packages, docs/DEPENDENCIES.md says why each is there. As root, missing packages are installed with apt-get;
# otherwise the command to run is printed and nothing is changed.
#
# libraft must be 0.22 or newer. An installed one is used. Where the distribution's is older, Debian's newer source
# package is fetched with apt (from the archive and with the keyring that this machine is configured with) and built into
# $LOCKSTEP_DEPS, by default ~/.cache/lockstep: once as packaged (raft), once with its assertions on (raft-assert), which
# unit tests, the simulator and the sanitizer builds use.

# shellcheck source=/dev/null
. "$ROOT/scripts/raft.sh"

packages_of() { # GROUP
    awk -F ' *[|] *' -v g="$1" '$1 == g { print $2 }' "$ROOT/scripts/packages.txt"
}

package_installed() { # PACKAGE
    local pattern=$1
    case $1 in
    pkg-config) command -v pkg-config >/dev/null && return ;;
    golang-go) command -v go >/dev/null && return ;; # from wherever
    libclang-rt-dev) pattern='libclang-rt*-dev' ;; # any compiler version's will do
    esac
    dpkg-query -W -f '${db:Status-Status}\n' "$pattern" 2>/dev/null | grep -qx installed
}

# Servers that only tests use must not be started by the installation of their packages. Undone by `services_release`.
services_hold() {
    [ -e /usr/sbin/policy-rc.d ] || ! [ -d /run/systemd/system ] && return
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod +x /usr/sbin/policy-rc.d
    SERVICES_HELD=1
}

services_release() {
    [ -n "${SERVICES_HELD:-}" ] && rm -f /usr/sbin/policy-rc.d
    SERVICES_HELD=
}

apt_install() { # LOG PACKAGE...
    local log=$1 status=0
    shift
    services_hold
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends -o DPkg::Lock::Timeout=300 "$@" \
        >"$log" 2>&1 || status=$?
    services_release
    return $status
}

install_packages() { # PACKAGE...
    local package log missing=()
    for package in "$@"; do
        package_installed "$package" || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    command -v apt-get >/dev/null || die "no apt-get here. Install what corresponds to: ${missing[*]}"
    if [ "$(id -u)" -ne 0 ]; then
        die "packages are missing; as root, run:  apt-get install --no-install-recommends ${missing[*]}"
    fi
    trap services_release EXIT
    log=$(mktemp)
    say "installing with apt-get: ${missing[*]}"
    if ! apt_install "$log" "${missing[@]}"; then
        say "apt-get update (package lists are missing or old)"
        apt-get update -q >"$log" 2>&1 || { cat "$log" >&2; die "apt-get update failed"; }
        apt_install "$log" "${missing[@]}" || { cat "$log" >&2; die "apt-get install failed"; }
    fi
    rm -f "$log"
    trap - EXIT
}

dev_deps() {
    local group packages=() groups=("$@") known
    [ $# -eq 0 ] && groups=(build raft test)
    known=$(awk -F ' *[|] *' '!/^#/ { print $1 }' "$ROOT/scripts/packages.txt" | sort -u)
    for group in "${groups[@]}"; do
        grep -qxF -- "$group" <<<"$known" || die "no group '$group'; there are: ${known//$'\n'/ }"
        [ "$group" = raft ] && raft_ready && continue
        # shellcheck disable=SC2207
        packages+=($(packages_of "$group"))
    done
    install_packages "${packages[@]}"
    for group in "${groups[@]}"; do
        [ "$group" = raft ] && deps_raft
    done
    return 0
}
