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

COLLECTIVES, REDUCER, STEP, ARRIVALS = (f"lib/ddp/{name}.cpp" for name in ("reducer_collectives", "reducer", "reducer_step", "reducer_arrivals"))
FROZEN, COMPRESSOR, WRAPPER = (f"lib/ddp/{name}.cpp" for name in ("frozen_parameters", "compressor", "data_parallel"))
BUFFERS, OPTIMIZER, ARRAYS = (f"lib/ddp/{name}.cpp" for name in ("gradient_buffers", "flat_optimizer", "flat_arrays"))
WATCH, CHECK, AGREEMENT, BITS = (f"lib/ddp/{name}.cpp" for name in ("module_watch", "parameter_check", "reducer_agreement", "tensor_bits"))

MISTAKES = [
    Mistake("drop the last bucket", COLLECTIVES, "  if (!bucket.share.defined()) return channel.allreduce(",
            "  if (index > 0 && index + 1 == static_cast<int64_t>(buckets_.size())) return {};\n"
            "  if (!bucket.share.defined()) return channel.allreduce("),
    Mistake("skip the division", COLLECTIVES, "  if (divisor == 1) return {};", "  if (divisor > 0) return {};"),
    Mistake("swap the groups", COLLECTIVES, "  if (reduction == Reduction::sharded || two_levels_) {",
            "  if (reduction != Reduction::sharded || two_levels_) {"),
    Mistake("swap the divisors", COLLECTIVES, "reduction == Reduction::replicated ? groups.world.size()",
            "reduction == Reduction::partial ? groups.world.size()"),
    Mistake("double a sample", STEP, "  arrivals.add(parameter);\n",
            "  if (groups.world.rank() == 0 && parameter == 0) parameters[0].tensor.mutable_grad().data().mul_(2);\n"
            "  arrivals.add(parameter);\n"),
    Mistake("leave a share undivided", COLLECTIVES,
            "    divide_values(bucket.share.defined() ? bucket.share : bucket.values, bucket.divisor);",
            "    if (!bucket.share.defined()) divide_values(bucket.values, bucket.divisor);"),
    Mistake("gather over the scatter's communicator", COLLECTIVES, "gather_->all_gather(", "scatter_->all_gather("),
    Mistake("hand over the first bucket after all others", STEP, "    collectives.complete(index);\n",
            "    for (size_t k = 0; b == 0 && k < plan.size(); ++k) collectives.complete(static_cast<int64_t>(k));\n"
            "    if (b > 0) collectives.complete(index);\n"),
    Mistake("send at the first of several gradients", ARRIVALS, "kForEver : expected_[parameter];",
            "kForEver : std::min<int64_t>(1, expected_[parameter]);"),
    Mistake("take a gradient's graph away at once", STEP,
            "options.compressor || buffers->has_graph(parameter) || buffers", "options.compressor || buffers"),
    Mistake("keep a stale gradient", BUFFERS, "    slots_[parameter].zero_();", "    ;"),
    Mistake("allocate in a step", COLLECTIVES, "  values.div_(divisor);", "  values.div_(divisor.item<double>());"),
    Mistake("send while gradients are only accumulated", STEP, "  if (is_accumulating()) return;\n", ""),
    Mistake("launch in the order of arrival", STEP, "         arrivals.is_complete(collectives.launched())) {",
            "         arrivals.is_complete(bucket_of[parameter])) {"),
    Mistake("let anybody write to a gradient under way", BUFFERS, "guards_[parameter].is_touched() ||", "false ||"),
    Mistake("let anybody write through an alias", BUFFERS, "hidden._version() != versions_[parameter]", "false"),
    Mistake("take a version that gradients share for one's own", BUFFERS, "(is_slot && ", "("),
    Mistake("keep a pass that was thrown away", STEP, "  take_discards(parameter);\n", ""),
    Mistake("take a scaled pass for one that was thrown away", BUFFERS, "  slots_[parameter].fill_(1);\n", ""),
    Mistake("send what does not fit", STEP, "frozen.is_frozen(p) || unusable[p]", "frozen.is_frozen(p)"),
    Mistake("miss a gradient that was replaced", BUFFERS, "  if (is_replaced) return Interference::replaced;\n", ""),
    Mistake("leave a launched gradient visible", STEP, "    for (const int64_t p : bucket.parameters) buffers->hide_sent(p);\n", ""),
    Mistake("leave a gradient visible that waits", STEP, "  buffers->hide(parameter);\n", ""),
    Mistake("update in spite of what was written", STEP, "on_bucket && errors.empty() ? &on_bucket", "on_bucket ? &on_bucket"),
    Mistake("wait for frozen parameters", ARRIVALS, "  if (frozen_[parameter]) return 0;\n", ""),
    Mistake("give frozen parameters a gradient", STEP, "frozen.is_frozen(p) || unusable[p]", "unusable[p]"),
    Mistake("bind frozen parameters where all are zeroed", BUFFERS, "is_trained ? slots_[i] : at::Tensor()", "slots_[i]"),
    Mistake("bind frozen parameters in a new plan", BUFFERS, "    if (!parameters_[i].requires_grad() || !fits(p)) continue;\n", "    if (!fits(p)) continue;\n"),
    Mistake("keep frozen parameters to oneself", FROZEN, "    if (!frozen_[p]) continue;\n", "    continue;\n"),
    Mistake("count frozen parameters, whichever they are", FROZEN, "static_cast<uint32_t>(hash >> 32)", "0"),
    Mistake("drop what was accumulated before a freeze", FROZEN, " && !has_accumulated(p)", ""),
    Mistake("take what is left of an earlier step for accumulated", FROZEN, "  if (trained_.empty() || !trained_[parameter]) return false;\n", ""),
    Mistake("leave a thawed parameter out", STEP, "  if (is_open && frozen.is_thawed(parameter)) thaw(parameter);\n", ""),
    Mistake("scatter without a mark", COLLECTIVES, "{.mark = bucket.mark, .divisor = bucket.divisor_inside_model}",
            "{.divisor = bucket.divisor_inside_model}"),
    Mistake("keep a gradient that was detached", BUFFERS, "std::exchange(grad, slots_[parameter]);", "grad;"),
    Mistake("let anybody write to a gradient with a graph", BUFFERS, "is_equal ? Interference::none", "true ? Interference::none"),
    Mistake("take an earlier wrapper's sums for gradients", BUFFERS, "!grad.requires_grad() && c10::impl::cow::", "false && c10::impl::cow::"),
    Mistake("leave the caller's buffer behind", BUFFERS, "  lent.copy_(slots_[parameter]);\n", ""),
    Mistake("divide again inside on_bucket", STEP, "!owner->is_finishing", "true"),
    Mistake("give a compressor to two wrappers", COMPRESSOR, "  ISOBAR_CHECK(!present ||", "  ISOBAR_CHECK(true || !present ||"),
    Mistake("lose the compressor to a wrapper that was not made", STEP, "  if (index == 0) keep_compressor();\n", ""),
    Mistake("forget the scope of the earlier wrapper", WRAPPER, "ReducerAccess::owner(reducer)->scopes = earlier_.back()->scopes;", ";"),
    Mistake("untie what shares memory", ARRAYS, "  ISOBAR_CHECK(found.empty(),", "  ISOBAR_CHECK(true || found.empty(),"),
    Mistake("update by another reducer's gradients", OPTIMIZER, "    impl->check_own(reduced);\n", ""),
    Mistake("take all reducers for one", AGREEMENT, "{made++}", "{made}"),
    Mistake("give a parameter to two reducers", AGREEMENT, "  if (!owner) return;\n", "  if (true) return;\n"),
    Mistake("count steps instead of taking their number", REDUCER, "  impl_->step = number;\n", ""),
    Mistake("miss an unfrozen parameter", WATCH, "(seen_[next].was_trained || !tensor.requires_grad())", "true"),
    Mistake("miss a replaced parameter", WATCH, "seen_[next].tensor.is_same(tensor) &&", ""),
    Mistake("miss a parameter that was added", WATCH, "  return same && next == seen_.size();", "  return same;"),
    Mistake("never compare parameters early", CHECK, "  return step < every_ ? is_power_of_two : step % every_ == 0;",
            "  return step % every_ == 0;"),
    Mistake("leave frozen parameters uncompared", CHECK, "    if (!item.value().requires_grad()) shared_", "    if (false) shared_"),
    Mistake("update frozen parameters", OPTIMIZER, "    if (frozen[p]) continue;\n", ""),
    Mistake("train weights that nobody sees", OPTIMIZER, "    arrays.take_in();\n", ""),
    Mistake("write expanded tensors as if they were not", BITS, "like.size(d) > 1 && like.stride(d) == 0", "false"),
    Mistake("leave a sparse tensor's indices out", BITS, "return {plain._indices(), plain._values()};", "return {plain._values()};"),
    Mistake("update with the last step's moments", OPTIMIZER, "    at::_foreach_add_(r.steps, 1);\n", ""),
]

if __name__ == "__main__":
    sys.exit(main(__doc__, MISTAKES, "ddp_test"))
