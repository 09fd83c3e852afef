# SPDX-License-Identifier: Apache-2.0
"""Fails on a source file that clang-format 14 would change; other versions format otherwise."""
import re
import shutil
import subprocess
import sys

import tree

VERSION = 14
SKIPPED = 77


def clang_format():
    """clang-format of the version wanted, or None."""
    for program in (f"clang-format-{VERSION}", "clang-format"):
        if shutil.which(program):
            said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
            if re.search(rf"version {VERSION}\.", said):
                return program
    return None


def check(root):
    program = clang_format()
    if program is None:
        print(f"skipped: no clang-format {VERSION} here (Debian 12: apt-get install clang-format)")
        sys.exit(SKIPPED)
    names = [str(name) for name in tree.files(root, *tree.CODE)]
    if not names:
        return []
    run = subprocess.run([program, "--dry-run", "-Werror", *names], cwd=root, capture_output=True, text=True, check=False)
    found = re.findall(r"^(\S+?:\d+):\d+: error:", run.stderr, re.MULTILINE)
    first = {place.split(":")[0]: place for place in reversed(found)}
    if run.returncode and not first:
        return [run.stderr.strip()]
    return [f"{place}: not as clang-format would have it; run: {program} -i {name}" for name, place in sorted(first.items())]


if __name__ == "__main__":
    tree.main(check)
