# SPDX-License-Identifier: Apache-2.0
"""Processes by identity: a process id counts only together with its start time, for ids are used again."""
import os
import signal
import subprocess
import time
from pathlib import Path

from .common import Failure


def start_time(pid):
    """When the process began, in clock ticks since boot; None if there is none, or only its zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


class Recorded:
    """A background process, noted in a file before it does anything."""

    def __init__(self, file):
        self.file = file
        try:
            pid, start = file.read_text().split()
            self.pid, self.start = int(pid), int(start)
        except (OSError, ValueError):
            self.pid, self.start = None, None

    def alive(self):
        return self.pid is not None and start_time(self.pid) == self.start

    def end(self, limit_s=3.0):
        """Asks it to end, then makes it."""
        end_all([(self.pid, self.start)] if self.pid else [], limit_s)
        self.file.unlink(missing_ok=True)


def start(file, command, **keywords):
    """Starts a background process. It waits until it is recorded: whoever dies before that leaves none."""
    wait_then_run = ["sh", "-c", 'read go && exec "$@" </dev/null', "sh", *command]
    process = subprocess.Popen(wait_then_run, stdin=subprocess.PIPE, start_new_session=True, **keywords)
    with process.stdin as go:
        file.write_text(f"{process.pid} {start_time(process.pid)}\n")
        go.write(b"go\n")
    return process


def end_all(identities, limit_s):
    """Ends processes, given as (pid, start time): SIGTERM, and after the limit SIGKILL."""
    for number, wait_s in ((signal.SIGTERM, limit_s), (signal.SIGKILL, 2.0)):
        until = time.monotonic() + wait_s
        for pid, start in alive(identities):
            send(pid, number)
        while alive(identities) and time.monotonic() < until:
            time.sleep(0.01)


def alive(identities):
    return [(pid, start) for pid, start in identities if start_time(pid) == start]


def send(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def every():
    """All processes, as (pid, start time)."""
    pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
    return [(pid, start) for pid in pids if (start := start_time(pid)) is not None]


def marked(mark):
    """Processes whose environment, as they were started with, holds `mark` (NAME=VALUE)."""
    return [identity for identity in every() if mark.encode() in environment(identity[0])]


def environment(pid):
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def namespace(pid, kind="net"):
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind}")
    except OSError:
        return None


def own_line():
    """This process and those it was started by."""
    line, pid = set(), os.getpid()
    while pid > 1:
        line.add(pid)
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return line


def wait_for(what, condition, limit_s=10.0):
    """Waits until the condition holds; says what was waited for where it does not."""
    until = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > until:
            raise Failure(f"{what}: not within {limit_s:.0f} s")
        time.sleep(0.01)
