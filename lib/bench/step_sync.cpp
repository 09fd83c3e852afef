// SPDX-License-Identifier: Apache-2.0
#include <isobar/bench/step_sync.hpp>

#include <torch/nn/module.h>

namespace isobar::bench {
namespace {

class NoSync final : public StepSync {
 public:
  explicit NoSync(torch::nn::Module& module) : module_(module) {}

  std::string name() const override { return "none"; }
  bool averages() const override { return false; }
  void zero_grad() override { module_.zero_grad(); }
  SyncTotals totals() const override { return {}; }
  std::vector<SyncBucket> buckets() const override { return {}; }

 private:
  torch::nn::Module& module_;
};

}  // namespace

std::unique_ptr<StepSync> make_no_sync(torch::nn::Module& module) {
  return std::make_unique<NoSync>(module);
}

}  // namespace isobar::bench
