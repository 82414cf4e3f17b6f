#!/usr/bin/env bash
# Installs what a fresh machine lacks, with the machine's own package manager. Sourced by mpi.sh.
#
# What can be asked for:
#   cc              a C compiler: cargo links with it
#   openmpi, mpich  an MPI with headers and mpirun; plain mpi: any, and Open MPI where there is none
#   libclang        reads mpi.h while the crate `mpi` is built
#   slurm           slurmctld, slurmd and munge, for a cluster of the tests' own
set -euo pipefail

say() { printf 'rankfold: %s\n' "$*" >&2; }
die() { say "$@" && exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

package_manager() {
    local manager
    for manager in apt-get dnf zypper pacman apk; do
        if have "$manager"; then echo "$manager" && return; fi
    done
    return 1
}

# The packages of one thing. Debian's bare libclang spares the 0.5 GB that libclang-dev brings along.
packages() { # manager, thing
    case $1:$2 in
        *:mpi) packages "$1" openmpi ;;
        apt-get:cc) echo gcc libc6-dev ;;
        apt-get:openmpi) echo libopenmpi-dev openmpi-bin ;;
        apt-get:mpich) echo libmpich-dev mpich ;;
        apt-get:libclang) apt_libclang ;;
        apt-get:slurm) echo slurm-wlm munge ;;
        dnf:libclang) echo clang-libs ;;
        zypper:openmpi) echo openmpi4-devel ;;
        zypper:libclang) echo libclang13 ;;
        pacman:openmpi | pacman:mpich) echo "$2" ;;
        pacman:libclang) echo clang ;;
        apk:cc) echo gcc musl-dev ;;
        apk:openmpi | apk:mpich) echo "$2" "$2-dev" ;;
        apk:libclang) echo clang-dev ;;
        *:cc) echo gcc ;;
        *) echo "$2-devel" ;;
    esac
}

# Each release of Debian and Ubuntu has a libclang version of its own: the one libclang-dev stands for.
apt_libclang() {
    local version
    version=$(apt-cache depends libclang-dev 2>/dev/null | sed -n 's/.*Depends: libclang-\([0-9]*\)-dev.*/\1/p')
    if [ -n "$version" ]; then echo "libclang1-$version" "libclang-common-$version-dev"; else echo libclang-dev; fi
}

# What makes a command run as root. A password is asked for at a terminal only, and only from members of an
# administrators' group: on a cluster, sudo reports everybody else.
root_prefix() {
    if [ "$(id -u)" = 0 ]; then
        echo env
    elif ! have sudo; then
        return 1
    elif sudo -n true 2>/dev/null; then
        echo sudo -n env
    elif [ -t 0 ] && id -nG | grep -qwE 'sudo|wheel|admin'; then
        echo sudo env
    else
        return 1
    fi
}

refresh() { # manager, root prefix...
    local manager=$1 && shift
    case $manager in
        apt-get) "$@" apt-get -qq -o DPkg::Lock::Timeout=120 update ;;
        pacman) "$@" pacman -Sy --noconfirm ;;
        *) ;;
    esac
}

install_one() { # manager, thing, root prefix...
    local manager=$1 thing=$2 names && shift 2
    read -ra names <<<"$(packages "$manager" "$thing")"
    say "installing $thing with $manager: ${names[*]}"
    case $manager in
        apt-get)
            "$@" DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 \
                install -y --no-install-recommends "${names[@]}" >/dev/null
            ;;
        dnf) "$@" dnf install -y "${names[@]}" ;;
        zypper) "$@" zypper --non-interactive install "${names[@]}" ;;
        pacman) "$@" pacman -S --noconfirm --needed "${names[@]}" ;;
        apk) "$@" apk add "${names[@]}" ;;
    esac
}

# Installs things one by one, so that one missing package does not take the others with it. What the package manager
# prints goes to stderr: stdout is the program's own.
install_things() { # things...
    local manager prefix thing failed=0
    if [ -n "${RANKFOLD_NO_INSTALL:-}" ]; then
        say "not installing anything: RANKFOLD_NO_INSTALL is set" && return 1
    elif ! manager=$(package_manager); then
        say "cannot install anything: no package manager that this script knows" && return 1
    elif ! prefix=$(root_prefix); then
        say "cannot install anything: not root, and no sudo without a password" && return 1
    fi
    # shellcheck disable=SC2086  # the prefix is several words
    refresh "$manager" $prefix >&2 || say "$manager could not refresh its package lists, trying all the same"
    for thing; do
        # shellcheck disable=SC2086
        install_one "$manager" "$thing" $prefix >&2 || failed=1
    done
    return "$failed"
}

# What a person can do where install_things could not.
remedy() { # things...
    local manager thing names=()
    say "missing: $*"
    if manager=$(package_manager); then
        for thing; do names+=("$(packages "$manager" "$thing")"); done
        say "  as root:       $(install_command "$manager") ${names[*]}"
    else
        say "  as root:       install a C compiler, Open MPI or MPICH with its headers, and libclang"
    fi
    say "  on a cluster:  module load openmpi; python3 -m pip install --target target/libclang libclang"
}

install_command() { # manager
    case $1 in
        zypper | dnf) echo "$1 install" ;;
        apt-get) echo "apt-get update && apt-get install --no-install-recommends" ;;
        pacman) echo "pacman -S" ;;
        apk) echo "apk add" ;;
    esac
}
