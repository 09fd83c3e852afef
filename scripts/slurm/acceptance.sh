#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#SBATCH --job-name=isobar-acceptance
#SBATCH --nodes=2
#SBATCH --time=00:30:00
#SBATCH --exclusive
# What isobar does on a machine: the pre-flight, collectives, a training step, the tests that want GPUs and the quick
# start, on two nodes in half an hour. Run from the repository's root, in a job:
#
#   sbatch --account A --partition P --gres=gpu:4 --cpus-per-task=8 scripts/slurm/acceptance.sh --cluster leonardo
#   salloc --nodes 2 --time 30 ... scripts/slurm/acceptance.sh --cluster leonardo --setup modules.sh
#
# --cpus-per-task is what each rank gets of the node's cores (binding.cpus_per_rank of isobar cluster show); without it
# Slurm gives it one.
#
#   --cluster NAME   the machine's profile
#   --build FOLDER   of the CMake build (build/cuda, else build/release)
#   --setup FILE     read first, for modules and variables
#   --ranks N        on each node (its GPUs, as Slurm says, else 4)
#   --out FOLDER     for page.md, results.json and logs (acceptance-NAME-JOB)
#
# ISOBAR_SRUN holds further options of srun, such as "--mpi=pmix --cpu-bind=cores". A step that fails or takes too long is
# in the page, and the others go on; the exit code is then 1.
set -euo pipefail

die() {
  echo "acceptance: $*" >&2
  exit 2
}

cluster=
build=
setup=
ranks=${SLURM_GPUS_ON_NODE:-4}
out=
while [[ $# -gt 0 ]]; do
  case $1 in
    --cluster) cluster=${2:?} ;;
    --build) build=${2:?} ;;
    --setup) setup=${2:?} ;;
    --ranks) ranks=${2:?} ;;
    --out) out=${2:?} ;;
    *) die "no option '$1'; the head of scripts/slurm/acceptance.sh has them" ;;
  esac
  shift 2
done
[[ -n $cluster ]] || die "--cluster NAME is missing"
[[ -n ${SLURM_JOB_ID:-} ]] || die "not in a job of Slurm's; start it with sbatch or in salloc"
[[ -e scripts/slurm/acceptance_page.py ]] || die "run it from the repository's root"
# shellcheck disable=SC1090
[[ -z $setup ]] || source "$setup"

[[ -n $build ]] || build=$([[ -x build/cuda/bin/isobar ]] && echo build/cuda || echo build/release)
isobar=$build/bin/isobar
[[ -x $isobar ]] || die "there is no $isobar; build it, or give --build"
out=${out:-acceptance-$cluster-$SLURM_JOB_ID}
nodes=${SLURM_JOB_NUM_NODES:-2}
mkdir -p "$out"
: >"$out/steps.tsv"
read -ra srun_options <<<"${ISOBAR_SRUN:-}"
export SRUN_CPUS_PER_TASK=${SRUN_CPUS_PER_TASK:-${SLURM_CPUS_PER_TASK:-}}
[[ -n $SRUN_CPUS_PER_TASK ]] || unset SRUN_CPUS_PER_TASK
export ISOBAR_CLUSTER=$cluster
failed=0

# step NAME LIMIT_S COMMAND...: one line of the page.
step() {
  local name=$1 limit_s=$2 begin=$SECONDS code=0
  shift 2
  echo "acceptance: $name"
  timeout --kill-after=10 "$limit_s" "$@" >"$out/$name.log" 2>&1 || code=$?
  printf '%s\t%s\t%s\t%s\n' "$name" "$code" "$((SECONDS - begin))" "$*" >>"$out/steps.tsv"
  [[ $code == 0 || $code == 77 ]] || failed=1
}

# on_nodes NAME LIMIT_S ARGUMENTS...: isobar on all nodes, a rank for each GPU.
on_nodes() {
  local name=$1 limit_s=$2
  shift 2
  step "$name" "$limit_s" srun --nodes="$nodes" --ntasks-per-node="$ranks" --kill-on-bad-exit=1 "${srun_options[@]}" \
    "$isobar" "$@"
}

bench() {
  local name=$1
  shift
  on_nodes "$name" 90 bench "$@" --json "$out/$name.json"
}

has_gpus() { srun --nodes=1 --ntasks=1 "${srun_options[@]}" "$isobar" doctor 2>/dev/null | grep -q "(CUDA)"; }

on_nodes binding 60 doctor --binding --json "$out/binding.json"
on_nodes preflight 120 doctor --cluster "$cluster" --folder "$out" --json "$out/preflight.json"

for backend in mpi gloo; do
  bench "allreduce-cpu-$backend" collective --op allreduce --bytes 64KiB..64MiBx4 --backend "$backend"
done
if has_gpus; then
  for op in allreduce reduce_scatter all_gather all_to_all; do
    bench "$op-nccl" collective --op "$op" --bytes 64KiB..256MiBx4 --backend nccl --device cuda
  done
  gnn=(step --model gnn --grid O96 --hidden 4 --channels 256 --layers 8 --device cuda)
  for precision in float32 bf16; do
    for sync in none ddp; do
      bench "gnn-$precision-$sync" "${gnn[@]}" --precision "$precision" --sync "$sync"
    done
  done
  step cuda-tests 300 srun --nodes=1 --ntasks=1 "${srun_options[@]}" \
    ctest --test-dir "$build" -L cuda --timeout 120 --output-on-failure
  on_nodes quickstart 240 train examples/experiments/quickstart.yaml device=cuda run.folder="$out/runs"
else
  bench gnn-cpu step --model gnn --grid O32 --hidden 3 --channels 64 --layers 4
  on_nodes quickstart 240 train examples/experiments/quickstart.yaml run.folder="$out/runs"
fi

python3 scripts/slurm/acceptance_page.py "$out" --cluster "$cluster" --nodes "$nodes" --ranks "$ranks"
echo "acceptance: $out/page.md"
exit "$failed"
