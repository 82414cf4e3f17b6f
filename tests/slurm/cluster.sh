#!/usr/bin/env bash
# A Slurm cluster of our own for tests: munge, a controller and some nodes, all on this machine's loopback, all below one
# folder. Needs no systemd and no rights but those to start processes (as root, nodes have host names of their own).
#
#   cluster.sh up DIR [NODES [CPUS]]     then `. DIR/env`
#   cluster.sh down DIR                  ends it, and all it started
#   cluster.sh kill DIR NODE             a node loses its power
#
# What ends: processes that were started here, by pid and start time, and those that carry the cluster's mark.
set -euo pipefail
export LC_ALL=C PATH=$PATH:/usr/sbin:/sbin

die() { echo "cluster.sh: $*" >&2; exit 1; }

# When a process began; a number that is used again has another. Nothing for one that is gone.
start_of() { sed -n 's/.*) \([^ZX]\) \(.*\)/\2/p' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f19; }

# Starts a daemon and writes down who it is.
launch() { # NAME COMMAND...
    local name=$1
    shift
    setsid "$@" </dev/null >>"$dir/log/$name" 2>&1 &
    disown
    echo "$name $! $(start_of $!)" >>"$dir/pids"
}

free_port() {
    local port
    for _ in $(seq 100); do
        port=$((20000 + RANDOM % 10000))
        if ! (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then echo "$port" && return; fi
    done
    die "no free port"
}

up() {
    local nodes=${1:-2} cpus=${2:-2} host port node ports= names=
    for command in munged slurmctld slurmd sinfo; do
        command -v "$command" >/dev/null || die "there is no $command (Debian: apt-get install slurm-wlm munge)"
    done
    [ ! -e "$dir/pids" ] || die "$dir is in use"
    [ -e /etc/hosts ] || die "there is no /etc/hosts, in which the names of this machine and its nodes have to be found"
    mkdir -p "$dir"/{log,state,munge}
    host=$(hostname -s)
    for ((node = 1; node <= nodes; node++)); do
        port=$(free_port)
        while [[ " $ports " == *" $port "* ]]; do port=$(free_port); done
        ports="$ports $port" names="$names n$node"
        mkdir -p "$dir/spool/n$node" "$dir/tmp/n$node"
    done
    configure "$host" "$cpus" "$ports"
    dd if=/dev/urandom of="$dir/munge/key" bs=128 count=1 status=none
    chmod 600 "$dir/munge/key"
    : >"$dir/pids"
    launch munge munged -F -S "$dir/munge/socket" --key-file="$dir/munge/key" --pid-file="$dir/munge/pid" \
        --log-file="$dir/log/munged" --seed-file="$dir/munge/seed"
    until [ -S "$dir/munge/socket" ]; do sleep 0.05; done
    start_controller
    for node in $names; do start_node "$node"; done
    await "$nodes"
}

configure() { # HOST CPUS PORTS
    local number=0 port
    {
        cat <<CONF
ClusterName=tests
SlurmctldHost=$1($(address "$1"))
SlurmctldPort=$(free_port)
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$dir/munge/socket,cred_expire=5
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation=$dir/state
SlurmctldPidFile=$dir/controller.pid
SlurmdPidFile=$dir/%n.pid
SlurmdSpoolDir=$dir/spool/%n
TmpFS=$dir/tmp/%n
SlurmctldLogFile=$dir/log/slurmctld
SlurmdLogFile=$dir/log/slurmd-%n
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
TaskProlog=$dir/prolog
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
JobRequeue=1
KillOnBadExit=1
KillWait=3
ReturnToService=2
SlurmdTimeout=10
MinJobAge=86400
PropagateResourceLimits=NONE
CONF
        for port in $3; do
            number=$((number + 1))
            echo "NodeName=n$number NodeHostname=$1 NodeAddr=$(address "$1") Port=$port CPUs=$2 State=UNKNOWN"
        done
        echo "PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP"
    } >"$dir/slurm.conf"
    # Version 2 of the plugin wants systemd, also where nothing uses it.
    echo "CgroupPlugin=cgroup/v1" >"$dir/cgroup.conf"
    # The default lets some ranks of Open MPI out of the last fence too early, and they die in MPI_Init.
    echo "PMIxCollFence=ring" >"$dir/mpi.conf"
    if has_namespaces; then touch "$dir/apart"; fi
    printf '#!/bin/sh\necho export RANKFOLD_TEST_CLUSTER=%s\n' "$dir" >"$dir/prolog"
    chmod 755 "$dir/prolog"
    {
        echo "127.0.0.1 localhost $(hostname) $1 $(seq -f 'n%g' -s ' ' "$number")"
        grep -v '^127\.' /etc/hosts || true
    } >"$dir/hosts"
    cat >"$dir/env" <<ENV
export SLURM_CONF=$dir/slurm.conf
export OMPI_MCA_btl_tcp_if_include=lo OMPI_MCA_oob_tcp_if_include=lo UCX_NET_DEVICES=lo
export OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_mpi_yield_when_idle=1
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
$(has_namespaces || echo "export OMPI_MCA_btl=self,tcp # nodes of one name would share files in memory")
ENV
}

has_namespaces() { [ "$(id -u)" = 0 ] && unshare --uts --mount true 2>/dev/null; }

start_node() {
    local command=(slurmd -D -N "$1" -f "$dir/slurm.conf")
    if has_namespaces; then
        launch "$1" unshare --uts --mount sh -c \
            "hostname $1 && mount --bind '$dir/hosts' /etc/hosts && exec \"\$@\"" node "${command[@]}"
    else
        launch "$1" "${command[@]}"
    fi
}

# Daemons listen on the address that the name of their machine stands for, which Debian makes 127.0.1.1 and others a
# network's. In name spaces of their own, it is 127.0.0.1.
address() { # HOST
    if has_namespaces; then echo 127.0.0.1 && return; fi
    getent ahostsv4 "$1" | { read -r address _ && echo "$address"; } || die "the name of this machine, $1, has no address"
}

start_controller() {
    local command=(slurmctld -D -f "$dir/slurm.conf")
    if has_namespaces; then
        launch controller unshare --mount sh -c \
            "mount --bind '$dir/hosts' /etc/hosts && exec \"\$@\"" controller "${command[@]}"
    else
        launch controller "${command[@]}"
    fi
}

# Until all nodes are there.
await() {
    local deadline=$((SECONDS + 60))
    # shellcheck disable=SC1091
    . "$dir/env"
    until [ "$(timeout 5 sinfo -h -N -o %T 2>/dev/null | grep -c '^idle$')" = "$1" ]; do
        if [ $SECONDS -gt $deadline ]; then
            tail -n 5 "$dir"/log/* >&2
            down
            die "the nodes did not come up"
        fi
        sleep 0.1
    done
}

# Whatever the jobs of this cluster have left: the steps' daemons have its logs open, the tasks carry its mark.
leftovers() {
    local process
    for process in /proc/[0-9]*; do
        if grep -qzxF "RANKFOLD_TEST_CLUSTER=$dir" "$process/environ" 2>/dev/null; then
            echo "${process#/proc/}"
        elif [[ $(readlink "$process/exe" 2>/dev/null) == */slurmstepd* ]] &&
            [ -n "$(find "$process/fd" -lname "$dir/log/*" 2>/dev/null)" ]; then
            echo "${process#/proc/}"
        fi
    done
}

down() {
    [ -e "$dir/pids" ] || return 0
    # shellcheck disable=SC1091
    . "$dir/env"
    timeout 5 scancel --user="$(id -un)" 2>/dev/null || true
    for _ in $(seq 50); do
        [ -n "$(timeout 5 squeue -h 2>/dev/null)" ] || break
        sleep 0.1
    done
    local signal name pid start
    for signal in TERM KILL; do
        while read -r name pid start; do
            if [ "$(start_of "$pid")" = "$start" ] && [ -n "$start" ]; then kill "-$signal" "$pid" 2>/dev/null || true; fi
        done <"$dir/pids"
        for pid in $(leftovers); do kill "-$signal" "$pid" 2>/dev/null || true; done
        sleep 0.5
    done
    rm -f "$dir/pids"
}

# Everything on a node dies at once, as far as the controller can tell.
kill_node() {
    local name pid start child
    while read -r name pid start; do
        [ "$name" = "$1" ] && [ "$(start_of "$pid")" = "$start" ] || continue
        for child in $(leftovers); do
            if [ "$(readlink "/proc/$child/ns/uts")" = "$(readlink "/proc/$pid/ns/uts")" ]; then kill -KILL "$child" || true; fi
        done
        kill -KILL "$pid"
    done <"$dir/pids"
}

[ $# -ge 2 ] || die "usage: cluster.sh up|down|kill DIR ..."
action=$1
mkdir -p "$2"
dir=$(cd "$2" && pwd -P)
shift 2
case $action in
    up) up "$@" ;;
    down) down ;;
    kill) kill_node "$1" ;;
    *) die "there is no $action" ;;
esac
