#!/usr/bin/env -S python3 -B
# SPDX-License-Identifier: Apache-2.0
"""Breaks one of four nodes, and looks at what `srun isobar doctor --cluster` says of it.

  tests/cluster/preflight_test.py PROGRAM --rounds 20 [--faults slow-link,full-folder] [--json FILE]

The nodes are a testbed's (docs/testbed.md), so it needs root and the testbed's tools; it skips (77) without. A healthy
cluster must be well in every line. A fault must be found at its node, and nothing be said of the others: a verdict on
another node or another thing counts as wrong. Rows: fault, rounds, found, wrong, seconds of the slowest round.
"""
import argparse
import contextlib
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

TESTBED = pathlib.Path(__file__).resolve().parents[2] / "scripts" / "testbed"
sys.path.insert(0, str(TESTBED))

from parts import network  # noqa: E402
from parts.testbed import Testbed  # noqa: E402

NODES = 4
RATE_BIT_S = 200e6
LIMIT_S = 60  # what a pre-flight may take

# What every rank runs: its own core, then what is wrong with its node, then the program.
RANK = """\
core=$SLURM_LOCALID
program={program}
[ "$(hostname)" = {node} ] && {{ {fault}; }}
exec taskset -c "$core" "$program" doctor --cluster local --folder {folder} --device cpu --json -
"""


def call(program, *arguments, **keywords):
    command = [TESTBED / program, "--name", f"preflight-{os.getpid()}", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=4 * LIMIT_S, **keywords)


