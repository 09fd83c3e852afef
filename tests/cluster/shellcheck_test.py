# SPDX-License-Identifier: Apache-2.0
"""shellcheck finds nothing in the scripts that isobar writes, nor in the repository's own. Skips (77) without it.

  shellcheck_test.py SCRIPTS    the folder that golden_test wrote
"""
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDERS = ("scripts", ".ci", "tests", "bench")
SHELLS = (b"#!/bin/bash", b"#!/bin/sh", b"#!/usr/bin/env bash")


def is_shell(path):
    with open(path, "rb") as file:
        return path.suffix == ".sh" or file.readline().startswith(SHELLS)


def shell_files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file() and is_shell(path))


def main(scripts):
    if not shutil.which("shellcheck"):
        print("skipped: no shellcheck here")
        return 77
    written = shell_files(scripts)
    own = [path for folder in FOLDERS for path in shell_files(ROOT / folder)]
    if not written or not own:
        print(f"found no scripts in {ROOT if written else scripts}")
        return 1
    # Followed are files that scripts name (source=), from where they lie.
    return subprocess.run(["shellcheck", "--external-sources", "--source-path=SCRIPTDIR", *written, *own],
                          check=False).returncode


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
