# SPDX-License-Identifier: Apache-2.0
"""Fails on an include of another layer's private header.

A private header is one in lib/<layer>. It may be included by its layer's sources, by tests of the
layer, and by benchmarks of kernels, which time what no public call reaches alone. Programs of bench/
may include the command line's options that they share with it.
"""
import fnmatch

import tree

# Folders of tests whose name is not their layer's.
TESTED = {"cuda": "comm"}
# (who, of what), as patterns: includes that are on their way out. One that meets nothing any more fails until it is
# struck out here.
KNOWN = ()


def may_include(name, header):
    layer, folder = header.parts[1], name.parts[1] if len(name.parts) > 2 else ""
    if name.parts[0] == "lib":
        return folder == layer
    if name.parts[0] == "tests":
        return TESTED.get(folder, folder) == layer
    return name.parts[:2] == ("bench", "kernels")


def included_file(root, name, header):
    """The file that a quoted include finds, as a path below root: beside the file, in tests/, in lib/ or from root."""
    for folder in ((root / name).parent, root / "tests", root / "lib", root):
        path = (folder / header).resolve()
        if path.is_file() and path.is_relative_to(root):
            return path.relative_to(root)
    return None


def check(root, known=KNOWN):
    problems, met = [], set()
    for name in tree.files(root, *tree.CODE):
        for number, line in tree.lines(root, name):
            match = tree.INCLUDE.match(line)
            header = included_file(root, name, match[1]) if match else None
            if header is None or header.parts[0] != "lib" or may_include(name, header):
                continue
            exceptions = {pair for pair in known
                          if fnmatch.fnmatch(str(name), pair[0]) and fnmatch.fnmatch(str(header), pair[1])}
            met |= exceptions
            if not exceptions:
                problems.append(f"{name}:{number}: {match[1]} is a private header of {header.parts[1]}; include a public "
                                f"one, or move what needs it to {header.parts[1]}")
    problems += [f"tests/conventions/check_private.py:1: nothing in {who} includes {what} any more; strike it out of KNOWN"
                 for who, what in known if (who, what) not in met]
    return problems


if __name__ == "__main__":
    tree.main(check)
