// SPDX-License-Identifier: Apache-2.0
// Where gradients lie. A reducer calls it from its hooks and from finish(): by turns, since the
// caller waits in backward() while hooks run; there is no lock.
//
// A parameter's `.grad` is its slot; or a guard's tensor, while the gradient is hidden; or the
// caller's own tensor, lent; or one with an autograd graph; or one that autograd or a caller has
// made, whose values are copied in before they are sent. Slots stay where they are for a plan, and
// their padding stays zero: it is summed too. Whoever could write to a slot that is under way would
// change what the ranks add up, on one rank and unnoticed; hence the guard.
#include "ddp/gradient_buffers.hpp"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <c10/core/impl/COW.h>

#include <limits>
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

/// What the tensor holds now, in memory that is shared until somebody writes to either.
at::Tensor snapshot(const at::Tensor& tensor) {
  auto& storage = *tensor.storage().unsafeGetStorageImpl();
  // What others share may be written to by its address.
  const auto copy = tensor.storage().use_count() == 1 ? c10::impl::cow::lazy_clone_storage(storage)
                                                      : c10::intrusive_ptr<c10::StorageImpl>();
  if (!copy) return tensor.detach().clone();
  auto result = at::empty({0}, tensor.options());
  result.set_(c10::Storage(copy), tensor.storage_offset(), tensor.sizes(), tensor.strides());
  return result;
}

/// In place of a gradient of which nobody knows the sum: copied on write, as what is_left_over().
at::Tensor lost(const at::Tensor& slot) {
  try {
    c10::NoGradGuard no_grad;
    return snapshot(at::full_like(slot, std::numeric_limits<double>::quiet_NaN()));
  } catch (const std::exception&) {  // no memory, in a destructor
    return {};
  }
}

/// Whether somebody could write to the gradient other than through `.grad`, which is one of
/// `holders`.
bool is_shared(const at::Tensor& grad, size_t holders) {
  const auto& storage = *grad.storage().unsafeGetStorageImpl();
  return grad.use_count() > holders || grad.is_view() ||
         !(c10::impl::cow::has_simple_data_ptr(storage) ||
           c10::impl::cow::is_cow_data_ptr(storage.data_ptr()));
}

}  // namespace

bool keeps_strides(const at::Tensor& parameter) { return parameter.is_non_overlapping_and_dense(); }

GradientBuffers::GradientBuffers(const std::vector<NamedParameter>& parameters,
                                 const std::vector<NamedParameter>& layouts, const BucketPlan& plan,
                                 int64_t shares)
    : slots_(parameters.size()),
      offsets_(parameters.size()),
      hidden_(parameters.size()),
      versions_(parameters.size()),
      sent_(parameters.size()),
      lent_(parameters.size()) {
  for (const auto& parameter : parameters) parameters_.push_back(parameter.tensor);
  allocate(layouts, plan, shares);
  for (const auto& slot : slots_) guards_.emplace_back(slot);
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const auto p = static_cast<int64_t>(i);
    if (!parameters_[i].requires_grad() || !fits(p)) continue;
    notice_lent(p);
    if (!is_lent(p) && !is_left_over(p)) bind(p);
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
  if (!hidden_[parameter].is_same(lent_[parameter])) return;
  // Of a gradient that lies elsewhere the guard would show what is left in the slot, zeros perhaps.
  c10::NoGradGuard no_grad;
  slots_[parameter].fill_(1);
}

void GradientBuffers::hide_sent(int64_t parameter) {
  hide(parameter);
  if (has_graph(parameter)) sent_[parameter] = snapshot(parameters_[parameter].grad());
}

// Of the same memory, detached perhaps, nothing is read: LibTorch has not copied it.
Interference GradientBuffers::show_sent(int64_t parameter) {
  c10::NoGradGuard no_grad;
  auto sent = std::exchange(sent_[parameter], {});
  auto& grad = parameters_[parameter].mutable_grad();
  const auto found = std::exchange(grad, slots_[parameter]);
  if (!found.defined() || found.layout() != at::kStrided || found.sizes() != sent.sizes() ||
      found.scalar_type() != sent.scalar_type() || found.device() != sent.device()) {
    return Interference::replaced;
  }
  const bool is_same =
      found.const_data_ptr() == sent.const_data_ptr() && found.strides() == sent.strides();
  const bool is_equal = is_same || at::allclose(found, sent, 0, 0, /*equal_nan=*/true);
  sent = at::Tensor();
  // Whoever keeps it has it for himself: it is copied where it is shared.
  (void)found.storage().unsafeGetStorageImpl()->mutable_data();
  return is_equal ? Interference::none : Interference::written;
}

