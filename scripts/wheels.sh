# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Wheels into a folder, for scripts/setup and scripts/check_stacks. Sourced, after common.sh.

# The wheels' platform tags that this machine's C library can load, for pip.
platform_tags() {
  local version
  for version in 5 12 17 18 24 25 27 28; do echo "--platform=manylinux_2_${version}_$(uname -m)"; done
  for version in 1 2010 2014; do echo "--platform=manylinux${version}_$(uname -m)"; done
}

# pip_install FOLDER REQUIREMENTS OPTION...
pip_install() {
  local folder=$1 requirements=$2
  shift 2
  TMPDIR="$folder" PIP_USER=0 PIP_DEFAULT_TIMEOUT="${PIP_DEFAULT_TIMEOUT:-60}" \
    python3 -m pip install --target "$folder/wheels" --requirement "$requirements" --require-hashes --no-deps \
    --no-compile --retries 8 --disable-pip-version-check --no-input --root-user-action ignore --quiet "$@"
}

# fetch FOLDER REQUIREMENTS: the wheels are those for Python 3.11, whatever Python runs here: of LibTorch only the C++
# headers and libraries are used, but by the baselines, which Debian 12's Python 3.11 runs. What there is as source
# alone, which is Python, is in REQUIREMENTS-source.txt.
fetch() {
  local folder=$1 source=${2%.txt}-source.txt tags
  mapfile -t tags < <(platform_tags)
  pip_install "$folder" "$2" --only-binary :all: --implementation cp --python-version 3.11 "${tags[@]}"
  [[ -e $source ]] || return 0
  rm -rf "$folder/wheels/bin"  # pip will not replace it, and nobody starts what is in it
  PYTHONPATH="$folder/wheels" PYTHONDONTWRITEBYTECODE=1 \
    pip_install "$folder" "$source" --no-binary :all: --no-build-isolation --use-pep517 --no-cache-dir
}

# install_wheels FOLDER FILE REQUIREMENTS...: complete, which FILE shows, or not at all. The last of the requirements is
# installed; all make its stamp.
install_wheels() {
  local folder=$1 needed=$2 stamp partial
  shift 2
  stamp=$(cat "$@" | sha256sum)
  if [[ -f $folder/.requirements && $(<"$folder/.requirements") == "$stamp" ]]; then
    return
  fi
  partial=$(mktemp -d "$PWD/.deps/partial.XXXXXX")
  # shellcheck disable=SC2064
  trap "rm -rf '$partial'" EXIT
  timed "Wheels into $folder" fetch "$partial" "${*: -1}"
  [[ -e $partial/wheels/$needed ]] || die "the wheels hold no $needed"
  echo "$stamp" >"$partial/wheels/.requirements"
  rm -rf "$folder"
  mv "$partial/wheels" "$folder"
  rm -rf "$partial"
}
