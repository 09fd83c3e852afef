# SPDX-License-Identifier: Apache-2.0
"""Starts ranks in the nodes, and ends all that was started.

Every process of a run carries the run's mark in its environment, whoever
started it (mpirun's daemons, Slurm's steps, the ranks' own children): what is
left at the end is found by it.
"""
import contextlib
import os
import random
import signal
import subprocess
import sys
import time

from . import network, processes
from .common import Failure

MARK = "ISOBAR_TESTBED_RUN"
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM)
OUT_OF_TIME = 124  # as of timeout(1)
LAUNCHER_LIMIT_S = 10

# Open MPI by itself refuses to run as root, wants a core for each rank, and binds ranks of all nodes to the same one.
DEFAULTS = {
    "OMP_NUM_THREADS": "1",
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_hwloc_base_binding_policy": "none",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
}


class Stopped(Exception):
    """A signal asked this program to end."""

    def __init__(self, number):
        super().__init__(signal.Signals(number).name)
        self.code = OUT_OF_TIME if number == signal.SIGALRM else 128 + number


def raise_stopped(number, _):
    for ending in ENDING:
        signal.signal(ending, signal.SIG_IGN)
    raise Stopped(number)


def exit_code(process):
    """As a shell says it: 128 and the signal's number for a process that a signal ended."""
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def popen(command, orphaned="KILL", **keywords):
    """A child in a session of its own, so that Ctrl-C reaches it through this program.

    It gets the signal `orphaned` when this program dies without a chance to end it.
    """
    return subprocess.Popen(["setpriv", "--pdeathsig", orphaned, *command], start_new_session=True, **keywords)


class Run:
    def __init__(self, testbed, nodes, ranks_per_node, settings):
        self.testbed = testbed
        self.nodes = testbed.node_names()[:nodes]
        self.ranks_per_node = ranks_per_node
        self.mark = f"{MARK}={os.getpid()}.{processes.start_time(os.getpid())}"
        self.environment = {**DEFAULTS, **os.environ, **settings, **dict([self.mark.split("=", 1)])}

    def size(self):
        return len(self.nodes) * self.ranks_per_node

    def mpirun(self, command):
        hosts = ",".join(f"{node}:{self.ranks_per_node}" for node in self.nodes)
        return self.one_launcher([
            "mpirun", "--mca", "plm_rsh_agent", str(self.testbed.folder / "agent"), "--host", hosts,
            "-n", str(self.size()), "--map-by", f"ppr:{self.ranks_per_node}:node", *command])

    def srun(self, command):
        return self.one_launcher([
            "srun", "--mpi=pmix", f"--nodes={len(self.nodes)}", f"--ntasks={self.size()}",
            f"--ntasks-per-node={self.ranks_per_node}", f"--nodelist={','.join(self.nodes)}", *command])

    def one_launcher(self, command):
        """Runs mpirun or srun in the first node, where it is on a machine of the cluster."""
        process = popen(self.testbed.inside("n1", command), orphaned="TERM", env=self.environment)
        try:
            process.wait()
        except Stopped:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(LAUNCHER_LIMIT_S)
            raise
        return exit_code(process)

    def none(self, command, grace_s):
        """Starts the ranks, with torchrun's variables. Returns the first code that is not zero."""
        ranks = [self.start_rank(rank, command) for rank in range(self.size())]
        failed = None
        until = float("inf")
        while any(rank.poll() is None for rank in ranks) and time.monotonic() < until:
            time.sleep(0.01)
            if failed is None and (failed := self.first_failed(ranks)) is not None:
                until = time.monotonic() + grace_s
                self.report(ranks, failed, grace_s)
        failed = self.first_failed(ranks) if failed is None else failed
        return 0 if failed is None else exit_code(ranks[failed])

    @staticmethod
    def first_failed(ranks):
        return next((number for number, rank in enumerate(ranks) if rank.poll()), None)

    def report(self, ranks, failed, grace_s):
        left = sum(rank.poll() is None for rank in ranks)
        if left:
            print(f"run: rank {failed} on {self.node_of(failed)} ended with code {exit_code(ranks[failed])}; "
                  f"{left} others have {grace_s:g} s", file=sys.stderr)

    def node_of(self, rank):
        return self.nodes[rank // self.ranks_per_node]

    def start_rank(self, rank, command):
        variables = {
            "RANK": rank,
            "WORLD_SIZE": self.size(),
            "LOCAL_RANK": rank % self.ranks_per_node,
            "LOCAL_WORLD_SIZE": self.ranks_per_node,
            "MASTER_ADDR": network.address("n1"),
            "MASTER_PORT": self.port,
        }
        environment = {**self.environment, **{name: str(value) for name, value in variables.items()}}
        return popen(self.testbed.inside(self.node_of(rank), command), env=environment,
                     stdin=None if rank == 0 else subprocess.DEVNULL)

    def choose_port(self):
        taken = network.listening_ports(self.testbed, "n1")
        self.port = random.choice([port for port in range(20000, 30000) if port not in taken])

    def end_all(self):
        """Ends what is left of this run in the testbed."""
        while left := [identity for identity in processes.marked(self.mark) if identity[0] != os.getpid()]:
            processes.end_all(left, limit_s=2.0)


def launch(run, launcher, command, grace_s, limit_s):
    """Runs the command to its end, a signal or the limit; nothing of it is left. Returns its exit code."""
    for number in ENDING:
        signal.signal(number, raise_stopped)
    signal.setitimer(signal.ITIMER_REAL, limit_s or 0)
    try:
        if launcher == "none":
            run.choose_port()
            return run.none(command, grace_s)
        return getattr(run, launcher)(command)
    except Stopped as stopped:
        return stopped.code
    finally:
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)
        run.end_all()
