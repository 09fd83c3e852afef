#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Hurts one rank of four while they do collectives, and looks at what the others say, and when.

  tests/faults/campaign.py PROGRAM --backends gloo,mpi,shm --faults kill,stop,size --repeats 20 [--json FILE]

kill and stop send the rank a signal; size, operation, type, leave and throw are its own mistakes. survive kills a rank
that the others go on without, in a world of their own with right sums (gloo, shm); orphan kills rank 0, without which
they must say that they cannot. --silence is the limit for ranks that say nothing.

Every survivor has to name the rank that was hurt, all in the same words, within the limit of the fault. Rows: backend,
fault, repeats, detected_s of the slowest survivor (median, maximum), failures.
"""
import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from mpi_launch import free_port  # noqa: E402

RANKS = 4
# Seconds in which every survivor has to know: those of the goals.
LIMIT_S = {"kill": 8, "stop": 10, "size": 10, "operation": 10, "type": 10, "leave": 10, "throw": 10, "survive": 10,
           "orphan": 15}
SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "survive": signal.SIGKILL, "orphan": signal.SIGKILL}
NOT_OF_MPI = ("survive", "orphan")


def launch(program, backend, silence_s, arguments):
    """The processes to wait for; the ranks are they, or their children."""
    command = [program, backend, str(round(1000 * silence_s)), *arguments]
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    if backend == "mpi":
        environment.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
        mpirun = ["mpirun", "--bind-to", "none", "--oversubscribe", "-n", str(RANKS)]
        return [start([*mpirun, *command], environment)]
    environment.update(WORLD_SIZE=str(RANKS), LOCAL_WORLD_SIZE=str(RANKS), MASTER_ADDR="127.0.0.1",
                       MASTER_PORT=str(free_port()))
    return [start(command, dict(environment, RANK=str(r), LOCAL_RANK=str(r))) for r in range(RANKS)]


def start(command, environment):
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            start_new_session=True)


class Listener:
    """What the ranks have said, by the key of the line."""

    def __init__(self, processes):
        self.ready = {}
        self.errors = {}
        self.noise = []
        self.changed = threading.Condition()
        self.threads = [threading.Thread(target=self.read, args=(stream,), daemon=True)
                        for process in processes for stream in (process.stdout, process.stderr)]
        for thread in self.threads:
            thread.start()

    def read(self, stream):
        for text in stream:
            try:
                line = json.loads(text)
            except ValueError:
                self.noise.append(text.rstrip())
                continue
            with self.changed:
                if "ready" in line:
                    self.ready[line["ready"]] = line
                else:
                    self.errors[line["rank"]] = line
                self.changed.notify_all()

    def wait(self, condition, limit_s):
        with self.changed:
            return self.changed.wait_for(condition, timeout=limit_s)


def end(processes, listener):
    for rank in listener.ready.values():
        try:
            os.kill(rank["pid"], signal.SIGKILL)
        except ProcessLookupError:
            pass
    for process in processes:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()


def choose_victim(fault, draw):
    if fault == "orphan":
        return 0
    return draw.randrange(1 if fault == "survive" else 0, RANKS)


def arguments_of(fault, victim):
    if fault in NOT_OF_MPI:
        return ["survive", "-1"]
    return [] if fault in SIGNALS else [fault, str(victim)]


def trial(program, backend, fault, arguments, draw):
    """Seconds until the last survivor knew, or went on; and what is wrong. One of them None."""
    victim = choose_victim(fault, draw)
    limit_s = LIMIT_S[fault] * arguments.patience
    processes = launch(program, backend, arguments.silence, arguments_of(fault, victim))
    listener = Listener(processes)
    try:
        if not listener.wait(lambda: len(listener.ready) == RANKS, 120):
            return None, f"the ranks did not start: {listener.errors} {listener.noise[-3:]}"
        begin = max(line["time_s"] for line in listener.ready.values())
        if fault in SIGNALS:
            time.sleep(draw.uniform(0.1, 1.0))
            begin = time.time()
            os.kill(listener.ready[victim]["pid"], SIGNALS[fault])
        survivors = [r for r in range(RANKS) if r != victim]
        listener.wait(lambda: all(r in listener.errors for r in survivors), limit_s + 5)
        codes = [process.poll() for process in processes]
        return judge(listener, survivors, victim, (fault, limit_s), begin, codes)
    finally:
        end(processes, listener)


def judge(listener, survivors, victim, fault_and_limit, begin, codes):
    fault, limit_s = fault_and_limit
    missing = [r for r in survivors if r not in listener.errors]
    if missing:
        return None, f"victim {victim}: ranks {missing} said nothing; exit codes {codes} {listener.noise[-3:]}"
    texts = {listener.errors[r]["error"] for r in survivors}
    if len(texts) != 1:
        return None, f"victim {victim}: different causes: {sorted(texts)}"
    text = texts.pop()
    if f"rank {victim}" not in text:
        return None, f"victim {victim} is not named: {text}"
    problem = judge_way_on(fault, [listener.errors[r] for r in survivors])
    if problem:
        return None, f"victim {victim}: {problem}"
    seconds = max(listener.errors[r]["time_s"] for r in survivors) - begin
    if seconds > limit_s:
        return None, f"victim {victim}: {seconds:.1f} s, allowed {limit_s:g} s: {text}"
    return seconds, None


def judge_way_on(fault, ends):
    """What is wrong with how the survivors, in the order of their ranks, went on."""
    if fault == "survive":
        wanted = [{"new_rank": rank, "new_size": len(ends), "right": True} for rank in range(len(ends))]
        got = [{key: end.get(key) for key in wanted[0]} for end in ends]
        return None if got == wanted else f"the survivors did not go on: {ends}"
    if fault == "orphan":
        silent = [end for end in ends if "restart the job" not in end.get("no_way_on", "")]
        return f"not told to restart the job: {silent}" if silent else None
    return None


def run(arguments):
    draw = random.Random(arguments.seed)
    rows = []
    for backend in arguments.backends.split(","):
        for fault in arguments.faults.split(","):
            if backend == "mpi" and fault in NOT_OF_MPI:
                continue
            trials = [trial(arguments.program, backend, fault, arguments, draw) for _ in range(arguments.repeats)]
            times = [seconds for seconds, problem in trials if problem is None]
            problems = [problem for _, problem in trials if problem is not None]
            rows.append({"backend": backend, "fault": fault, "repeats": arguments.repeats,
                         "median_s": statistics.median(times) if times else None,
                         "maximum_s": max(times, default=None), "failures": len(problems)})
            print(f"{backend:6} {fault:10} {len(times)} of {arguments.repeats} named, median "
                  f"{rows[-1]['median_s'] or 0:.2f} s, worst {rows[-1]['maximum_s'] or 0:.2f} s", flush=True)
            for problem in problems:
                print(f"  {problem}", flush=True)
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({"schema": "isobar.faults.1", "command": sys.argv, "rows": rows}, file, indent=1)
    return 1 if any(row["failures"] for row in rows) else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--backends", default="gloo,mpi,shm")
    parser.add_argument("--faults", default="kill,stop,size,operation,type,leave,throw,survive,orphan")
    parser.add_argument("--silence", type=float, default=5, metavar="SECONDS")
    parser.add_argument("--patience", type=float, default=1, metavar="FACTOR",
                        help="allow so many times the limits of the goals, on a busy machine (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json")
    return run(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
