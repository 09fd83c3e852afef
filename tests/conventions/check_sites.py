# SPDX-License-Identifier: Apache-2.0
"""Fails where a name that only one machine has stands outside of the machines' profiles.

Such names are read off scripts/slurm/clusters/*.yaml: partitions and QoS, how host names begin, network interfaces and
adapters. Sources, headers, benchmarks and scripts have to get them from a profile; tests and pages may quote them.
"""
import re

import tree

PROFILES = ("scripts", "slurm", "clusters")
LOOKED_AT = ("lib", "include", "bench", "scripts")

# Partitions and QoS whose names are words of everybody's. One that no profile has any more fails until it is struck
# out here.
ORDINARY = {"bench", "debug", "default", "dev", "dg", "gpu", "large", "long", "ng", "normal", "short", "test"}

# One-line values, in the forms that the profiles write them in.
QUEUE = re.compile(r"\b(?:partition|qos): ([\w-]+)")
HOST = re.compile(r"^\s*host_name(?:_alike)?: '(.*)'")
INTERFACES = re.compile(r"^\s*interfaces: ([\w,]+)")
HCAS = re.compile(r"^\s*hcas: \[([\w, ]+)\]")
# What a host name begins with, in a regular expression: letters before the first number.
STEM = re.compile(r"(?:^|(?<=[|(]))((?:\[\w+\])?[a-z]+(?:-[a-z]+)*-?)(?=\\d|\d)")
SHORTEST_STEM = 3


def stems(pattern):
    """"[ag]login\\d+" begins "alogin" and "glogin"."""
    for stem in STEM.findall(pattern):
        letters, _, rest = stem[1:].partition("]") if stem.startswith("[") else ("", "", stem)
        yield from (letter + rest for letter in letters) if letters else [rest]


def site_names(root):
    """(words, host stems) of all profiles."""
    words, hosts = set(), set()
    for name in tree.files(root, ".yaml"):
        if name.parts[:3] != PROFILES:
            continue
        for _, line in tree.lines(root, name):
            words.update(QUEUE.findall(line))
            for found in INTERFACES.findall(line) + HCAS.findall(line):
                words.update(re.findall(r"\w+", found))
            for pattern in HOST.findall(line):
                hosts.update(stem for stem in stems(pattern) if len(stem) >= SHORTEST_STEM)
    return words, hosts - {"login"}


def pattern_of(words, hosts):
    """The words whole, and the stems where no longer word begins with them."""
    word = "|".join(re.escape(each) for each in sorted(words))
    host = "|".join(re.escape(each) for each in sorted(hosts))
    return re.compile(rf"(?<![\w-])(?:({word})(?![\w-])|({host})(?![A-Za-z_-]))")


def check(root, ordinary=frozenset(ORDINARY)):
    words, hosts = site_names(root)
    own = "tests/conventions/check_sites.py"
    problems = [f"{own}:1: no profile has a partition or QoS '{word}' any more; strike it out of ORDINARY"
                for word in sorted(ordinary - words)] if words else []
    if not words - ordinary or not hosts:
        return problems
    pattern = pattern_of(words - ordinary, hosts)
    for name in tree.files(root):
        if name.parts[0] not in LOOKED_AT or name.parts[:3] == PROFILES:
            continue
        for number, line in tree.lines(root, name):
            found = pattern.search(line)
            if found:
                problems.append(f"{name}:{number}: '{found[0]}' is one machine's; get it from its profile "
                                "(scripts/slurm/clusters)")
    return problems


if __name__ == "__main__":
    tree.main(check)
