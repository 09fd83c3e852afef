# SPDX-License-Identifier: Apache-2.0
"""The nodes and their cables."""
import dataclasses
import os
from pathlib import Path

from . import processes
from .common import Failure, checked

SUBNET = "10.77.0"  # the same in every testbed: none sees another's, nor the host

NAMESPACES = ["--net", "--mount", "--uts", "--ipc"]

# What a link that was idle may send at once is given away, so it has to be little beside the smallest message whose
# time is taken (256 KiB); it also bridges the moments in which the kernel is late. Found by trying: less loses rate.
BURST_S = 150e-6
SMALLEST_BURST_BYTES = 6000
# Twice what TCP hands down in one piece at most: longer ones save nothing.
MOST_BURST_BYTES = 131072
# At the switch it gives nothing away to one sender, who is held at the node. Less than this stalls what comes in jerks.
SWITCH_BURSTS = 4
QUEUE_S = 0.032

ENTER = """#!/bin/sh
# Runs a command in a node: enter NODE COMMAND [ARGUMENT...]. Keeps the working folder.
node=$1; shift
read pid start < '{folder}/processes/'"$node" || exit 255
{join}{export}ISOBAR_TESTBED={token} exec nsenter --target="$pid" --net --mount --uts --ipc --wdns="$PWD" -- "$@"
"""

# mpirun starts its daemons by AGENT NODE COMMANDLINE, as by ssh.
AGENT = """#!/bin/sh
node=$1; shift
exec '{enter}' "$node" /bin/sh -c "$*"
"""

# /sys is mounted again, since network devices are listed there by who mounted it; the control groups stay.
FURNISH = """
hostname "$1"
mount -t tmpfs -o mode=1777 shm /dev/shm
mkdir "$2/groups" && mount --rbind /sys/fs/cgroup "$2/groups"
mount -t sysfs sys /sys && mount --rbind "$2/groups" /sys/fs/cgroup && umount -l "$2/groups" && rmdir "$2/groups"
mount --bind "$2/hosts" /etc/hosts
"""


def address(node):
    return f"{SUBNET}.{node.lstrip('n')}"


def burst_bytes(rate_bit_s, fair_from):
    """What an idle link gives away: little beside the shortest message whose time has to be right."""
    return max(int(rate_bit_s / 8 * BURST_S), SMALLEST_BURST_BYTES, min(fair_from // 32, MOST_BURST_BYTES))


def limiter(device, shape, bursts=1):
    """The line for `tc -batch` that gives a device its rate."""
    burst = burst_bytes(shape.rate_bit_s, shape.fair_from)
    queue = max(int(shape.rate_bit_s / 8 * QUEUE_S), 30 * SMALLEST_BURST_BYTES)
    return (f"qdisc replace dev {device} root tbf rate {shape.rate_bit_s:.0f}bit "
            f"burst {bursts * burst}b limit {queue}b\n")


def batch(testbed, node, tool, lines):
    """Runs lines of `ip` or `tc` in a node's or the switch's network."""
    enter = ["nsenter", f"--target={testbed.process(node).pid}", "--net"]
    checked([*enter, tool, "-batch", "-"], f"could not wire {node}", input=lines)


def start_keeper(testbed, name, namespaces):
    keeper = testbed.start(name, ["unshare", *namespaces, "sleep", "infinity"])
    process = testbed.process(name)

    def asleep():
        if not process.alive():
            raise Failure(f"could not make {name}: {(testbed.log / name).read_text().strip()}")
        return Path(f"/proc/{keeper.pid}/comm").read_text() == "sleep\n"
    processes.wait_for(f"{name}'s keeper", asleep)


def write_programs(testbed, join, export):
    """The programs that enter a node. They are the shell's, since each rank and daemon starts with one."""
    token = testbed.token.partition("=")[2]
    testbed.enter.write_text(ENTER.format(folder=testbed.folder, token=token, join=join, export=export))
    agent = testbed.folder / "agent"
    agent.write_text(AGENT.format(enter=testbed.enter))
    for program in (testbed.enter, agent):
        program.chmod(0o755)


def write_hosts(testbed):
    lines = [f"{address(node)} {node}\n" for node in testbed.node_names()]
    (testbed.folder / "hosts").write_text("127.0.0.1 localhost\n::1 localhost\n" + "".join(lines))


def build_switch(testbed):
    start_keeper(testbed, "switch", ["--net"])
    batch(testbed, "switch", "ip", "link set lo up\nlink add bridge type bridge\nlink set bridge up\n")


def build_node(testbed, node):
    start_keeper(testbed, node, [*NAMESPACES, "--propagation", "private"])
    keeper = testbed.process(node).pid
    furnish = ["nsenter", f"--target={keeper}", *NAMESPACES, "sh", "-ec", FURNISH, "sh", node, str(testbed.folder)]
    checked(furnish, f"could not furnish {node}")
    cable(testbed, node)


def cable(testbed, node):
    """A veth from the node to the bridge; each end sends at the link's rate, so it holds both ways."""
    keeper = testbed.process(node).pid
    batch(testbed, "switch", "ip", f"link add {node} type veth peer name eth0 netns {keeper}\n"
                                   f"link set {node} master bridge\nlink set {node} up\n")
    batch(testbed, node, "ip", f"link set lo up\naddress add {address(node)}/24 dev eth0\nlink set eth0 up\n")
    limit(testbed, node)


def limit(testbed, node, rate_bit_s=None):
    """Gives both ends of a node's cable their rate, or another."""
    shape = testbed.shape if rate_bit_s is None else dataclasses.replace(testbed.shape, rate_bit_s=rate_bit_s)
    if shape.rate_bit_s is None:
        return
    # What TCP hands down in one piece has to fit into the burst, twice: a late wake-up then costs no rate.
    piece = min(65536, burst_bytes(shape.rate_bit_s, shape.fair_from) // 2)
    batch(testbed, node, "ip", f"link set eth0 gso_max_size {piece}\n")
    batch(testbed, node, "tc", limiter("eth0", shape))
    batch(testbed, "switch", "tc", limiter(node, shape, SWITCH_BURSTS))


def unlimit(testbed, node):
    """Takes the rate away from a node's cable, which has none of its own."""
    batch(testbed, node, "ip", "link set eth0 gso_max_size 65536\n")
    batch(testbed, node, "tc", "qdisc delete dev eth0 root\n")
    batch(testbed, "switch", "tc", f"qdisc delete dev {node} root\n")


def build(testbed, join="", export=""):
    write_programs(testbed, join, export)
    write_hosts(testbed)
    build_switch(testbed)
    for node in testbed.node_names():
        build_node(testbed, node)


def sent_bytes(testbed, node):
    """What has left the node by its cable, with all headers."""
    counter = "/sys/class/net/eth0/statistics/tx_bytes"
    return int(checked(testbed.inside(node, ["cat", counter]), f"could not read {node}'s counter"))


def listening_ports(testbed, node):
    """The TCP ports that are taken in a node."""
    taken = set()
    for family in ("tcp", "tcp6"):
        table = Path(f"/proc/{testbed.process(node).pid}/net/{family}")
        rows = table.read_text().splitlines()[1:] if os.path.exists(table) else []
        taken |= {int(row.split()[1].rpartition(":")[2], 16) for row in rows}
    return taken
