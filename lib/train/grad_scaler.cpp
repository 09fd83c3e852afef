// SPDX-License-Identifier: Apache-2.0
#include <isobar/train/grad_scaler.hpp>

#include <isobar/comm/census.hpp>
#include <isobar/core/error.hpp>
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cmath>

namespace isobar {

GradScaler::GradScaler(const GradScalerOptions& options)
    : options_(options), scale_(options.initial) {
  ISOBAR_CHECK(options.initial > 0 && options.minimum > 0 && options.growth_interval > 0,
               "GradScaler: initial, minimum and growth_interval must be positive, got ",
               options.initial, ", ", options.minimum, " and ", options.growth_interval);
  ISOBAR_CHECK(options.growth > 1 && options.backoff > 0 && options.backoff < 1,
               "GradScaler: growth must exceed 1 and backoff lie between 0 and 1, got ",
               options.growth, " and ", options.backoff);
}

at::Tensor GradScaler::scale(const at::Tensor& loss) const { return loss * scale_; }

bool GradScaler::unscale(const std::vector<NamedParameter>& parameters, Communicator& world) {
  c10::NoGradGuard no_grad;
  std::vector<at::Tensor> gradients;
  for (const auto& parameter : parameters) {
    if (parameter.tensor.grad().defined()) gradients.push_back(parameter.tensor.grad());
  }
  auto overflow = at::zeros({1}, at::kFloat);
  if (!gradients.empty()) {
    const auto options = gradients.front().options().dtype(at::kFloat);
    auto found = at::zeros({1}, options);
    at::_amp_foreach_non_finite_check_and_unscale_(gradients, found,
                                                   at::full({1}, 1 / scale_, options));
    overflow.copy_(found);
  }
  const CollectiveAsker asker("scaler");
  world.allreduce(overflow, ReduceOp::maximum).wait();
  const bool finite = overflow.item<float>() == 0;
  update(finite);
  return finite;
}

void GradScaler::update(bool finite) {
  if (!finite) {
    scale_ *= options_.backoff;
    good_steps_ = 0;
    ++skipped_;
    if (scale_ >= options_.minimum) return;
    throw Error(detail::join(
        "GradScaler: gradients are not finite at any scale of the loss down to ",
        scale_ / options_.backoff, "; compute in bf16 or float32, or find what is not finite"));
  }
  if (++good_steps_ < options_.growth_interval) return;
  // As PyTorch does: a scale that would no longer be finite in float32 stays as it is.
  const auto grown = static_cast<float>(scale_ * options_.growth);
  if (std::isfinite(grown)) scale_ *= options_.growth;
  good_steps_ = 0;
}

void GradScaler::save(StateDict& state) const {
  state.put_scalar("scale", scale_);
  state.put_scalar("good_steps", good_steps_);
  state.put_scalar("skipped", skipped_);
}

void GradScaler::load(const StateDict& state, int) {
  const double scale = state.real("scale");
  const auto good_steps = state.integer("good_steps"), skipped = state.integer("skipped");
  if (!(scale > 0) || good_steps < 0) {
    throw DataError(
        detail::join("grad_scaler state: scale ", scale, " after ", good_steps, " good steps"));
  }
  scale_ = scale;
  good_steps_ = good_steps;
  skipped_ = skipped;
}

}  // namespace isobar
