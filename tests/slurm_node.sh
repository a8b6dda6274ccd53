#!/usr/bin/env bash
# A SLURM of one node on the loopback address, for tests: no systemd, nothing outside FOLDER.
#   tests/slurm_node.sh start FOLDER [CPUS]    prints the SLURM_CONF to use; FOLDER/bin goes to PATH
#   tests/slurm_node.sh stop FOLDER
# Needs root and the packages slurm-wlm and munge; says what is missing, and exits with 3.
set -euo pipefail
command=${1:?start or stop}
folder=${2:?a folder}
export SLURM_CONF=$folder/slurm.conf

stop() {
  scontrol shutdown >/dev/null 2>&1 || true
  for name in slurmd slurmctld munge/munged; do
    [ -f "$folder/$name.pid" ] && kill "$(cat "$folder/$name.pid")" 2>/dev/null || true
  done
}

if [ "$command" = stop ]; then
  stop
  exit
fi

if [ "$(id -u)" != 0 ]; then
  echo "a SLURM for tests needs root"
  exit 3
fi
for program in slurmctld slurmd munged setpriv; do
  if ! command -v "$program" >/dev/null; then
    echo "$program is missing: apt-get install --no-install-recommends slurm-wlm munge"
    exit 3
  fi
done

host=$(hostname -s)
mkdir -p "$folder/munge" "$folder/state" "$folder/spool"
chmod 755 "$folder" "$folder/munge"
head -c 1024 /dev/urandom >"$folder/munge/key"
chmod 400 "$folder/munge/key"
chown -R munge:munge "$folder/munge"
setpriv --reuid=munge --regid=munge --clear-groups munged \
  --socket="$folder/munge/socket" --key-file="$folder/munge/key" \
  --pid-file="$folder/munge/munged.pid" --log-file="$folder/munge/log" \
  --seed-file="$folder/munge/seed"

cat >"$SLURM_CONF" <<CONF
ClusterName=offrl
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmctldPort=16817
SlurmdPort=16818
AuthInfo=socket=$folder/munge/socket
CryptoType=crypto/munge
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,requeue_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
KillWait=30
OverTimeLimit=0
NodeName=$host NodeAddr=127.0.0.1 CPUs=${3:-2} RealMemory=4000 State=UNKNOWN
PartitionName=test Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF

# submitit learns from the accounting that a job was cancelled; ours has only the controller's memory
mkdir "$folder/bin"
cat >"$folder/bin/sacct" <<'SACCT'
#!/bin/sh
echo 'JobID|State|NodeList'
scontrol -o show jobs | awk '/JobId=/ {
  split("", v)
  for (i = 1; i <= NF; i++) { split($i, p, "="); v[p[1]] = substr($i, length(p[1]) + 2) }
  task = v["ArrayTaskId"]
  if (task ~ /[-,%]/) task = "[" task "]"
  id = v["ArrayJobId"] == "" ? v["JobId"] : v["ArrayJobId"] "_" task
  print id "|" v["JobState"] "|" v["NodeList"]
}'
SACCT
chmod 755 "$folder/bin/sacct"

slurmctld -c >&2 || { stop; echo "slurmctld does not start"; exit 3; }
slurmd >&2 || { stop; echo "slurmd does not start"; exit 3; }
for _ in $(seq 60); do
  if sinfo -h -o %T 2>/dev/null | grep -qx idle; then
    echo "$SLURM_CONF"
    exit
  fi
  sleep 0.5
done
stop
echo "the node does not become idle; see $folder/slurmctld.log"
exit 3
