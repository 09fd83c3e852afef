# SPDX-License-Identifier: Apache-2.0
"""What the checks share: the repository's files, and how a check reports.

A check is a function from the repository's root to a list of problems, each one
line that begins with the file and line. Its module is also a program, which
prints the problems and fails if there are any.
"""
import re
import subprocess
import sys
from pathlib import Path

IGNORED = {".git", ".deps", "build", "runs", "campaigns"}
CODE = (".cpp", ".hpp", ".cu")
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]')


def files(root, *suffixes):
    """Files that belong to the repository (git's opinion where there is a git), as paths below root."""
    git = ["git", "-C", str(root), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listing = subprocess.run(git, capture_output=True, text=True, check=False) if (root / ".git").exists() else None
    if listing and listing.returncode == 0:
        names = {Path(name) for name in listing.stdout.split("\0") if name}
    else:
        names = {path.relative_to(root) for path in root.rglob("*")}
    return sorted(
        name for name in names
        if (not suffixes or name.suffix in suffixes) and name.parts[0] not in IGNORED and (root / name).is_file())


def lines(root, name):
    """The numbered lines of a text file, from 1; none for a file that is not UTF-8 text."""
    try:
        return list(enumerate((root / name).read_text(encoding="utf-8").splitlines(), start=1))
    except UnicodeDecodeError:
        return []


def main(check):
    root = Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    problems = check(root)
    print("\n".join(problems) or "nothing found")
    sys.exit(1 if problems else 0)
