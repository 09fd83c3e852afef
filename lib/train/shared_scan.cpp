// SPDX-License-Identifier: Apache-2.0
#include <isobar/train/shared_scan.hpp>

#include <isobar/comm/own_pace.hpp>

namespace isobar {

void share_scan(FieldScan& scan, Communicator& world,
                const std::function<void(int64_t done, int64_t total)>& progress) {
  run_at_own_pace(
      world,
      [&](const Advance& advance) {
        scan.look_through(world.rank(), world.size(), [&] { advance(1); });
      },
      [&](int64_t done) {
        if (progress) progress(done, scan.fields());
      });
  const auto combine = [&](const std::vector<at::Tensor>& tensors, ReduceOp op) {
    for (const at::Tensor& tensor : tensors) world.allreduce(tensor, op).synchronize();
  };
  combine(scan.sums(), ReduceOp::sum);
  combine(scan.minima(), ReduceOp::minimum);
  combine(scan.maxima(), ReduceOp::maximum);
}

}  // namespace isobar
