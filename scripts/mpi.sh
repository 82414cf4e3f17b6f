#!/usr/bin/env bash
# Finds an MPI, or installs one, and sets the environment that builds and launches with it.
# Sourced by run.sh, test.sh, bench.sh and soak.sh. Called by itself it prints that environment, for cargo by hand:
#
#   eval "$(bash scripts/mpi.sh)" && cargo test
set -euo pipefail
# shellcheck source=scripts/packages.sh
. "$(dirname "${BASH_SOURCE[0]}")/packages.sh"

cd "$(dirname "${BASH_SOURCE[0]}")/.."
have cargo || die "cargo is missing: install Rust from https://rustup.rs"

# What the caller asked for: use_mpi may be called for several MPIs, one after the other.
asked_mpicc=${MPICC:-}
asked_target=${CARGO_TARGET_DIR:-$PWD/target}
asked_library_path=${LD_LIBRARY_PATH:-}

# --- finding -------------------------------------------------------------------------------------------------------

# Compiler wrappers, best first. Fedora and openSUSE keep theirs off the PATH until a module is loaded. An MPICC that
# was asked for is never silently replaced by another one.
mpicc_candidates() { # openmpi, mpich or mpi (any)
    if [ -n "$asked_mpicc" ]; then
        command -v "$asked_mpicc" || die "MPICC=$asked_mpicc: no such program"
        [ "$1" != mpi ] || return 0
    fi
    command -v mpicc mpicc.openmpi mpicc.mpich || true
    compgen -G '/usr/lib64/*mpi*/bin/mpicc' || true
    compgen -G '/usr/lib64/mpi/gcc/*/bin/mpicc' || true
}

# "mpicc: Open MPI 4.1.4 (Language: C)" or "mpicc for MPICH version 4.0.2"; MPICH's descendants answer as MPICH does.
banner_of() { # mpicc
    "$1" --showme:version 2>/dev/null || "$1" -v 2>&1 | sed -n 1p
}

kind_of() { # mpicc
    case $(banner_of "$1") in
        *"Open MPI"*) echo openmpi ;;
        *) echo mpich ;;
    esac
}

version_of() { # mpicc
    if [[ $(banner_of "$1") =~ [0-9]+(\.[0-9]+)+ ]]; then echo "${BASH_REMATCH[0]}"; else echo unknown; fi
}

# The mpirun that belongs to a mpicc: the wrong one starts n programs that each believe they are alone. Debian's plain
# names can point to different MPIs, so the full name comes first.
mpirun_of() { # mpicc
    local bin name
    bin=$(dirname "$1")
    for name in "mpirun.$(kind_of "$1")" mpirun mpiexec; do
        if [ -x "$bin/$name" ]; then echo "$bin/$name" && return; fi
    done
    return 1
}

# A wrapper alone is no MPI: Debian's openmpi-bin has one without mpi.h.
usable() { # mpicc
    "$1" -E -x c - 2>/dev/null <<<'#include <mpi.h>' | grep MPI_Init >/dev/null && mpirun_of "$1" >/dev/null
}

find_mpicc() { # openmpi, mpich or mpi (any)
    local mpicc
    while read -r mpicc; do
        [ "$1" = mpi ] || [ "$1" = "$(kind_of "$mpicc")" ] || continue
        if usable "$mpicc"; then echo "$mpicc" && return; fi
    done < <(mpicc_candidates "$1")
    return 1
}

# Where bindgen looks by itself, or where pip has put it. A LIBCLANG_PATH of the caller's is believed.
find_libclang() {
    local folders folder pip
    [ -z "${LIBCLANG_PATH:-}" ] || return 0
    IFS=: read -ra folders <<<"$asked_library_path"
    if have llvm-config; then folders+=("$(llvm-config --libdir)"); fi
    folders+=('/usr/lib*' '/usr/lib*/*' '/usr/lib*/*/*' '/usr/local/lib*' '/usr/local/lib*/*' '/usr/local/llvm*/lib*')
    for folder in "${folders[@]}"; do
        # libclang.so.13, libclang-14.so.1, but not libclang-cpp.so
        if compgen -G "$folder/libclang[.-][s0-9]*" >/dev/null; then return 0; fi
    done
    for pip in "$PWD/target/libclang/clang" "$(python3 -c 'import clang; print(clang.__path__[0])' 2>/dev/null)"; do
        if [ -e "$pip/native/libclang.so" ]; then export LIBCLANG_PATH=$pip/native && return; fi
    done
    return 1
}