def good(program, *arguments):
    done = call(program, *arguments)
    if done.returncode != 0:
        raise SystemExit(f"{program} {arguments}: code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


class Site:
    """The testbed, the folders of its nodes, and copies of the program and of a library that are of another build."""

    def __init__(self, program, folder):
        self.testbed = Testbed(f"preflight-{os.getpid()}")
        self.program = program
        self.folder = folder / "scratch"
        self.folder.mkdir()
        self.other_program = folder / "isobar"
        self.other_libraries = folder / "libraries"
        self.make_other_program()
        self.make_other_library()

    def make_other_program(self):
        """The program with another commit's number in it, of which compilers keep eight letters together."""
        said = subprocess.run([self.program, "--version"], capture_output=True, text=True, check=True).stdout
        commit = said.partition("(commit ")[2].partition(")")[0][:8].encode()
        data = self.program.read_bytes()
        if commit not in data:
            raise SystemExit(f"{self.program} does not hold its commit, {commit.decode()}")
        self.other_program.write_bytes(data.replace(commit, commit[::-1]))
        self.other_program.chmod(0o755)

    def make_other_library(self):
        """HDF5's library with another build's number in it, as of another installation."""
        listed = subprocess.run(["ldd", self.program], capture_output=True, text=True, check=True).stdout
        library = next(pathlib.Path(line.split()[2]) for line in listed.splitlines() if "libhdf5" in line)
        notes = subprocess.run(["readelf", "-n", library], capture_output=True, text=True, check=True).stdout
        build = bytes.fromhex(notes.partition("Build ID: ")[2].split()[0])
        self.other_libraries.mkdir()
        soname = next(line.split()[0] for line in listed.splitlines() if "libhdf5" in line)
        (self.other_libraries / soname).write_bytes(library.read_bytes().replace(build, build[::-1]))

    @contextlib.contextmanager
    def slow_link(self, node, draw):
        """A link that has come up at a tenth to a third of its rate."""
        rate = draw.uniform(0.1, 0.33) * RATE_BIT_S
        line = "qdisc replace dev {} root tbf rate {:.0f}bit burst 16000 limit 1000000\n"
        network.batch(self.testbed, node, "tc", line.format("eth0", rate))
        network.batch(self.testbed, "switch", "tc", line.format(node, rate))
        yield ":"
        network.limit(self.testbed, node)

    @contextlib.contextmanager
    def late_link(self, node, draw):
        """A link whose packets come late."""
        good("link", "--node", node, "--delay", f"{draw.randrange(5, 50)}ms")
        yield ":"
        good("link", "--node", node, "--heal")

    @contextlib.contextmanager
    def full_folder(self, node, _):
        """A scratch folder of a megabyte."""
        good("enter", node, "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", self.folder)
        yield ":"
        good("enter", node, "umount", self.folder)

    @contextlib.contextmanager
    def other_commit(self, node, _):
        yield f"program={self.other_program}"

    @contextlib.contextmanager
    def other_library(self, node, _):
        yield f"export LD_LIBRARY_PATH={self.other_libraries}"

    @contextlib.contextmanager
    def few_files(self, node, _):
        yield "ulimit -n 256"

    @contextlib.contextmanager
    def wrong_core(self, node, draw):
        """Both ranks of the node on one core."""
        yield f"core={draw.randrange(2)}"

    @contextlib.contextmanager
    def healthy(self, node, _):
        yield ":"


# What may be said of the node where the fault is.
FAULTS = {
    "healthy": (Site.healthy, ()),
    "slow-link": (Site.slow_link, ("link", "latency")),
    "late-link": (Site.late_link, ("link", "latency")),
    "full-folder": (Site.full_folder, ("folder",)),
    "other-commit": (Site.other_commit, ("versions",)),
    "other-library": (Site.other_library, ("libraries",)),
    "few-files": (Site.few_files, ("open files",)),
    "wrong-core": (Site.wrong_core, ("cores",)),
}


def look(site, node, fault, script):
    """(rows, exit code, seconds, what was said) of one pre-flight."""
    script.write_text(RANK.format(program=site.program, node=node, fault=fault, folder=site.folder))
    begin = time.monotonic()
    done = call("run", "--launcher", "srun", "--ranks-per-node", 2, "--limit", f"{3 * LIMIT_S}s", "--", "sh", script)
    seconds = time.monotonic() - begin
    try:
        rows = json.loads(done.stdout)["rows"]
    except ValueError:
        rows = []
    return rows, done.returncode, seconds, done.stdout + done.stderr


def judge(fault, node, rows, code):
    """(whether the fault was found, verdicts that are wrong)."""
    allowed = FAULTS[fault][1]
    bad = [row for row in rows if row["grade"] != "ok"]
    right = [row for row in bad if row["what"] in allowed and row["nodes"] == [node]]
    wrong = [row for row in bad if row not in right]
    if fault == "healthy":
        return bool(rows) and code == 0 and not bad, wrong
    return code == 1 and any(row["grade"] == "FAIL" for row in right), wrong


def trial(site, fault, draw, script):
    node = draw.choice(site.testbed.node_names())
    with FAULTS[fault][0](site, node, draw) as line:
        rows, code, seconds, said = look(site, node, line, script)
    found, wrong = judge(fault, node, rows, code)
    problems = [f"{node}: {row['grade']} {row['what']}: {row['nodes']} {row['measured']}" for row in wrong]
    if not found:
        problems.append(f"{node}: not found, code {code}: {said[-2000:]}")
    if seconds > LIMIT_S:
        problems.append(f"{node}: took {seconds:.0f} s")
    return found, bool(wrong), seconds, problems


def run(given, folder):
    site = Site(given.program.resolve(), folder)
    draw = random.Random(given.seed)
    rows = []
    for fault in given.faults.split(","):
        trials = [trial(site, fault, draw, folder / "rank.sh") for _ in range(given.rounds)]
        rows.append({"fault": fault, "rounds": given.rounds, "found": sum(found for found, *_ in trials),
                     "wrong": sum(wrong for _, wrong, *_ in trials), "most_s": max(s for _, _, s, _ in trials)})
        print("{fault:14} {found} of {rounds} found, {wrong} wrong, {most_s:.1f} s at most".format(**rows[-1]), flush=True)
        for *_, problems in trials:
            for problem in problems:
                print(f"  {problem}", flush=True)
    if given.json:
        given.json.write_text(json.dumps({"schema": "isobar.preflight_test.1", "command": sys.argv, "rows": rows}, indent=1))
    bad = [row for row in rows if row["found"] < row["rounds"] or row["wrong"] or row["most_s"] > LIMIT_S]
    return 1 if bad else 0


def why_skip():
    if os.geteuid() != 0:
        return "it needs root, for network namespaces"
    tools = ("ip", "tc", "nsenter", "unshare", "setpriv", "srun", "slurmctld", "slurmd", "munged", "taskset", "readelf")
    missing = [tool for tool in tools if not shutil.which(tool)]
    if missing:
        return f"it needs {', '.join(missing)}"
    if len(os.sched_getaffinity(0)) < 2:
        return "it needs two cores, to bind a rank to the wrong one"
    if subprocess.run(["unshare", "--net", "--mount", "true"], check=False, stderr=subprocess.DEVNULL).returncode != 0:
        return "network namespaces are not allowed here"
    return ""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=pathlib.Path, metavar="PROGRAM", help="isobar")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--faults", default=",".join(FAULTS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=pathlib.Path)
    given = parser.parse_args()
    if reason := why_skip():
        print(f"skipped: {reason}")
        return 77
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="isobar-preflight-") as folder:
        try:
            good("up", "--nodes", NODES, "--rate", f"{RATE_BIT_S / 1e6:.0f}mbit", "--slurm", "--no-measure")
            return run(given, pathlib.Path(folder))
        finally:
            call("down")


if __name__ == "__main__":
    sys.exit(main())
