// SPDX-License-Identifier: Apache-2.0
#include <isobar/ddp/compressor.hpp>

#include "ddp/compressor_access.hpp"

#include <isobar/core/error.hpp>
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <mutex>

namespace isobar {
namespace {

constexpr std::string_view kResidual = ".residual";

bool is_residual(const std::string& key) {
  return key.size() > kResidual.size() &&
         key.compare(key.size() - kResidual.size(), kResidual.size(), kResidual) == 0;
}

int64_t bytes_of(const at::Tensor& tensor) { return static_cast<int64_t>(tensor.nbytes()); }

/// Of who uses which compressor.
std::mutex& users_mutex() {
  static std::mutex mutex;
  return mutex;
}

}  // namespace

void CompressorAccess::claim(Compressor& compressor, const std::shared_ptr<const GradOwner>& user) {
  const std::lock_guard lock(users_mutex());
  const auto present = compressor.user_.lock();
  ISOBAR_CHECK(!present || present == user || present->is_replaced || present->is_gone,
               "Reducer: the compressor ", compressor.description(), " already serves ",
               present->name.empty() ? "another reducer" : present->name,
               ", whose gradients it remembers; make one for each wrapper, on each rank");
  compressor.user_ = user;
}

bool CompressorAccess::serves(const Compressor& compressor,
                              const std::shared_ptr<const GradOwner>& user) {
  const std::lock_guard lock(users_mutex());
  return compressor.user_.lock() == user;
}

double BucketPiece::divisor_inside() const {
  return has_rounded_sums(values.scalar_type()) ? divisor : 1;
}

void BucketPiece::divide_outside() const {
  if (!has_rounded_sums(values.scalar_type())) values.div_(divisor);
}

Work BucketChannel::allreduce(at::Tensor buffer, int64_t payload_bytes, double divisor) {
  const int64_t bytes = payload_bytes < 0 ? bytes_of(buffer) : payload_bytes;
  traffic_.payload_bytes += bytes;
  traffic_.sent_bytes += 2 * (size() - 1) * bytes / size();
  return group_.allreduce(std::move(buffer), {.mark = mark_, .divisor = divisor});
}

Work BucketChannel::all_to_all(at::Tensor output, at::Tensor input) {
  traffic_.payload_bytes += bytes_of(input);
  traffic_.sent_bytes += (size() - 1) * bytes_of(input) / size();
  const std::vector<int64_t> rows(size(), input.size(0) / size());
  return group_.all_to_all(std::move(output), std::move(input), rows, rows, mark_);
}

Work BucketChannel::all_gather(at::Tensor output, at::Tensor input) {
  traffic_.payload_bytes += bytes_of(input);
  traffic_.sent_bytes += (size() - 1) * bytes_of(input);
  return group_.all_gather(std::move(output), std::move(input), mark_);
}

void average_residuals(Compressor& compressor, Communicator& group) {
  c10::NoGradGuard no_grad;
  auto state = compressor.state();
  for (auto& [key, tensor] : state.tensors) {
    if (!is_residual(key)) continue;
    group.allreduce(tensor).wait();
    tensor.div_(group.size());
  }
  compressor.load(state);
}

}  // namespace isobar
