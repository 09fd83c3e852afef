#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Impairs the link of one node of four while a job does collectives and checks every result.

  tests/faults/links.py PROGRAM --backends gloo,mpi --faults slow,cut,dead,reset,corrupt --repeats 5 [--json FILE]

slow: 20 ms delay with 5 ms jitter and 1 % of the packets lost, each way; cut: silence for 3 s, less than the limit;
dead: silence for good; reset: the node's TCP connections end; corrupt: one bit of 0.1 % of the packets, with a TCP
checksum that fits. The job has to go on or to end with an error on every rank, in time and never with a wrong result.
Only of corrupt a wrong result is no failure of this test: nothing above TCP's checksum guards the payload, and the
row says how often it came to that. Needs root. Rows: backend, fault, repeats, finished, failed (the job ended with an
error on every rank), ended (by its launcher), wrong_results, detected_s and longest_s (median, maximum), failures.
"""
import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTBED = ROOT / "scripts" / "testbed"
NAME = f"links-{os.getpid()}"
NODES = 4
SILENCE_MS = 5000
TIMEOUT_MS = 20000
# How long a job that gets over an impairment goes on, so that it is none that had ended before.
RUN_S = 2.0
# For what follows an impairment: the longest of the limits, and the time to say it on a busy machine.
LIMIT_S = 60.0
START_S = 120.0
NOT_HERE = 77
TOOLS = ("ip", "tc", "ss", "nsenter", "unshare", "setpriv", "mpirun")

FAULTS = {
    "slow": ["--delay", "20ms", "--jitter", "5ms", "--loss", "1%"],
    "cut": ["--cut", "--for", "3s"],
    "dead": ["--cut"],
    "reset": ["--reset"],
    "corrupt": ["--corrupt", "0.1%"],
}
# What a job may come to; a corrupted one may besides have wrong results.
MAY_FINISH = {"slow", "cut", "corrupt"}
MUST_FINISH = {"slow", "cut"}


def testbed(program, *arguments):
    return subprocess.run([sys.executable, "-B", str(TESTBED / program), "--name", NAME, *arguments],
                          check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)


class Job:
    """Four ranks, one a node, and what they have written."""

    def __init__(self, program, backend):
        self.folder = Path(tempfile.mkdtemp(prefix="isobar-links-"))
        self.output = open(self.folder / "output", "w", encoding="utf-8")
        self.process = subprocess.Popen(
            [sys.executable, "-B", str(TESTBED / "run"), "--name", NAME, "--limit", f"{START_S + 2 * LIMIT_S:g}s",
             "--launcher", "mpirun" if backend == "mpi" else "none", "--", program, backend, str(SILENCE_MS),
             str(TIMEOUT_MS), str(self.folder)],
            stdin=subprocess.DEVNULL, stdout=self.output, stderr=subprocess.STDOUT)

    def lines(self, key):
        """By rank, the last line that has the key."""
        found = {}
        for rank in range(NODES):
            file = self.folder / str(rank)
            text = file.read_text() if file.exists() else ""
            for line in (json.loads(part) for part in text.splitlines() if part.endswith("}")):
                if key in line:
                    found[rank] = line
        return found

    def wait(self, key, limit_s):
        end = time.monotonic() + limit_s
        while len(self.lines(key)) < NODES and time.monotonic() < end and self.process.poll() is None:
            time.sleep(0.05)
        return self.lines(key)

    def end(self):
        """Tells the ranks that they have done enough."""
        (self.folder / "end").touch()

    def said(self):
        return " | ".join((self.folder / "output").read_text(errors="replace").strip().splitlines()[-3:])

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)
        self.output.close()
        shutil.rmtree(self.folder)


def start(program, backend):
    """A job whose ranks are ready. mpirun's daemons find each other over the links that the trial before has healed, and
    now and then give up where the node has just come back; nothing of ours runs by then, so mpirun is started again."""
    for tries_left in (2, 1, 0):
        job = Job(program, backend)
        if len(job.wait("ready", START_S)) == NODES or not tries_left or "check network connectivity" not in job.said():
            return job
        print(f"  mpirun did not start its daemons: {job.said()}", flush=True)
        job.close()


def trial(program, backend, fault, draw):
    """What became of one job: a dictionary, with `problem` where that must not be."""
    node = draw.randint(1, NODES)
    job = start(program, backend)
    try:
        if len(job.lines("ready")) < NODES:
            return {"problem": f"the ranks did not start: {job.said()}"}
        time.sleep(draw.uniform(0.1, 1.0))
        begin = time.time()
        testbed("link", "--node", str(node), *FAULTS[fault])
        if fault in MAY_FINISH:
            time.sleep(RUN_S)
            job.end()
        ends = job.wait("checked", LIMIT_S)
        if len(ends) < NODES:  # a launcher that ends may have taken some with it
            time.sleep(1)
            ends = job.lines("checked")
        return judge(job, ends, node, fault, begin)
    finally:
        job.close()
        testbed("link", "--node", str(node), "--heal")


def judge(job, ends, node, fault, begin):
    failed = {rank: end for rank, end in ends.items() if end["error"]}
    result = {"node": node, "wrong": sum(end["wrong"] for end in ends.values()), "problem": None,
              "longest_s": max((end["longest_s"] for end in ends.values()), default=0.0),
              "detected_s": max((end["time_s"] for end in failed.values()), default=begin) - begin,
              "errors": sorted({end["error"] for end in failed.values()})}
    hangs = len(ends) < NODES and job.process.poll() is None
    result["outcome"] = ("hung" if hangs else "ended" if len(ends) < NODES else
                         "finished" if not failed else "failed" if len(failed) == NODES else "split")
    if hangs:
        result["problem"] = f"ranks {sorted(set(range(NODES)) - set(ends))} said nothing in {LIMIT_S:g} s"
    elif result["wrong"] and fault != "corrupt":
        result["problem"] = f"{result['wrong']} wrong results"
    elif result["outcome"] == "finished" and fault not in MAY_FINISH:
        result["problem"] = "the job went on as if nothing had been"
    elif result["outcome"] != "finished" and fault in MUST_FINISH:
        result["problem"] = f"the job did not get over it: {result['errors']} {job.said()}"
    elif result["outcome"] == "split" and fault != "corrupt":
        result["problem"] = f"ranks {sorted(set(ends) - set(failed))} saw nothing: {result['errors']}"
    return result


def summary(backend, fault, trials):
    seen = [t for t in trials if "outcome" in t]
    row = {"backend": backend, "fault": fault, "repeats": len(trials)}
    for outcome in ("finished", "failed", "ended", "split", "hung"):
        row[outcome] = sum(t["outcome"] == outcome for t in seen)
    row["jobs_with_wrong_results"] = sum(t["wrong"] > 0 for t in seen)
    row["wrong_results"] = sum(t["wrong"] for t in seen)
    detected = [t["detected_s"] for t in seen if t["errors"]]
    row["detected_median_s"] = statistics.median(detected) if detected else None
    row["detected_maximum_s"] = max(detected, default=None)
    row["longest_maximum_s"] = max((t["longest_s"] for t in seen), default=None)
    row["failures"] = sum(t["problem"] is not None for t in trials)
    return row


def run(arguments):
    draw = random.Random(arguments.seed)
    rows = []
    for backend in arguments.backends.split(","):
        for fault in arguments.faults.split(","):
            trials = [trial(arguments.program, backend, fault, draw) for _ in range(arguments.repeats)]
            rows.append(summary(backend, fault, trials))
            print(json.dumps(rows[-1]), flush=True)
            for t in trials:
                for text in [t["problem"]] if t["problem"] else t["errors"][:1]:
                    print(f"  node n{t.get('node')}: {text}", flush=True)
    if arguments.json:
        Path(arguments.json).write_text(
            json.dumps({"schema": "isobar.links.1", "command": sys.argv, "rows": rows}, indent=1), encoding="utf-8")
    return 1 if any(row["failures"] for row in rows) else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--backends", default="gloo,mpi")
    parser.add_argument("--faults", default="slow,cut,dead,reset,corrupt")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json")
    arguments = parser.parse_args()
    if os.geteuid() != 0 or not all(shutil.which(tool) for tool in TOOLS):
        print("links: needs root and " + ", ".join(TOOLS))
        return NOT_HERE
    try:
        testbed("up", "--nodes", str(NODES), "--no-measure")
        return run(arguments)
    except subprocess.CalledProcessError as error:
        print(f"links: {error}: {error.stdout}")
        return 1
    finally:
        testbed("down")


if __name__ == "__main__":
    sys.exit(main())
