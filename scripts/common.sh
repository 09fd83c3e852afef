# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the scripts share. Sourced; the working folder is the repository's root afterwards.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

# Paths below the repository count as relative: a fresh clone finds what another one has compiled.
export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1
# What ccache wants to be allowed for headers that are kept precompiled.
export CCACHE_SLOPPINESS=pch_defines,time_macros

say() { printf '== %s\n' "$*"; }

die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

# The comment at the top of a script, from its third line on, is its help.
show_help() { sed -n '3,/^[^#]/s/^# \{0,1\}//p' "$0"; }

# timed WHAT COMMAND...: runs the command and says how long it took.
timed() {
  local what=$1 start=$SECONDS
  shift
  say "$what ..."
  "$@"
  say "$what: $((SECONDS - start)) s"
}

# quietly LOG COMMAND...: what the command prints goes to LOG, and is shown if it fails.
quietly() {
  local log=$1
  shift
  "$@" >"$log" 2>&1 || {
    tail -n 20 "$log" >&2
    die "$1 failed; all it said is in $log"
  }
}

# How many compilers fit beside each other: one takes up to 2 GiB with LibTorch's headers.
compile_jobs() {
  local cores memory
  # Asked with OMP_NUM_THREADS set, nproc answers with that.
  cores=$(env -u OMP_NUM_THREADS nproc)
  memory=$(awk '/^MemAvailable/ {print int($2 / 2097152)}' /proc/meminfo)
  echo $((memory < 1 ? 1 : memory < cores ? memory : cores))
}

# build PRESET [TARGET...]: configures and builds in build/PRESET.
build() {
  local preset=$1
  shift
  timed "Configure ($preset)" cmake --preset "$preset" \
    ${ISOBAR_TORCH_DIR:+"-DISOBAR_TORCH_DIR=$ISOBAR_TORCH_DIR"}
  timed "Build ($preset)" cmake --build "build/$preset" \
    --parallel "${CMAKE_BUILD_PARALLEL_LEVEL:-$(compile_jobs)}" ${1:+--target "$@"}
}
