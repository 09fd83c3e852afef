#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Does compress_test notice a compressor that is wrong? Makes one mistake at a time, builds, and runs the test.

    tests/compress/mutations.py build/release [NAME ...]

The sources are changed in place, one file at a time, and put back; what is not committed there is refused. Exit code
0: every mistake was noticed. A mistake takes the time of compiling a file and of compress_test, about a minute.
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from mutation import Mistake, main  # noqa: E402

ACP, POWER = "lib/compress/acp_sgd.cpp", "lib/compress/power_sgd.cpp"
SHARED, BUCKETS, KERNELS, RULE = (f"lib/compress/low_rank{part}.cpp" for part in ("_compressor", "_buckets", "_kernels", ""))
LOOPS, TENSORS = "lib/compress/low_rank_loops.hpp", "lib/compress/low_rank_tensors.cpp"
COLLECTIVES, STATE = "lib/ddp/reducer_collectives.cpp", "lib/ddp/compressor.cpp"
TASKS, STAGES_TEST = "lib/ddp/bucket_tasks.cpp", "nccl_stages_test"

MISTAKES = [
    Mistake("keep what is missing in the sum", POWER, "    matrix.set_pending(true);\n",
            "    matrix.passes.pending_left = matrix.left; matrix.passes.pending_right = matrix.sent_right;\n"),
    Mistake("drop the residual", ACP, "      matrix.set_pending(false);\n",
            "      matrix.set_pending(false);\n      matrix.passes.residual.zero_();\n"),
    Mistake("compute the same factor in every step", ACP, "return index % 2 == 0 ? Side::right : Side::left;",
            "return Side::right;"),
    Mistake("skip the division", ACP, ".div_(bucket.piece.divisor);", ";"),
    Mistake("skip the division of dense runs", POWER,
            "  bucket.left_payload.narrow(0, bucket.left_values, bucket.dense_values).div_(bucket.piece.divisor);\n", ""),
    Mistake("draw first factors by rank", SHARED, "  auto& factor = matrix.sent(first_basis(index));\n",
            "  auto& factor = matrix.sent(first_basis(index));\n"
            "  static thread_local int own = 0;\n  index += reinterpret_cast<intptr_t>(&own) / 4096 % 4096;\n"),
    Mistake("leave the subtraction pending for good", ACP, "      matrix.set_pending(true);\n",
            "      matrix.set_pending(false);\n"),
    Mistake("skip the orthonormalization", ACP, "  orthonormalize(bucket, basis());\n",
            "  for (auto& m : bucket.matrices) m.basis(basis()).copy_(at::nan_to_num(m.sent(basis()), 0, 0, 0));\n"),
    Mistake("forget the dense runs", BUCKETS, "  add_dense(begin + rows * slot.columns, end);\n", ""),
    Mistake("forget to take out the dense runs", ACP, "  unpack_dense(bucket, computed());\n", ""),
    Mistake("take another rank's share", COLLECTIVES, "bucket.share.numel() * groups_.model->rank();",
            "bucket.share.numel() * (groups_.model->size() - 1 - groups_.model->rank());"),
    Mistake("read gradients that are not there yet", COLLECTIVES,
            "  if (is_compressed_ && !two_levels_ && compressor_->reads_in_place()) return;\n",
            "  bucket.sources.clear();\n"),
    Mistake("start a step late", SHARED, "if (steps_++ < options_.start_step)", "if (steps_++ <= options_.start_step)"),
    Mistake("let a number that is not finite in", LOOPS, "if (sum_of_lanes<T>(zero) != 0) {", "if (false) {"),
    Mistake("let a product overflow", LOOPS, "if (all_finite(rows[a], m.rank)) continue;", "if (true) continue;"),
    Mistake("let an overflow in", KERNELS, "  if (!all_finite(right.const_data_ptr<T>(), right.numel())) {", "  if (false) {"),
    Mistake("send it without telling", ACP, "    if (number.defined()) matrix.sent(computed()).add_(number);\n", ""),
    Mistake("restart without the parity", SHARED, "  compressed_steps_ = loaded_at_ = compressed_steps;\n",
            "  compressed_steps_ = loaded_at_ = compressed_steps / 2 * 2;\n"),
    Mistake("save what is still pending", BUCKETS, "  settle(passes);\n", ""),
    Mistake("restart without factors", SHARED, "        matrix.sent(side).copy_(*factor);\n", "        ;\n"),
    Mistake("forget residuals with the buckets", SHARED, "    set_residuals(bucket, {next, end});\n", ""),
    Mistake("forget what a new plan no longer compresses", BUCKETS,
            "    run.residual = residual.any().item<bool>() ? residual.clone() : at::Tensor();\n", ""),
    Mistake("never compare factors", SHARED, "return options_.compare_every > 0 &&", "return options_.compare_every > 0 && false &&"),
    Mistake("keep columns of zeros", BUCKETS, "    stacked = replace_zero_columns(bucket, stacked);\n", ""),
    Mistake("square the gradients", POWER, "return finite.div(sizes.masked_fill(sizes == 0, 1));", "return finite;"),
    Mistake("keep a projection on a device", TENSORS, "  if (keep == Keep::projection) m.residual.addmm_(left, right, 1, -1);\n", ""),
    Mistake("settle twice on a device", TENSORS, "m.pending_right, 1, -1)", "m.pending_right, 1, -2)"),
    Mistake("let a number that is not finite in on a device", TENSORS,
            "at::where(zeros.isnan(), zeros.new_zeros({}), gradient)", "gradient"),
    Mistake("compress vectors", RULE, "return rows > 1 && columns > 1 &&", "return rows > 0 && columns > 0 &&"),
    Mistake("sum residuals instead of averaging", STATE, "    tensor.div_(group.size());\n", ""),
    Mistake("start later stages over NCCL whenever they can", COLLECTIVES,
            "has_later_stages ? DeviceOrder::of(groups.world, device) : nullptr",
            "has_later_stages ? nullptr : DeviceOrder::of(groups.world, device)", target=STAGES_TEST),
    Mistake("wait in a hook until stages are issued", TASKS, "gate->pass(task); }));\n",
            "gate->pass(task); }));\n  order_->await_tasks();\n", target=STAGES_TEST),
    Mistake("leave tasks behind", TASKS, "BucketTasks::~BucketTasks() { clear(); }", "BucketTasks::~BucketTasks() {}",
            target=STAGES_TEST),
    Mistake("let go of gradients that a task reads", COLLECTIVES, "    bucket.works[stage] = start(bucket, stage);\n",
            "    bucket.works[stage] = start(bucket, stage);\n    bucket.sources.clear();\n", target=STAGES_TEST),
]

if __name__ == "__main__":
    sys.exit(main(__doc__, MISTAKES, "compress_test"))
