# SPDX-License-Identifier: Apache-2.0
"""What can happen to a node's link: impaired by a relay in the cable, slowed, cut, healed, its connections reset."""
import dataclasses
import json
import sys
from pathlib import Path

from . import processes, relay
from .common import Failure, checked
from .network import SUBNET, batch, limit, unlimit

# A relay that does not keep up must not lose what nobody asked it to lose.
QUEUE_FRAMES = 50_000


def record(testbed, node):
    return testbed.process(f"link-{node}")


def report_file(testbed, node):
    return testbed.folder / f"link-{node}.json"


def in_switch(testbed, command):
    switch = testbed.process("switch").pid
    return ["nsenter", f"--target={switch}", "--net", *command]


def device(testbed, node, name):
    """A device of the switch, as `ip -json` describes it; None if there is none."""
    text = checked(in_switch(testbed, ["ip", "-json", "link", "show"]), f"could not look at {node}'s link")
    return next((entry for entry in json.loads(text) if entry["ifname"] == name), None)


def impair(testbed, node, impairment):
    """Puts a relay between the node's port and the bridge, or another in its place."""
    remove_relay(testbed, node)
    options = json.dumps(dataclasses.asdict(impairment))
    testbed.start(f"link-{node}", in_switch(testbed, [
        sys.executable, "-B", relay.__file__, node, str(report_file(testbed, node)), options]))

    def standing():
        if not record(testbed, node).alive():
            said = (testbed.log / f"link-{node}").read_text().strip().splitlines()
            raise Failure(f"{node}'s relay did not start: {said[-1] if said else 'it said nothing'}")
        return report_file(testbed, node).exists()
    processes.wait_for(f"{node}'s relay", standing)
    batch(testbed, "switch", "ip",
          f"link add {node}-side type bridge\nlink set {node}-side up\n"
          f"link set {node}-a txqueuelen {QUEUE_FRAMES} master {node}-side up\n"
          f"link set {node}-b txqueuelen {QUEUE_FRAMES} master bridge up\n"
          f"link set {node} master {node}-side\n")


def remove_relay(testbed, node):
    record(testbed, node).end()
    report_file(testbed, node).unlink(missing_ok=True)
    if device(testbed, node, f"{node}-side"):
        batch(testbed, "switch", "ip", f"link set {node} master bridge\nlink delete {node}-side\n")


def cut(testbed, node):
    """Nothing passes, and nobody is told, as when a cable is pulled."""
    batch(testbed, "switch", "ip", f"link set {node} down\n")


def rate_file(testbed, node):
    return testbed.folder / f"link-{node}.rate"


def slow_down(testbed, node, rate_bit_s):
    """Another rate each way than the testbed's, also while something runs."""
    limit(testbed, node, rate_bit_s)
    rate_file(testbed, node).write_text(f"{rate_bit_s:.0f}\n")


def restore_rate(testbed, node):
    if not rate_file(testbed, node).exists():
        return
    (limit if testbed.shape.rate_bit_s else unlimit)(testbed, node)
    rate_file(testbed, node).unlink()


def heal(testbed, node):
    batch(testbed, "switch", "ip", f"link set {node} up\n")
    remove_relay(testbed, node)
    restore_rate(testbed, node)


def reset(testbed, node):
    """Ends the node's TCP connections with other nodes; both ends see a reset."""
    done = checked(testbed.inside(node, ["ss", "--kill", "--no-header", "--tcp", "state", "connected",
                                         "dst", f"{SUBNET}.0/24"]), f"could not reset {node}'s connections")
    return len(done.splitlines())


def state(testbed, node):
    """What there is to say of a node's link."""
    port = device(testbed, node, node)
    result = {"node": node, "cut": "UP" not in port["flags"]}
    file = report_file(testbed, node)
    slowed = rate_file(testbed, node)
    result["rate_bit_s"] = float(slowed.read_text()) if slowed.exists() else testbed.shape.rate_bit_s
    return {**result, "relay": json.loads(Path(file).read_text()) if file.exists() else None}
