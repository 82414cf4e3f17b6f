#!/usr/bin/env bash
# "make fuzz": files of journals that no program has written, each target for a minute; ARGS are libFuzzer's, such as
# ARGS='-max_total_time=300'. Needs no MPI, but a nightly compiler and cargo-fuzz. What is found is kept below fuzz/artifacts.
set -euo pipefail
# shellcheck source=scripts/mpi.sh
. "$(dirname "$0")/mpi.sh"

read -ra args <<<"${ARGS:--max_total_time=60}"
have cc || die "without a C compiler cargo cannot link any program"
cargo +nightly --version >/dev/null 2>&1 || die "fuzzing needs a nightly compiler: rustup toolchain install nightly"
cargo fuzz --version >/dev/null 2>&1 || die "fuzzing needs cargo-fuzz: cargo install cargo-fuzz"

unset CARGO_TARGET_DIR
for target in journal_file journal; do
    say "fuzz: $target ${args[*]}"
    cargo +nightly fuzz run "$target" -- "${args[@]}"
done
