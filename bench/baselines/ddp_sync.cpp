// SPDX-License-Identifier: Apache-2.0
#include "bench/baselines/ddp_sync.hpp"

#include <isobar/bench/ready_times.hpp>
#include <isobar/bench/workload.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>
#include <torch/nn/module.h>

#include <algorithm>
#include <limits>

namespace isobar::bench {
namespace {

/// As torch/nn/parallel/distributed.py makes it, _ddp_init_helper: every gradient in one bucket
/// until the order of arrival is known.
std::unique_ptr<c10d::Reducer> make_reducer(const std::vector<at::Tensor>& parameters,
                                            const c10::intrusive_ptr<c10d::ProcessGroup>& group,
                                            const DdpSyncOptions& options) {
  const std::vector<bool> sparse(parameters.size(), false);
  auto [buckets, limits] = c10d::compute_bucket_assignment_by_size(
      parameters, {std::numeric_limits<size_t>::max()}, sparse);
  std::reverse(buckets.begin(), buckets.end());
  return std::make_unique<c10d::Reducer>(
      parameters, buckets, group, sparse, options.bucket_cap_bytes,
      /*find_unused_parameters=*/false, /*gradient_as_bucket_view=*/true,
      std::unordered_map<size_t, std::string>{}, options.first_bucket_cap_bytes,
      /*skip_all_reduce_unused_params=*/false, /*use_python_reducer=*/false,
      std::vector<int64_t>{});
}

class DdpSync final : public StepSync {
 public:
  DdpSync(torch::nn::Module& module, const c10::intrusive_ptr<c10d::ProcessGroup>& group,
          const DdpSyncOptions& options)
      : module_(module),
        parameters_(trainable_parameters(module)),
        ready_(parameters_),
        reducer_(make_reducer(parameters_, group, options)) {}

  std::string name() const override { return "ddp"; }
  void zero_grad() override { module_.zero_grad(); }

  void before_forward() override {
    reducer_->prepare_for_forward();
    reducer_->rebuild_buckets();
  }

  void before_backward() override {
    reducer_->prepare_for_backward({});
    ready_.restart();
  }

  void finish() override {
    totals_.exposed_s += ready_.since_last_s();
    for (const auto& parameter : parameters_) {
      totals_.payload_bytes += static_cast<int64_t>(parameter.nbytes());
    }
  }

  SyncTotals totals() const override { return totals_; }

  std::vector<SyncBucket> buckets() const override {
    std::vector<SyncBucket> found;
    for (const auto& bucket : reducer_->get_grad_buckets()) {
      found.emplace_back();
      for (const auto& parameter : bucket.getParameters()) {
        found.back().push_back(place_of(parameter));
      }
    }
    return found;
  }

 private:
  int64_t place_of(const at::Tensor& parameter) const {
    return std::find_if(parameters_.begin(), parameters_.end(),
                        [&](const auto& other) { return other.is_same(parameter); }) -
           parameters_.begin();
  }

  torch::nn::Module& module_;
  std::vector<at::Tensor> parameters_;
  ReadyTimes ready_;
  std::unique_ptr<c10d::Reducer> reducer_;
  SyncTotals totals_;
};

}  // namespace

std::unique_ptr<StepSync> make_ddp_sync(torch::nn::Module& module,
                                        const c10::intrusive_ptr<c10d::ProcessGroup>& group,
                                        const DdpSyncOptions& options) {
  return std::make_unique<DdpSync>(module, group, options);
}

}  // namespace isobar::bench
