# SPDX-License-Identifier: Apache-2.0
"""What bench/collectives and bench/steps share: how programs are alternated, and how what they measured is compared."""
import json
import math
import os
import shlex
import signal
import statistics
import subprocess
import sys
from pathlib import Path


class Failure(Exception):
    """What ends the comparison, in one line."""


def interval(samples):
    """(low, median, high): order statistics that hold the median with 95 %, whatever the distribution; with five
    samples or fewer, which cannot, the smallest and the largest."""
    ordered = sorted(samples)
    count = len(ordered)
    below, rank = 0.0, 0
    while rank < count:
        below += math.comb(count, rank) * 0.5 ** count
        if below > 0.025:
            break
        rank += 1
    rank = max(rank, 1)
    return ordered[rank - 1], statistics.median(ordered), ordered[count - rank]


def run_limited(command, limit_s):
    """(exit code, standard output, standard error); past its limit the command is ended, with all that it started."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               start_new_session=True)
    try:
        out, err = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        raise Failure(f"no end within {limit_s} s: {shlex.join(command)}") from None
    return process.returncode, out, err


def read_report(out):
    """The report among what else a launcher may print."""
    begin, end = out.find("{"), out.rfind("}")
    if begin < 0:
        raise ValueError("no report")
    return json.loads(out[begin:end + 1])


def measure(command, limit_s):
    code, out, err = run_limited(command, limit_s)
    try:
        report = read_report(out)
    except ValueError:
        said = [line for line in err.splitlines() if "error" in line] or err.splitlines() or [""]
        raise Failure(f"exit code {code} of {shlex.join(command)}: {said[0]}") from None
    if code and all(row["error"] == 0 for row in report["rows"]):
        raise Failure(f"exit code {code} of {shlex.join(command)}")
    return report


def rotated(items, by):
    by %= len(items)
    return items[by:] + items[:by]


def ratios(pairs):
    low, median, high = interval([a / b for a, b in pairs])
    return {"ratio": median, "low": low, "high": high}


def with_interval(value):
    return f"{value['ratio']:.3f} [{value['low']:.3f}, {value['high']:.3f}]" if value else "-"


def write_report(file, report):
    text = json.dumps(report, indent=2) + "\n"
    if file == "-":
        sys.stdout.write(text)
    elif file:
        Path(file).write_text(text, encoding="utf-8")
