# shellcheck shell=bash
# run_and_requeue DIR COMMAND...
#
# Runs a program that keeps its journal in DIR, under its launcher (mpirun or srun), and ends the job:
#
#   the program succeeds                  the job ends with code 0
#   it asks for another job (code 75)     the job is requeued, and goes on from the journal
#   it crashes (a rank dies by a signal)  the same
#   it fails (a wrong argument, a panic)  the job ends with the program's code: another try would fail the same way
#
# Under srun, a program that fails on some ranks looks as if it had crashed: the others are killed, and srun tells that. So
# the program leaves word in DIR/jobs, which counts before the code does.
#
# A job that was requeued RANKFOLD_TRIES times (default 3) without anything new in the journal gives up, with code 1; while
# it looks for an item that ends its rank (docs/journal.md), nine times more.
# SIGUSR1 and SIGTERM to the job's shell go on to the program, which then ends early and loses nothing.
#
# A job script sources this file; nothing else is needed.

run_and_requeue() {
    local dir=$1 launcher code signalled tries
    shift
    export RANKFOLD_JOURNAL=$dir RANKFOLD_FAILED=$dir/jobs/failed-$(job_id)
    # Some versions of srun do not take the cores of a rank from the job.
    [ -z "${SLURM_CPUS_PER_TASK:-}" ] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
    mkdir -p -m 700 "$dir/jobs" || exit 1
    rm -f "$RANKFOLD_FAILED"

    # In the background: bash runs traps only between commands, and `wait` ends early for one.
    "$@" &
    launcher=$!
    trap 'signalled=1; pass_on "$launcher" "$1"' USR1 TERM
    signalled=1
    while [ -n "$signalled" ]; do
        signalled= code=0
        wait "$launcher" || code=$?
    done
    trap : USR1 TERM

    if [ "$code" -eq 0 ] && { [ ! -e "$dir/run" ] || [ -e "$dir/sealed" ]; }; then
        exit 0
    elif [ "$code" -eq 0 ]; then
        # srun has been seen to hide that a step never started.
        echo "$(job_name): code 0, but the run is not through" >&2
        code=75
    fi
    if is_cancelled; then
        echo "$(job_name): cancelled; $dir keeps what is done" >&2
        exit "$code"
    elif has_left_word; then
        echo "$(job_name): the program failed: $(head -n 1 "$RANKFOLD_FAILED"); it is not tried again (code $code)" >&2
        if [ "$code" -gt 128 ]; then exit 1; else exit "$code"; fi
    elif ! is_worth_another_job "$code"; then
        echo "$(job_name): the program failed with code $code; it is not tried again" >&2
        exit "$code"
    elif ! has_gone_on "$dir"; then
        echo "$(job_name): nothing new in $dir in $tries jobs in a row, so it is not tried again (code $code)" >&2
        exit 1
    fi
    echo "$(job_name): code $code: the job is queued again and will go on from $dir"
    # Ends this job at once: there is nothing to do after it.
    scontrol requeue "$(job_id)" || { echo "$(job_name): cannot be requeued; submit it again to go on" >&2; exit "$code"; }
    # The scheduler's signal arrives in a moment; to end before it would look like a success or a failure.
    sleep 60
    exit "$code"
}

# A task of an array has a number of its own; the plain one may stand for all tasks.
job_id() { echo "${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}" | grep . || echo "$SLURM_JOB_ID"; }

# A job that was cancelled is on its way out, and must not come back. A controller that does not answer says nothing.
is_cancelled() {
    case $(squeue --noheader --jobs="$(job_id)" --format=%T 2>/dev/null | head -n 1) in
        CANCELLED | COMPLETING) return 0 ;;
        *) return 1 ;;
    esac
}

job_name() { echo "job ${SLURM_JOB_ID:-?} (restart ${SLURM_RESTART_COUNT:-0})"; }

# Listed first: a network file system may remember for a while that there is no such file, but reads folders anew.
has_left_word() { find "${RANKFOLD_FAILED%/*}" -name "${RANKFOLD_FAILED##*/}" -size +0 2>/dev/null | grep -q .; }

# To the ranks: mpirun passes SIGUSR1 on to them; srun does not, but Slurm reaches the tasks of a job's steps itself.
pass_on() {
    case ${2##*/} in
        srun*) scancel --signal=USR1 "$(job_id)" || true ;;
        *) kill -USR1 "$1" 2>/dev/null || true ;;
    esac
}

# 75 is the program's own word. A shell or launcher says 128 + N for a death by signal N; MPICH's mpirun says N itself.
is_worth_another_job() {
    case $1 in
        75) return 0 ;;
        4 | 6 | 7 | 8 | 9 | 11 | 15) return 0 ;;
        *) [ "$1" -gt 128 ] ;;
    esac
}

# Whether this job, or one of the few before it, has written anything new.
has_gone_on() {
    local now before=none limit=${RANKFOLD_TRIES:-3} record=$1/jobs/requeued
    tries=0
    # A search for the item that ends its rank may have nothing else to show for some jobs.
    [ -z "$(find "$1/calls" -name suspects -print -quit 2>/dev/null)" ] || limit=$((limit + 9))
    now=$(cd "$1" && find calls -type f ! -name '*.new' ! -name 'm[0-9]*' ! -name suspects -printf '%p %s\n' 2>/dev/null | sort | cksum)
    [ ! -f "$record" ] || { read -r tries && read -r before; } <"$record"
    if [ "$now" = "$before" ]; then tries=$((tries + 1)); else tries=0; fi
    printf '%s\n%s\n' "$tries" "$now" >"$record"
    [ "$tries" -lt "$limit" ]
}
