# SPDX-License-Identifier: Apache-2.0
"""Processor time for each node, by control groups of version 1 or 2."""
import contextlib
import time
from dataclasses import dataclass
from pathlib import Path

from .common import Failure

PERIODS_US = (1_000, 1_000_000)  # the kernel's least and most
LEAST_QUOTA_US = 1_000


@dataclass
class Controller:
    """Where groups with a quota are made, and how."""

    root: Path
    version: int

    def make(self, group, cpus, period_us):
        group.mkdir(parents=True, exist_ok=True)
        quota = int(cpus * period_us)
        if self.version == 1:
            (group / "cpu.cfs_period_us").write_text(str(period_us))
            (group / "cpu.cfs_quota_us").write_text(str(quota))
        else:
            (group / "cpu.max").write_text(f"{quota} {period_us}")

    def prepare(self, parent):
        """The folder that holds the nodes' groups."""
        parent.mkdir(exist_ok=True)
        if self.version == 2:
            for folder in (self.root, parent):
                (folder / "cgroup.subtree_control").write_text("+cpu")


def find_controller(mounts=Path("/proc/self/mounts")):
    for line in mounts.read_text().splitlines():
        _, folder, kind, options, *_ = line.split()
        if kind == "cgroup" and "cpu" in options.split(","):
            return Controller(Path(folder), 1)
        controllers = Path(folder) / "cgroup.controllers"
        if kind == "cgroup2" and controllers.exists() and "cpu" in controllers.read_text().split():
            return Controller(Path(folder), 2)
    raise Failure("--cpus: no control group here can limit processor time (no cpu controller is mounted)")


def parent_of(controller, testbed):
    return controller.root / f"isobar-testbed-{testbed.name}"


def build(testbed):
    """Makes the nodes' groups; returns the line of `enter` that joins the one of $node."""
    controller = find_controller()
    parent = parent_of(controller, testbed)
    try:
        controller.prepare(parent)
        for node in testbed.node_names():
            controller.make(parent / node, testbed.shape.cpus, testbed.shape.cpu_period_us)
    except OSError as error:
        raise Failure(f"--cpus: control groups are not ours to make here: {error}") from None
    return f"echo $$ >'{parent}'/\"$node\"/cgroup.procs || exit 255\n"


def remove(testbed):
    """Removes the groups, which are empty once their processes have been reaped."""
    try:
        parent = parent_of(find_controller(), testbed)
    except Failure:
        return
    for group in [*parent.glob("n*"), parent]:
        remove_group(group)


def remove_group(group, limit_s=3.0):
    until = time.monotonic() + limit_s
    while group.is_dir():
        with contextlib.suppress(OSError):
            group.rmdir()
        if time.monotonic() > until:
            raise Failure(f"{group} is still in use")
        time.sleep(0.01)
