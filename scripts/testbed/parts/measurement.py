# SPDX-License-Identifier: Apache-2.0
"""Whether the links are what they claim to be."""
import json
import statistics
import subprocess
import sys

from . import stream
from .common import Failure, checked, rate_text
from .network import address

LONG_BYTES = 64 * 2**20
LONG_S = 0.6
PAUSE_S = 1.0
ORDER = ["long", "short", "short"] * 3
ROUNDS = 3

# TCP's payload is 1448 of the 1514 bytes of a frame, 0.956.
LEAST_SHARE = 0.90
MOST_FLATTERY = 1.05
# Above this rate it is the processor that limits, not the link.
SURE_RATE_BIT_S = 1e9


def long_bytes(rate_bit_s):
    """64 MiB, or less on a link that takes longer than LONG_S for it."""
    return LONG_BYTES if not rate_bit_s else min(LONG_BYTES, int(rate_bit_s / 8 * LONG_S))


def stream_seconds(testbed, sizes):
    """How long messages of these sizes take a plain stream from n1 to n2, each after a pause."""
    target = address("n2")
    program = [sys.executable, "-B", stream.__file__]
    receiver = subprocess.Popen(testbed.inside("n2", [*program, "receive", target]), stdout=subprocess.PIPE)
    try:
        port = receiver.stdout.readline().decode().strip()
        words = ["send", target, port, str(PAUSE_S), *map(str, sizes)]
        return json.loads(checked(testbed.inside("n1", [*program, *words]), "could not measure the links"))
    finally:
        receiver.kill()
        receiver.communicate()


def row(bytes_, seconds):
    rates = [8e-9 * bytes_ / second for second in seconds]
    return {"bytes": bytes_, "pause_s": PAUSE_S, "median_gbit_s": round(statistics.median(rates), 5),
            "gbit_s": [round(rate, 5) for rate in rates]}


def rows(testbed):
    """Payload rates, of short and of long messages."""
    sizes = {"short": testbed.shape.fair_from, "long": long_bytes(testbed.shape.rate_bit_s)}
    seconds = stream_seconds(testbed, [sizes[kind] for kind in ORDER])
    return [row(sizes[kind], [taken for which, taken in zip(ORDER, seconds) if which == kind])
            for kind in ("short", "long")]


def complaint(rate_bit_s, fair_from, short, long):
    """Why such rates are not those of a link of this rate; empty where they are."""
    link = rate_bit_s * 1e-9
    if short > MOST_FLATTERY * max(long, LEAST_SHARE * link):
        return (f"a burst flatters short messages: {fair_from >> 10} KiB after a pause ran at {short:.3f} Gbit/s, "
                f"long ones at {long:.3f}")
    if long < LEAST_SHARE * link and rate_bit_s <= SURE_RATE_BIT_S:
        return (f"the link is slow: long messages ran at {long:.3f} of {link:g} Gbit/s "
                f"(at least {LEAST_SHARE} of it is wanted); is the machine busy, or --cpus small?")
    return ""


def take(testbed, rounds=ROUNDS):
    """Measures and keeps the figures. One round has to be good: others may have kept the machine busy."""
    rate = testbed.shape.rate_bit_s
    for _ in range(rounds):
        result = rows(testbed)
        why_not = complaint(rate, testbed.shape.fair_from, *(line["median_gbit_s"] for line in result)) if rate else ""
        if not why_not:
            break
    document = {"schema": "isobar.testbed.measure/1", "testbed": testbed.name, "rate_bit_s": rate,
                "complaint": why_not, "rows": result}
    (testbed.folder / "measure.json").write_text(json.dumps(document, indent=1) + "\n")
    return document


def judge(testbed, document, where=sys.stdout):
    """Prints the figures, and refuses a testbed whose links are not what they claim."""
    for line in document["rows"]:
        print(f"  {line['bytes'] / 2**20:5.2f} MiB after {line['pause_s']:g} s: "
              f"{line['median_gbit_s']:.3f} Gbit/s of payload", file=where)
    if document["complaint"]:
        raise Failure(f"the testbed '{testbed.name}' is up but not fit for measuring: {document['complaint']}")
    rate = document["rate_bit_s"]
    if rate and document["rows"][1]["median_gbit_s"] < LEAST_SHARE * rate * 1e-9:
        print(f"  the links of {rate_text(rate)} are faster than this machine's processor", file=where)


def stored(testbed):
    """The last measurement, where there is one and it found nothing wrong."""
    try:
        document = json.loads((testbed.folder / "measure.json").read_text())
    except FileNotFoundError:
        return None
    return None if document["complaint"] else document
