// SPDX-License-Identifier: Apache-2.0
#include "ddp/gradient_buffers.hpp"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <map>
#include <tuple>
#include <utility>

namespace isobar {
namespace {

constexpr int64_t kAlignmentBytes = 64;

int64_t round_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

int64_t padded(const at::Tensor& parameter) {
  return round_up(parameter.numel(), kAlignmentBytes / parameter.element_size());
}

/// A tensor over part of a flat buffer that is no view of it: zero_grad() of
/// LibTorch's optimizers calls detach_(), which throws on views.
at::Tensor alias(const at::Tensor& flat, int64_t offset, at::IntArrayRef sizes,
                 at::IntArrayRef strides) {
  auto tensor = at::empty({0}, flat.options());
  tensor.set_(flat.storage(), offset, sizes, strides);
  return tensor;
}

at::Tensor make_slot(const at::Tensor& flat, int64_t offset, const at::Tensor& parameter) {
  if (keeps_strides(parameter)) return alias(flat, offset, parameter.sizes(), parameter.strides());
  const auto contiguous = at::empty(parameter.sizes(), parameter.options().device(at::kMeta));
  return alias(flat, offset, parameter.sizes(), contiguous.strides());
}

}  // namespace

bool keeps_strides(const at::Tensor& parameter) { return parameter.is_non_overlapping_and_dense(); }

GradientBuffers::GradientBuffers(const std::vector<NamedParameter>& parameters,
                                 const std::vector<NamedParameter>& layouts, const BucketPlan& plan,
                                 int64_t shares)
    : slots_(parameters.size()),
      offsets_(parameters.size()),
      hidden_(parameters.size()),
      versions_(parameters.size()) {
  for (const auto& parameter : parameters) parameters_.push_back(parameter.tensor);
  allocate(layouts, plan, shares);
  for (const auto& slot : slots_) guards_.emplace_back(slot);
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const auto p = static_cast<int64_t>(i);
    if (parameters_[i].requires_grad() && fits(p)) bind(p);
  }
}

void GradientBuffers::allocate(const std::vector<NamedParameter>& layouts, const BucketPlan& plan,
                               int64_t shares) {
  using Key = std::tuple<at::ScalarType, std::string, Reduction>;
  const auto key_of = [&](const Bucket& bucket) {
    const int64_t first = bucket.parameters.front();
    const auto& tensor = layouts[first].tensor;
    return Key{tensor.scalar_type(), tensor.device().str(), layouts[first].reduction};
  };
  const auto length_of = [&](const Bucket& bucket) {
    int64_t length = 0;
    for (const int64_t p : bucket.parameters) length += padded(layouts[p].tensor);
    const auto& first = layouts[bucket.parameters.front()].tensor;
    return round_up(length, shares * kAlignmentBytes / first.element_size());
  };

  std::map<Key, int64_t> lengths;
  for (const auto& bucket : plan) lengths[key_of(bucket)] += length_of(bucket);
  std::map<Key, std::pair<at::Tensor, int64_t>> cursors;
  for (const auto& [key, length] : lengths) {
    const auto options =
        at::TensorOptions().dtype(std::get<0>(key)).device(at::Device(std::get<1>(key)));
    cursors[key] = {at::zeros({length}, options), 0};
    buffers_.push_back(cursors[key].first);
  }

  for (const auto& bucket : plan) {
    auto& [flat, begin] = cursors[key_of(bucket)];
    int64_t offset = 0;
    for (const int64_t p : bucket.parameters) {
      slots_[p] = make_slot(flat, begin + offset, layouts[p].tensor);
      offsets_[p] = offset;
      offset += padded(layouts[p].tensor);
    }
    buckets_.push_back(alias(flat, begin, {length_of(bucket)}, {1}));
    begin += length_of(bucket);
  }
}

bool GradientBuffers::is_bound(int64_t parameter) const {
  const auto& grad = parameters_[parameter].grad();
  const auto& slot = slots_[parameter];
  return grad.defined() && grad.layout() == at::kStrided && grad.is_alias_of(slot) &&
         grad.storage_offset() == slot.storage_offset() && grad.strides() == slot.strides();
}

bool GradientBuffers::fits(int64_t parameter) const {
  const auto& tensor = parameters_[parameter];
  const auto& slot = slots_[parameter];
  if (tensor.scalar_type() != slot.scalar_type() || tensor.device() != slot.device()) return false;
  if (tensor.sizes() != slot.sizes()) return false;
  if (tensor.numel() == 0 || !keeps_strides(tensor)) return true;
  for (int64_t d = 0; d < tensor.dim(); ++d) {
    if (tensor.size(d) > 1 && tensor.stride(d) != slot.stride(d)) return false;
  }
  return true;
}

void GradientBuffers::hide(int64_t parameter) {
  auto& grad = parameters_[parameter].mutable_grad();
  if (!grad.defined() || is_hidden(parameter) || has_graph(parameter)) return;
  hidden_[parameter] = std::exchange(grad, guards_[parameter].tensor());
  versions_[parameter] = hidden_[parameter]._version();
}

