#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Does ddp_test notice a reducer that is wrong? Makes one mistake at a time in lib/ddp, builds, and runs the test.

    tests/ddp/mutations.py build/release [NAME ...]

The sources are changed in place, one file at a time, and put back; what is not committed there is refused. Exit code
0: every mistake was noticed. A mistake takes the time of compiling a file and of ddp_test, about a minute.
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from mutation import Mistake, main  # noqa: E402

COLLECTIVES, REDUCER, ARRIVALS = (f"lib/ddp/{name}.cpp" for name in ("reducer_collectives", "reducer", "reducer_arrivals"))
BUFFERS, OPTIMIZER = (f"lib/ddp/{name}.cpp" for name in ("gradient_buffers", "flat_optimizer"))

MISTAKES = [
    Mistake("drop the last bucket", COLLECTIVES, "  if (!bucket.share.defined()) return channel.allreduce(",
            "  if (index > 0 && index + 1 == static_cast<int64_t>(buckets_.size())) return {};\n"
            "  if (!bucket.share.defined()) return channel.allreduce("),
    Mistake("skip the division", COLLECTIVES, "  if (divisor == 1) return {};", "  if (divisor > 0) return {};"),
    Mistake("swap the groups", COLLECTIVES, "  if (reduction == Reduction::sharded || two_levels_) {",
            "  if (reduction != Reduction::sharded || two_levels_) {"),
    Mistake("swap the divisors", COLLECTIVES, "reduction == Reduction::replicated ? groups.world.size()",
            "reduction == Reduction::partial ? groups.world.size()"),
    Mistake("double a sample", REDUCER, "  arrivals.add(parameter);\n",
            "  if (groups.world.rank() == 0 && parameter == 0) parameters[0].tensor.mutable_grad().data().mul_(2);\n"
            "  arrivals.add(parameter);\n"),
    Mistake("leave a share undivided", COLLECTIVES,
            "    divide_values(bucket.share.defined() ? bucket.share : bucket.values, bucket.divisor);",
            "    if (!bucket.share.defined()) divide_values(bucket.values, bucket.divisor);"),
    Mistake("gather over the scatter's communicator", COLLECTIVES, "gather_->all_gather(", "scatter_->all_gather("),
    Mistake("hand over the first bucket after all others", REDUCER, "    collectives.complete(index);\n",
            "    for (size_t k = 0; b == 0 && k < plan.size(); ++k) collectives.complete(static_cast<int64_t>(k));\n"
            "    if (b > 0) collectives.complete(index);\n"),
    Mistake("send at the first of several gradients", ARRIVALS, "  return is_counted() ? expected_[parameter] : 0;",
            "  return is_counted() ? std::min<int64_t>(1, expected_[parameter]) : 0;"),
    Mistake("take a gradient's graph away at once", REDUCER,
            "!options.compressor && !buffers->has_graph(parameter) && ", "!options.compressor && "),
    Mistake("keep a stale gradient", BUFFERS, "    slots_[parameter].zero_();", "    ;"),
    Mistake("allocate in a step", COLLECTIVES, "  values.div_(divisor);", "  values.div_(divisor.item<double>());"),
    Mistake("send while gradients are only accumulated", REDUCER, "  if (accumulation_scopes > 0) return;\n", ""),
    Mistake("launch in the order of arrival", REDUCER, "         arrivals.is_complete(collectives.launched())) {",
            "         arrivals.is_complete(bucket_of[parameter])) {"),
    Mistake("update with the last step's moments", OPTIMIZER, "    at::_foreach_add_(r.steps, 1);\n", ""),
]

if __name__ == "__main__":
    sys.exit(main(__doc__, MISTAKES, "ddp_test"))
