#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Does ddp_test notice a reducer that is wrong? Makes one mistake at a time in lib/ddp, builds, and runs the test.

    tests/ddp/mutations.py build/release [NAME ...]

The sources are changed in place, one file at a time, and put back; what is not committed there is refused. Exit code
0: every mistake was noticed. A mistake takes the time of compiling a file and of ddp_test, about a minute.
"""
import argparse
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

COLLECTIVES, REDUCER, ARRIVALS = (f"lib/ddp/{name}.cpp" for name in ("reducer_collectives", "reducer", "reducer_arrivals"))
BUFFERS, OPTIMIZER = (f"lib/ddp/{name}.cpp" for name in ("gradient_buffers", "flat_optimizer"))


class Mistake(NamedTuple):
    name: str
    file: str
    right: str
    wrong: str


MISTAKES = [
    Mistake("drop the last bucket", COLLECTIVES, "  bucket.allreduce =\n      bucket.allreduce_over->allreduce(",
            "  if (allreduced_ == 0 || allreduced_ + 1 < static_cast<int64_t>(buckets_.size()))\n"
            "    bucket.allreduce =\n      bucket.allreduce_over->allreduce("),
    Mistake("skip the division", COLLECTIVES, "  if (divisor == 1) return {};", "  if (divisor > 0) return {};"),
    Mistake("swap the groups", COLLECTIVES, "  if (reduction == Reduction::sharded || two_levels_) {",
            "  if (reduction != Reduction::sharded || two_levels_) {"),
    Mistake("swap the divisors", COLLECTIVES, "reduction == Reduction::replicated ? groups.world.size()",
            "reduction == Reduction::partial ? groups.world.size()"),
    Mistake("double a sample", REDUCER, "  arrivals.add(parameter);\n",
            "  if (groups.world.rank() == 0 && parameter == 0) parameters[0].tensor.mutable_grad().data().mul_(2);\n"
            "  arrivals.add(parameter);\n"),
    Mistake("leave a share undivided", COLLECTIVES, "    divide(bucket.share, bucket.divisor);\n", ""),
    Mistake("gather over the scatter's communicator", COLLECTIVES, "bucket.gather = gather_->", "bucket.gather = scatter_->"),
    Mistake("hand over the first bucket after all others", REDUCER, "    collectives.complete(index);\n",
            "    for (size_t k = 0; b == 0 && k < plan.size(); ++k) collectives.complete(static_cast<int64_t>(k));\n"
            "    if (b > 0) collectives.complete(index);\n"),
    Mistake("send at the first of several gradients", ARRIVALS, "  return is_counted() ? expected_[parameter] : 0;",
            "  return is_counted() ? std::min<int64_t>(1, expected_[parameter]) : 0;"),
    Mistake("take a gradient's graph away at once", REDUCER,
            "  if (!buffers->has_graph(parameter) && buffers->bind(parameter))", "  if (buffers->bind(parameter))"),
    Mistake("keep a stale gradient", BUFFERS, "    slots_[parameter].zero_();", "    ;"),
    Mistake("allocate in a step", COLLECTIVES, "  values.div_(divisor);", "  values.div_(divisor.item<double>());"),
    Mistake("send while gradients are only accumulated", REDUCER, "  if (accumulation_scopes > 0) return;\n", ""),
    Mistake("launch in the order of arrival", REDUCER, "         arrivals.is_complete(collectives.launched())) {",
            "         arrivals.is_complete(bucket_of[parameter])) {"),
    Mistake("update with the last step's moments", OPTIMIZER, "    at::_foreach_add_(r.steps, 1);\n", ""),
]


def run(command, limit_s):
    return subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)


def failed_tests(result):
    lines = result.stdout.splitlines()
    return sorted({line.split("] ")[1].split(" (")[0].split(",")[0] for line in lines
                   if line.startswith("[  FAILED  ]") and "(" in line})


def verdict(build):
    """(whether the mistake was noticed, by what)."""
    built = run(["cmake", "--build", build, "--target", "ddp_test"], 900)
    if built.returncode:
        raise SystemExit(f"does not build:\n{built.stdout[-2000:]}")
    try:
        result = run([f"{build}/bin/ddp_test"], 300)
    except subprocess.TimeoutExpired:
        return True, "the test did not end within 300 s"
    names = failed_tests(result)
    if result.returncode and not names:
        return True, f"exit code {result.returncode}"
    return result.returncode != 0, f"{len(names)} tests, {', '.join(names[:3])}" if names else "nothing"


def try_mistake(mistake, build):
    file = Path(mistake.file)
    source = file.read_text(encoding="utf-8")
    if source.count(mistake.right) != 1:
        raise SystemExit(f"{mistake.name}: {mistake.file} does not have this once: {mistake.right!r}")
    try:
        file.write_text(source.replace(mistake.right, mistake.wrong), encoding="utf-8")
        return verdict(build)
    finally:
        file.write_text(source, encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", help="a configured build folder")
    parser.add_argument("names", nargs="*", help="only these mistakes")
    arguments = parser.parse_args()
    if run(["git", "status", "--porcelain", "lib/ddp"], 60).stdout:
        raise SystemExit("lib/ddp has changes that are not committed")
    chosen = [m for m in MISTAKES if not arguments.names or m.name in arguments.names]
    missed = 0
    for mistake in chosen:
        noticed, by = try_mistake(mistake, arguments.build)
        missed += not noticed
        print(f"{'noticed' if noticed else 'MISSED':<8} {mistake.name}: {by}", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} mistakes were noticed")
    run(["cmake", "--build", arguments.build, "--target", "ddp_test"], 900)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
