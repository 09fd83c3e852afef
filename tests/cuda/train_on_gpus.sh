#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Trains the quick start's network on two ranks with GPUs over one backend, after a check of the backend's collectives.
# Where there is one GPU the ranks share it: NCCL then wants to believe that they are on two nodes.
#
#   ISOBAR_PROGRAM=build/cuda/bin/isobar tests/cuda/train_on_gpus.sh auto|nccl|gloo|mpi|shm
set -euo pipefail
backend=$1
cd "$(dirname "$0")/../.."

if "$ISOBAR_PROGRAM" doctor | grep -q "none usable"; then
  echo "skipped: no GPU is usable here"
  exit 77
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_btl_vader_single_copy_mechanism=none
export NCCL_NET=Socket NCCL_IB_DISABLE=1 NCCL_SOCKET_IFNAME=lo

# on_ranks ARGUMENTS...: isobar on two ranks.
on_ranks() {
  # shellcheck disable=SC2016
  mpirun -n 2 bash -c 'NCCL_HOSTID=isobar-test-$OMPI_COMM_WORLD_RANK exec "$@"' rank "$ISOBAR_PROGRAM" "$@"
}

for op in allreduce all_to_all broadcast send_receive; do
  on_ranks bench collective --op "$op" --bytes 4KiB,1MiB --device cuda --backend "$backend" --repeats 5 --stream-seconds 0
done
on_ranks train examples/experiments/quickstart.yaml device=cuda comm.backend="$backend" run.folder="$folder" \
  train.steps=4 train.log_every=2 train.validate_every=2 optimizer.warmup_steps=1 train.refit=false \
  data.validation.begin=2019-03-24 data.train.end=2019-03-24
