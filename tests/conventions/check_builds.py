# SPDX-License-Identifier: Apache-2.0
"""Fails where anything but lib/cli itself compiles a source of the command line.

What a test or a benchmark needs of it is a library's, or a target that lib/cli
defines.
"""
import re

import tree

OWNER = ("lib", "cli")
# CMake files that may; one that does not any more fails until it is taken out here.
EXCEPTIONS = set()

IN_CMAKE = re.compile(r"\blib/cli/")
INCLUDED_SOURCE = re.compile(r'^\s*#\s*include\s*[<"][^">]*\bcli/[^">]*\.cpp[">]')


def offences(root, name):
    """The numbered lines of a file that name a source of the command line to compile it."""
    for number, line in tree.lines(root, name):
        if name.suffix in tree.CODE:
            found = INCLUDED_SOURCE.match(line)
        else:
            found = IN_CMAKE.search(line.split("#")[0])
        if found:
            yield number


def check(root, exceptions=frozenset(EXCEPTIONS)):
    problems = []
    excused = set()
    for name in tree.files(root, *tree.CODE, ".txt", ".cmake"):
        is_build = name.name == "CMakeLists.txt" or name.suffix == ".cmake"
        if name.parts[:2] == OWNER or not (is_build or name.suffix in tree.CODE):
            continue
        found = list(offences(root, name))
        if str(name) in exceptions:
            excused.update([str(name)] if found else [])
            continue
        problems += [f"{name}:{number}: compiles a source of lib/cli; link a library, or a target of lib/cli" for number in found]
    problems += [f"{name}:1: compiles nothing of lib/cli any more; take it out of EXCEPTIONS"
                 for name in sorted(exceptions - excused) if (root / name).exists()]
    return problems


if __name__ == "__main__":
    tree.main(check)
