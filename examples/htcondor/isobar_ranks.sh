#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The executable of a parallel-universe job: HTCondor starts it once on each machine. All open a way in for the first,
# which then starts COMMAND with mpirun, so many ranks on each machine.
#
#   isobar_ranks.sh RANKS_PER_MACHINE COMMAND...
set -euo pipefail
ranks=$1
shift

libexec=$(condor_config_val LIBEXEC)
# HTCondor's own: starts an sshd for this job alone, and tells the first machine's sandbox how to reach it. It counts on
# unset variables and on commands that fail.
set +eu
# shellcheck source=/dev/null
source "$libexec/sshd.sh" "$_CONDOR_PROCNO" "$_CONDOR_NPROCS"
set -eu

if [[ $_CONDOR_PROCNO -ne 0 ]]; then
  wait  # until the job ends
  sshd_cleanup
  exit 0
fi

# A line a machine: its number, the name that condor_ssh takes, and more.
export CONDOR_CONTACT_FILE=$_CONDOR_SCRATCH_DIR/contact
hosts=$_CONDOR_SCRATCH_DIR/hosts
sort -n -k 1 "$CONDOR_CONTACT_FILE" | awk -v ranks="$ranks" '{print $2, "slots=" ranks}' >"$hosts"
lines=$(wc -l <"$hosts")
if [[ $lines -ne $_CONDOR_NPROCS ]]; then
  echo "isobar_ranks.sh: $lines of $_CONDOR_NPROCS machines have answered; ask for them again" >&2
  exit 1
fi

# condor_ssh knows a machine by the name in the list alone, which Open MPI would cut at the first dot.
code=0
mpirun --mca plm_rsh_agent "$libexec/condor_ssh" --mca orte_keep_fqdn_hostnames 1 --hostfile "$hosts" \
  -n $((ranks * _CONDOR_NPROCS)) "$@" || code=$?
sshd_cleanup
exit "$code"
