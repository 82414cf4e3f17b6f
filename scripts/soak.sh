#!/usr/bin/env bash
# "make soak": first, where there are an MPI and 16 GiB of memory, messages and files of more bytes than MPI's counts can
# tell; then faulty runs of the scheduler on simulated machines, on all cores, until Ctrl-C. The first seed comes from the
# clock, so that every soak sees runs that none has seen; ARGS='--from SEED' chooses another. Needs no MPI.
# Seeds that fail are added to failing-seeds.txt; `rankfold simulate --faults --seed SEED` repeats one.
set -euo pipefail
# shellcheck source=scripts/mpi.sh
. "$(dirname "$0")/mpi.sh"

read -ra args <<<"${ARGS:-}"
# A soak of days is not disturbed by builds that go on beside it.
export CARGO_TARGET_DIR=$asked_target/soak
# Microseconds since 1970: later soaks begin beyond what earlier ones have come to.
seed=$(date +%s)000000
case " ${args[*]} " in
    *" --from"*) ;;
    *) args=(--from "$seed" "${args[@]}") ;;
esac

have cc || die "without a C compiler cargo cannot link any program"
huge() (
    asked_target=$CARGO_TARGET_DIR
    use_mpi mpi
    cargo build --release --example test-spmd
    RANKFOLD_TEST_BIG=1 cargo test --release --test mpi huge:: -- --nocapture
)
if [ -z "$(missing_of libclang mpi)" ]; then
    huge
else
    say "NOT TESTED: more bytes than MPI can count, for want of $(missing_of libclang mpi | paste -sd' ')"
fi

say "soak: ${args[*]}"
cargo build --release --no-default-features --features cli --bin rankfold
exec "$CARGO_TARGET_DIR/release/rankfold" simulate --faults --soak "${args[@]}"
