#!/usr/bin/env bash
# "make test": everything that can be checked here. Format; then lints, documentation, tests and documentation tests
# for each of three feature sets: without MPI, with Open MPI, with MPICH; the latter two on a Slurm cluster of the tests' own
# as well. Stops at the first failure.
# What is missing is installed; what cannot be is named at the end, and in CI (CI=true) that is a failure, too.
set -euo pipefail
# shellcheck source=scripts/mpi.sh
. "$(dirname "$0")/mpi.sh"

# Nothing is built twice in CI, and what an incremental build keeps is several times the size of what it makes.
if [ "${CI:-false}" != false ]; then export CARGO_INCREMENTAL=0; fi

summary=()    # one line per feature set
not_tested=() # what could not be checked here

step() { printf '== %s\n' "$*"; }
skip() { not_tested+=("$1") && step "$1: skipped, $2"; }

ended() { [ "$1" = 0 ] || step "FAILED (exit code $1)"; }
trap 'ended $?' EXIT

format() {
    if ! cargo fmt --version >/dev/null 2>&1; then
        skip format "for want of rustfmt (rustup component add rustfmt)" && return
    fi
    step format
    cargo fmt --check
}

lints() { # name, cargo flags...
    local name=$1 && shift
    if ! cargo clippy --version >/dev/null 2>&1; then
        skip "$name: lints" "for want of clippy (rustup component add clippy)" && return
    fi
    step "$name: lints"
    cargo clippy --all-targets "$@" -- -D warnings
}

documentation() { # name, cargo flags...
    local name=$1 && shift
    step "$name: documentation"
    RUSTDOCFLAGS="-D warnings" cargo doc --document-private-items --no-deps "$@"
}

# The MPI tests launch the examples as they are, which have to be built whichever targets a test run selects.
tests() { # name, cargo flags...
    local name=$1 && shift
    step "$name: tests"
    cargo build --examples "$@"
    if cargo nextest --version >/dev/null 2>&1; then
        cargo nextest run "$@"
    else
        one_binary_after_another "$@"
    fi
    step "$name: documentation tests"
    cargo test --doc "$@"
}

# Without nextest, what .config/nextest.toml says of it: one test at a time where each starts several ranks.
one_binary_after_another() { # cargo flags...
    local file binary threads
    cargo test --lib --bins --examples "$@"
    for file in tests/*.rs; do
        binary=$(basename "$file" .rs)
        case $binary in mpi* | slurm) threads=1 ;; *) threads=$(nproc) ;; esac
        RUST_TEST_THREADS=$threads cargo test --test "$binary" "$@"
    done
}

feature_set() { # name, cargo flags...
    lints "$@"
    documentation "$@"
    tests "$@"
    summary+=("$1: passed")
}

without_mpi() {
    unset RANKFOLD_TEST_MPI RANKFOLD_TEST_MPIRUN
    export CARGO_TARGET_DIR=$asked_target
    feature_set "without MPI" --no-default-features --features cli
}

with_mpi() { # openmpi or mpich
    if ! present libclang || ! present "$1"; then
        skip "$1" "it is not installed (see above)"
        summary+=("$1: NOT TESTED")
        return
    fi
    use_mpi "$1"
    feature_set "$mpi_name"
}

licences() {
    if [ -e deny.toml ] && have cargo-deny; then
        step "dependencies: licences and advisories"
        cargo deny check
    else
        step "dependencies: not checked (that needs cargo-deny and a deny.toml)"
    fi
}

finish() {
    step summary
    printf '   %s\n' "${summary[@]}"
    if [ ${#not_tested[@]} = 0 ]; then step "everything passed" && return; fi
    step "passed, but NOT TESTED: $(printf '%s; ' "${not_tested[@]}" | sed 's/; $//')"
    [ "${CI:-false}" = false ] || die "in CI everything has to be tested"
}

provide cc libclang openmpi mpich || true
provide slurm || skip "jobs under Slurm" "for want of slurmctld, slurmd and munged"
if present slurm; then export RANKFOLD_TEST_SLURM=1; fi
have cc || die "without a C compiler cargo cannot link any program"
format
without_mpi
with_mpi openmpi
with_mpi mpich
licences
finish