present() { # thing
    case $1 in
        cc) have cc ;;
        libclang) find_libclang ;;
        slurm) PATH=$PATH:/usr/sbin have slurmctld && PATH=$PATH:/usr/sbin have slurmd && PATH=$PATH:/usr/sbin have munged ;;
        *) find_mpicc "$1" >/dev/null ;;
    esac
}

# --- providing -----------------------------------------------------------------------------------------------------

missing_of() { # things...
    local thing
    for thing; do
        present "$thing" || echo "$thing"
    done
}

# Installs those of the things that are missing. Fails, and says what a person can do, when one is missing still.
provide() { # things: cc, libclang, slurm, openmpi, mpich or mpi (any)
    local missing
    mapfile -t missing < <(missing_of "$@")
    [ ${#missing[@]} != 0 ] || return 0
    [ -z "$asked_mpicc" ] || [[ " ${missing[*]} " != *" mpi "* ]] ||
        die "MPICC=$asked_mpicc: it does not compile mpi.h, or there is no mpirun beside it"
    install_things "${missing[@]}" || true
    mapfile -t missing < <(missing_of "${missing[@]}")
    [ ${#missing[@]} != 0 ] || return 0
    remedy "${missing[@]}"
    return 1
}

# --- using ---------------------------------------------------------------------------------------------------------

# Sets the environment of one MPI, and the array mpirun: the launcher with the flags it needs on one machine.
use_mpi() { # openmpi, mpich or mpi (any)
    MPICC=$(find_mpicc "$1")
    RANKFOLD_TEST_MPI=$(kind_of "$MPICC")
    RANKFOLD_TEST_MPIRUN=$(mpirun_of "$MPICC")
    # A changed MPICC does not make cargo rebuild the crate `mpi`: each MPI has a target folder of its own.
    mpi_name=$RANKFOLD_TEST_MPI-$(version_of "$MPICC")
    CARGO_TARGET_DIR=${asked_target%"/$mpi_name"}/$mpi_name
    LD_LIBRARY_PATH=$(library_path_of "$MPICC")
    find_libclang # once more, in this shell: it may set LIBCLANG_PATH
    # The compiler's own headers (stddef.h), for a libclang that comes without.
    BINDGEN_EXTRA_CLANG_ARGS=${BINDGEN_EXTRA_CLANG_ARGS:--idirafter $(cc -print-file-name=include)}
    export MPICC RANKFOLD_TEST_MPI RANKFOLD_TEST_MPIRUN CARGO_TARGET_DIR LD_LIBRARY_PATH BINDGEN_EXTRA_CLANG_ARGS
    mpirun=("$RANKFOLD_TEST_MPIRUN")
    [ "$RANKFOLD_TEST_MPI" = mpich ] || use_openmpi
    say "using $mpi_name: $MPICC and $RANKFOLD_TEST_MPIRUN"
}

# Open MPI refuses more ranks than cores, binds few ranks to one core each (which leaves rayon one thread), and refuses
# to run as root, unless told otherwise.
use_openmpi() {
    mpirun+=(--oversubscribe --bind-to none)
    [ "$(id -u)" = 0 ] || return 0
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    export PRTE_ALLOW_RUN_AS_ROOT=1 PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1
}

# The crate `mpi` writes no rpath: a library outside the system's folders is found through LD_LIBRARY_PATH.
library_path_of() { # mpicc
    local path=$asked_library_path folder
    case $1 in /usr/bin/* | /bin/*) echo "$path" && return ;; esac
    for folder in $("$1" -show | tr ' ' '\n' | sed -n 's/^-L//p'); do
        path=$folder${path:+:$path}
    done
    echo "$path"
}

# Called by itself, not sourced: print the environment.
if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    provide cc libclang mpi
    use_mpi mpi
    set_here='MPICC|RANKFOLD_TEST_|CARGO_TARGET_DIR|LIBCLANG_PATH|LD_LIBRARY_PATH|BINDGEN_|OMPI_ALLOW|PRTE_ALLOW'
    export -p | grep -E "^declare -x ($set_here)"
fi
