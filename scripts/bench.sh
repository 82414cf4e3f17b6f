#!/usr/bin/env bash
# "make bench": the benchmark `compare` with the arguments ARGS, on the ranks of an MPI (installed where there is none).
# The benchmark finds the examples in $CARGO_TARGET_DIR/release/examples and the launcher in $RANKFOLD_TEST_MPIRUN.
set -euo pipefail
# shellcheck source=scripts/mpi.sh
. "$(dirname "$0")/mpi.sh"

read -ra args <<<"${ARGS:-}"

provide cc libclang mpi || die "the benchmark measures MPI ranks: it needs an MPI"
use_mpi mpi
cargo build --release --examples
exec cargo bench --bench compare -- "${args[@]}"