Interference GradientBuffers::show(int64_t parameter) {
  if (!is_hidden(parameter)) return Interference::none;
  auto& grad = parameters_[parameter].mutable_grad();
  const bool is_replaced = !grad.is_same(guards_[parameter].tensor());
  // The one through `.grad`, the other through an alias that somebody kept from earlier. A tensor
  // of autograd's has a version that it shares: of what a cat joined, say, all gradients have one.
  const auto& hidden = hidden_[parameter];
  const bool is_slot = hidden.is_same(slots_[parameter]);
  const bool is_written =
      guards_[parameter].is_touched() || (is_slot && hidden._version() != versions_[parameter]);
  grad = hidden_[parameter];
  forget_hidden(parameter);
  if (is_replaced) return Interference::replaced;
  return is_written ? Interference::written : Interference::none;
}

// Whoever zeroes writes to the guard's copy, which is one of the slot's values: another tensor's
// gradient is not there.
bool GradientBuffers::is_discarded(int64_t parameter) const {
  if (!is_hidden(parameter)) return false;
  const auto& grad = parameters_[parameter].grad();
  if (!grad.defined()) return true;
  const auto& guard = guards_[parameter];
  return hidden_[parameter].is_same(slots_[parameter]) && grad.is_same(guard.tensor()) &&
         guard.is_touched() && !grad.any().item<bool>();
}

void GradientBuffers::discard(int64_t parameter) {
  forget_hidden(parameter);
  parameters_[parameter].mutable_grad() = at::Tensor();
}

void GradientBuffers::forget_hidden(int64_t parameter) {
  hidden_[parameter] = at::Tensor();
  auto& guard = guards_[parameter];
  if (guard.is_touched()) guard = GradGuard(slots_[parameter]);
}

void GradientBuffers::drop(int64_t parameter) {
  c10::NoGradGuard no_grad;
  forget_hidden(parameter);
  slots_[parameter].zero_();
  parameters_[parameter].mutable_grad() = at::Tensor();
}

void GradientBuffers::give_back() {
  for (size_t i = 0; i < parameters_.size(); ++i) {
    auto& grad = parameters_[i].mutable_grad();
    if (hidden_[i].defined() && grad.is_same(guards_[i].tensor())) grad = hidden_[i];
    hidden_[i] = at::Tensor();
  }
}

bool GradientBuffers::has_graph(int64_t parameter) const {
  const auto& grad = parameters_[parameter].grad();
  return grad.defined() && grad.requires_grad();
}

bool GradientBuffers::bind(int64_t parameter) {
  const bool copied = take(parameter);
  if (has_graph(parameter)) parameters_[parameter].mutable_grad() = slots_[parameter];
  return copied;
}

bool GradientBuffers::take(int64_t parameter) {
  if (is_bound(parameter)) return false;
  c10::NoGradGuard no_grad;
  auto& grad = parameters_[parameter].mutable_grad();
  const bool found = grad.defined();
  if (found && grad.layout() == at::kStrided) {
    slots_[parameter].copy_(grad);
  } else {
    slots_[parameter].zero_();
    if (found) slots_[parameter].add_(grad);  // sparse: of an embedding, the rows that it looked up
  }
  if (!has_graph(parameter)) grad = slots_[parameter];
  return found;
}

at::Tensor GradientBuffers::give_up(int64_t parameter) {
  auto& grad = parameters_[parameter].mutable_grad();
  const auto& slot = slots_[parameter];
  if (!grad.defined() || grad.layout() != at::kStrided || grad.is_alias_of(slot) ||
      has_graph(parameter) || grad.strides() != slot.strides() || !keeps_strides(slot)) {
    return {};
  }
  c10::NoGradGuard no_grad;
  const auto flat = grad.as_strided({grad.numel()}, {1});
  grad = slot;
  return flat.is_complex() ? at::view_as_real(flat).view({-1}) : flat;
}

void GradientBuffers::drop_graphs() {
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const auto p = static_cast<int64_t>(i);
    if (has_graph(p) && fits(p)) parameters_[i].mutable_grad() = slots_[i];
  }
}

void GradientBuffers::zero() {
  c10::NoGradGuard no_grad;
  for (auto& buffer : buffers_) buffer.zero_();
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const auto p = static_cast<int64_t>(i);
    forget_hidden(p);
    const bool is_trained = parameters_[i].requires_grad() && fits(p);
    parameters_[i].mutable_grad() = is_trained ? slots_[i] : at::Tensor();
  }
}

void GradientBuffers::drop() {
  for (size_t i = 0; i < parameters_.size(); ++i) {
    forget_hidden(static_cast<int64_t>(i));
    parameters_[i].mutable_grad() = at::Tensor();
  }
}

}  // namespace isobar
