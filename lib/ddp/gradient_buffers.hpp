// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ddp/grad_guard.hpp"

#include <isobar/ddp/bucket_plan.hpp>

#include <functional>
#include <vector>

namespace isobar {

/// True where a gradient lies in its slot in the order of the parameter's strides;
/// where it is false (expanded, overlapping) it lies there in the order of its shape.
bool keeps_strides(const at::Tensor& parameter);

/// What was done to a `.grad` while it was hidden.
enum class Interference { none, written, replaced };

/// The memory of a model's gradients: one flat buffer for each (type, device,
/// reduction), in which every bucket of a plan is a contiguous slice and every
/// parameter a slot that starts at a multiple of 64 bytes. Padding is zero.
///
/// A gradient that belongs to the reducer is hidden: `.grad` is then a GradGuard's tensor,
/// and what it was before comes back with show(). A parameter that does not require a
/// gradient (it was frozen after it was wrapped) is left without one.
///
/// A `.grad` that the caller has made, and of whose memory he holds something else (views of a
/// flat buffer of his own, say, which he zeroes), is lent: it stays `.grad`, and gets the result.
class GradientBuffers {
 public:
  /// Allocates zeroed memory. Takes over the values of gradients that exist,
  /// and makes every parameter's `.grad` an alias of its slot. Every bucket
  /// divides into `shares` of equal length, each a multiple of 64 bytes.
  GradientBuffers(const std::vector<NamedParameter>& parameters, const BucketPlan& plan,
                  int64_t shares = 1)
      : GradientBuffers(parameters, parameters, plan, shares) {}

  /// The same, with slots for `layouts`: parameters that fit no longer get no `.grad`.
  GradientBuffers(const std::vector<NamedParameter>& parameters,
                  const std::vector<NamedParameter>& layouts, const BucketPlan& plan,
                  int64_t shares);

  /// The bucket's slice, one-dimensional, padding included.
  const at::Tensor& bucket(int64_t index) const { return buckets_[index]; }

  /// Where the parameter's slot starts in its bucket, in elements.
  int64_t offset(int64_t parameter) const { return offsets_[parameter]; }

  /// True if the parameter's `.grad` is its slot.
  bool is_bound(int64_t parameter) const;

  /// True if the parameter still has its slot's type, device and shape, and its strides if it is
  /// dense.
  bool fits(int64_t parameter) const;

  /// What the parameter's gradient looks like in its bucket.
  const at::Tensor& slot(int64_t parameter) const { return slots_[parameter]; }

  /// Hides a gradient; does nothing where there is none, where it is hidden already or has a
  /// graph.
  void hide(int64_t parameter);
  bool is_hidden(int64_t parameter) const { return hidden_[parameter].defined(); }

  /// The same for a gradient that has been sent. One with a graph stays where it is, to be
  /// differentiated, and is compared with what was sent in show().
  void hide_sent(int64_t parameter);

  /// Undoes hide(), if there was one, and tells what has been done to the gradient since.
  /// Whatever that was is lost.
  Interference show(int64_t parameter);

  /// True if `.grad` is what an earlier owner of the parameter has hidden.
  bool is_left_over(int64_t parameter) const;

  /// Before a gradient comes: finds out whether `.grad` is lent.
  void notice_lent(int64_t parameter);
  bool is_lent(int64_t parameter) const { return lent_[parameter].defined(); }

  /// Copies the slot into a gradient that is lent, which is `.grad` again.
  void hand_back(int64_t parameter);

  /// True if a hidden gradient was dropped, or zeroed where it was the slot or is lent.
  bool is_discarded(int64_t parameter) const;

  /// Does to such a gradient what was meant: leaves the parameter without one, or zeroes the
  /// caller's memory, which stays `.grad`.
  void take_discard(int64_t parameter);

  /// Forgets a hidden gradient and leaves the parameter without one.
  void discard(int64_t parameter);

  /// Zeroes the slot and leaves the parameter without a gradient.
  void drop(int64_t parameter);

  /// True if the parameter's `.grad` can be differentiated further.
  bool has_graph(int64_t parameter) const;

  /// Makes `.grad` the slot. A gradient found elsewhere is copied in first;
  /// where there is none, the slot becomes zero. Returns whether it copied.
  bool bind(int64_t parameter);

  /// The same, but leaves a `.grad` that has a graph where it is.
  bool take(int64_t parameter);

  /// Makes `.grad` the slot, whose values do not change, and returns the gradient found
  /// elsewhere: one-dimensional in the order of memory, which is that of the slot, complex
  /// numbers as pairs. Undefined, having done nothing, where take() is needed.
  at::Tensor give_up(int64_t parameter);

  /// Makes every `.grad` that has a graph its slot, as it is.
  void drop_graphs();

  /// Zeroes all buffers and binds every parameter that requires a gradient.
  void zero();

  /// Leaves every parameter without a gradient.
  void drop();

  /// Makes what is hidden visible again, as far as nobody has put another tensor there or
  /// written to it. What `is_lost` is NaN, and left over.
  void give_back(const std::function<bool(int64_t)>& is_lost);

 private:
  void allocate(const std::vector<NamedParameter>& layouts, const BucketPlan& plan, int64_t shares);
  void forget_hidden(int64_t parameter);
  Interference show_sent(int64_t parameter);

  std::vector<at::Tensor> parameters_;
  std::vector<at::Tensor> buffers_;
  std::vector<at::Tensor> buckets_;
  std::vector<at::Tensor> slots_;   ///< by parameter; aliases with the parameter's shape
  std::vector<int64_t> offsets_;    ///< by parameter
  std::vector<GradGuard> guards_;   ///< by parameter, of its slot
  std::vector<at::Tensor> hidden_;  ///< by parameter, what `.grad` was; undefined: not hidden
  std::vector<uint32_t> versions_;  ///< by parameter, of what is hidden; means something of slots
  std::vector<at::Tensor> sent_;    ///< by parameter, the values of a `.grad` with a graph
  std::vector<at::Tensor> lent_;    ///< by parameter, the caller's `.grad`; undefined: none
};

}  // namespace isobar
