// SPDX-License-Identifier: Apache-2.0
#include "ddp/parameter_check.hpp"

#include "ddp/bit_comparison.hpp"
#include "ddp/tensor_bits.hpp"

#include <isobar/comm/agreement.hpp>
#include <isobar/comm/census.hpp>
#include <isobar/core/error.hpp>
#include <torch/nn/module.h>

namespace isobar {
namespace {

std::vector<NamedHash> hashes_of(const std::vector<NamedParameter>& parameters) {
  std::vector<NamedHash> hashes;
  for (const auto& parameter : parameters) {
    hashes.push_back({parameter.name, hash_of(parameter.tensor)});
  }
  return hashes;
}

}  // namespace

ParameterCheck::ParameterCheck(const torch::nn::Module& module, const Reducer& reducer,
                               Communicator& world, Communicator& data, int64_t every)
    : world_(world), data_(data), every_(every) {
  run_agreed(world, [&] {
    ISOBAR_CHECK(every >= 0, "DataParallel: rank ", world.rank(),
                 ": compare_parameters_every must not be negative, got ", every);
  });
  require_equal(world, "DataParallel: one of the options",
                {detail::join("compare_parameters_every=", every)});
  for (const auto& parameter : reducer.parameters()) {
    (parameter.reduction == Reduction::sharded ? sharded_ : shared_).push_back(parameter);
  }
  for (const auto& item : module.named_parameters()) {
    if (!item.value().requires_grad()) shared_.push_back({item.key(), item.value()});
  }
}

bool ParameterCheck::is_due(int64_t step) const {
  if (every_ == 0) return false;
  const bool is_power_of_two = (step & (step - 1)) == 0;
  return step < every_ ? is_power_of_two : step % every_ == 0;
}

void ParameterCheck::end_step(int64_t step) const {
  if (!is_due(step) || world_.size() == 1) return;
  const CollectiveAsker asker("parameters");
  const auto message = [&](const std::string& name, const std::string& difference) {
    return detail::join(
        "DataParallel: step ", step, ": parameter '", name, "' of ", difference,
        "; find what the ranks do differently (a learning rate, a step left out or taken on one "
        "rank only, an optimizer that goes by its rank's own loss), or wrap the module again to "
        "go on from rank 0's");
  };
  require_same_hashes(world_, world_, hashes_of(shared_), message);
  if (!sharded_.empty()) require_same_hashes(world_, data_, hashes_of(sharded_), message);
}

}  // namespace isobar
