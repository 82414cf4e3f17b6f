#!/usr/bin/env bash
# "make run": the example montecarlo_pi on NP ranks (4) with the arguments ARGS. Installs an MPI where there is none;
# where that is impossible the ranks are threads of one process, and the program and its result are the same.
set -euo pipefail
# shellcheck source=scripts/mpi.sh
. "$(dirname "$0")/mpi.sh"

ranks=${NP:-4}
read -ra args <<<"${ARGS:-}"

if provide cc libclang mpi; then
    use_mpi mpi
    cargo build --release --example montecarlo_pi
    exec "${mpirun[@]}" -n "$ranks" "$CARGO_TARGET_DIR/release/examples/montecarlo_pi" "${args[@]}"
fi

have cc || die "and without a C compiler cargo cannot link any program"
say "without MPI: $ranks ranks as threads of one process"
export RANKFOLD_RANKS=$ranks
exec cargo run --release --no-default-features --example montecarlo_pi -- "${args[@]}"
