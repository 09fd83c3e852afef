# SPDX-License-Identifier: Apache-2.0
"""A testbed: what it is made of, and the folder that knows it.

A node is the namespaces (network, mount, host name, System V memory) of a
process that sleeps, its keeper. The switch is a keeper too, with the bridge that
the nodes' cables end in. So nothing appears in the host's network, and all
of it is gone once the keepers are.
"""
import contextlib
import fcntl
import json
import os
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from . import processes, quota
from .common import Failure

LOCK_LIMIT_S = 120
STATES = Path(os.environ.get("ISOBAR_TESTBED_STATE", "/run/isobar-testbed"))


@dataclass
class Shape:
    """What a user asked for."""

    nodes: int = 4
    rate_bit_s: float | None = 1e9
    cpus: float | None = None
    slurm: bool = False
    cluster: str = "isobar"
    gpus: int = 0
    # The shortest message, in bytes, whose time is that of such a link.
    fair_from: int = 256 * 2**10
    # What Slurm calls its partition, and the processors that it believes a node to have: more than there are, so that
    # ranks are never short of a place.
    partition: str = "main"
    slurm_cpus: int = 16
    # In which a node gets its processor time: what takes less runs as on a whole processor.
    cpu_period_us: int = 100_000


class Testbed:
    def __init__(self, name):
        self.name = name
        self.folder = STATES / name
        self.processes = self.folder / "processes"
        self.log = self.folder / "log"
        self.enter = self.folder / "enter"

    @property
    def shape(self):
        try:
            return Shape(**json.loads((self.folder / "shape.json").read_text()))
        except FileNotFoundError:
            raise Failure(f"there is no testbed '{self.name}'; try: scripts/testbed/up --name {self.name}") from None

    @property
    def token(self):
        """In the environment of every process of this testbed, and of no other's."""
        return f"ISOBAR_TESTBED={self.name}.{(self.folder / 'token').read_text()}"

    def create(self, shape):
        for folder in (self.folder, self.processes, self.log):
            folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "token").write_text(os.urandom(8).hex())
        # Last and at once: where it is, the token is too.
        partial = self.folder / "shape.json.partial"
        partial.write_text(json.dumps(asdict(shape)))
        partial.rename(self.folder / "shape.json")

    def exists(self):
        return (self.folder / "shape.json").exists()

    def ready(self):
        """Whether all of it was brought up, and lives."""
        if not self.exists() or not (self.folder / "ready").exists():
            return False
        names = [file.name for file in self.processes.iterdir()]
        return all(self.process(name).alive() for name in [*self.node_names(), "switch", *names])

    def want_ready(self):
        if not self.shape or not self.ready():
            raise Failure(f"the testbed '{self.name}' is not whole; try: scripts/testbed/up --name {self.name}")

    def node_names(self):
        return [f"n{node}" for node in range(1, self.shape.nodes + 1)]

    def node_named(self, text):
        """The node that a user calls 3 or n3."""
        name = text if text.startswith("n") else f"n{text}"
        if name not in self.node_names():
            raise Failure(f"there is no node '{text}', only {' '.join(self.node_names())}")
        return name

    def process(self, name):
        return processes.Recorded(self.processes / name)

    def environment(self):
        return {**os.environ, **dict([self.token.split("=", 1)])}

    def start(self, name, command, **keywords):
        """Starts one of the testbed's own background processes; what it says is in log/."""
        with open(self.log / name, "ab") as log:
            return processes.start(self.processes / name, command, env=self.environment(),
                                   stdout=log, stderr=log, **keywords)

    def inside(self, node, command):
        """The command line that runs a command in a node."""
        return [str(self.enter), node, *command]

    def members(self):
        """Every process of the testbed, but keepers and those that this one was started by."""
        keepers = [keeper for name in self.keeper_names() if (keeper := self.process(name)).alive()]
        spaces = {processes.namespace(keeper.pid) for keeper in keepers} - {None}
        token = self.token.encode()
        spared = {keeper.pid for keeper in keepers} | processes.own_line()
        return [(pid, start) for pid, start in processes.every() if pid not in spared and (
            processes.namespace(pid) in spaces or token in processes.environment(pid))]

    def keeper_names(self):
        return ["switch", *self.node_names()]

    def tear_down(self):
        """Ends all that belongs to it, also of one half built. Says whether there was one."""
        if not self.folder.exists():
            return False
        if self.exists():
            while members := self.members():
                processes.end_all(members, limit_s=3.0)
            for name in self.keeper_names():
                self.process(name).end(limit_s=0.2)
        quota.remove(self)
        shutil.rmtree(self.folder)
        with contextlib.suppress(OSError):
            STATES.rmdir()
        return True


@contextlib.contextmanager
def lock(path=STATES):
    """One at a time builds, measures or ends testbeds: measurements would disturb each other. A folder is the lock."""
    until = time.monotonic() + LOCK_LIMIT_S
    while time.monotonic() < until:
        path.mkdir(parents=True, exist_ok=True)
        folder = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and path.samefile(f"/proc/self/fd/{folder}"):
                yield
                return
        except BlockingIOError:
            time.sleep(0.02)
        finally:
            os.close(folder)
    raise Failure(f"another program has been building or measuring a testbed for {LOCK_LIMIT_S} s")