Interference GradientBuffers::show(int64_t parameter) {
  if (sent_[parameter].defined()) return show_sent(parameter);
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

// Whoever zeroes writes to the guard's copy, which is one of the slot's values, and of ones for a
// gradient that is lent: another tensor's gradient is not there.
bool GradientBuffers::is_discarded(int64_t parameter) const {
  if (!is_hidden(parameter)) return false;
  const auto& grad = parameters_[parameter].grad();
  if (!grad.defined()) return true;
  const auto& guard = guards_[parameter];
  const auto& hidden = hidden_[parameter];
  const bool is_known = hidden.is_same(slots_[parameter]) || hidden.is_same(lent_[parameter]);
  return is_known && grad.is_same(guard.tensor()) && guard.is_touched() && !grad.any().item<bool>();
}

void GradientBuffers::take_discard(int64_t parameter) {
  const bool is_zeroed = parameters_[parameter].grad().defined();
  const auto lent = lent_[parameter];
  discard(parameter);
  if (!is_zeroed || !lent.defined()) return;
  c10::NoGradGuard no_grad;
  lent.zero_();
  parameters_[parameter].mutable_grad() = lent_[parameter] = lent;
}

void GradientBuffers::discard(int64_t parameter) {
  forget_hidden(parameter);
  lent_[parameter] = at::Tensor();
  parameters_[parameter].mutable_grad() = at::Tensor();
}

void GradientBuffers::forget_hidden(int64_t parameter) {
  hidden_[parameter] = sent_[parameter] = at::Tensor();
  auto& guard = guards_[parameter];
  if (guard.is_touched()) guard = GradGuard(slots_[parameter]);
}

// A guard of another GradientBuffers: nobody else makes gradients that are copied on write. One
// with a graph is what this rank has found, and sent copies of.
bool GradientBuffers::is_left_over(int64_t parameter) const {
  const auto& grad = parameters_[parameter].grad();
  return grad.defined() && grad.layout() == at::kStrided && !is_hidden(parameter) &&
         !grad.requires_grad() && c10::impl::cow::is_cow_data_ptr(grad.storage().data_ptr());
}

void GradientBuffers::notice_lent(int64_t parameter) {
  if (is_hidden(parameter)) return;
  const auto before = std::exchange(lent_[parameter], {});
  const auto& grad = parameters_[parameter].grad();
  const auto& slot = slots_[parameter];
  if (!grad.defined() || is_bound(parameter) || grad.layout() != at::kStrided ||
      grad.requires_grad() || grad.sizes() != slot.sizes() || !keeps_strides(grad) ||
      is_left_over(parameter)) {
    return;
  }
  if (is_shared(grad, before.is_same(grad) ? 2 : 1)) lent_[parameter] = grad;
}

void GradientBuffers::hand_back(int64_t parameter) {
  if (!is_lent(parameter)) return;
  c10::NoGradGuard no_grad;
  const auto lent = std::exchange(lent_[parameter], {});
  lent.copy_(slots_[parameter]);
  parameters_[parameter].mutable_grad() = lent;
}

void GradientBuffers::drop(int64_t parameter) {
  c10::NoGradGuard no_grad;
  discard(parameter);
  slots_[parameter].zero_();
}

void GradientBuffers::give_back(const std::function<bool(int64_t)>& is_lost) {
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const auto p = static_cast<int64_t>(i);
    auto& grad = parameters_[i].mutable_grad();
    if (is_hidden(p) && grad.is_same(guards_[i].tensor()) && !guards_[i].is_touched()) {
      grad = is_lost(p) ? lost(slots_[i]) : hidden_[i];
    }
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
    discard(p);
    const bool is_trained = parameters_[i].requires_grad() && fits(p);
    parameters_[i].mutable_grad() = is_trained ? slots_[i] : at::Tensor();
  }
}

void GradientBuffers::drop() {
  for (size_t i = 0; i < parameters_.size(); ++i) discard(static_cast<int64_t>(i));
}

}  // namespace isobar
