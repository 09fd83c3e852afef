// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/ddp/reducer.hpp>

#include <string>
#include <vector>

namespace isobar {

/// Which of the parameters shares memory with another of them or with one of `others`, such as
/// "parameter 'b' shares memory with 'a'"; empty: none. A tensor that is a parameter itself is no
/// other.
std::string shared_memory(const std::vector<NamedParameter>& parameters,
                          const std::vector<NamedParameter>& others);

/// Parameters and what an optimizer keeps beside them (moments), in flat buffers that
/// mirror a reducer's buckets.
class FlatArrays {
 public:
  /// Moves the parameters there and makes `moments` zeroed arrays beside them. Here and wherever
  /// parameters move: throws UsageError, having moved nothing, where one shares memory with
  /// another tensor of the module, which would have to move with it.
  FlatArrays(Reducer& reducer, int moments);

  /// Moves everything to the reducer's present plan, if that is another one than
  /// before. Returns whether it moved.
  bool follow_plan();

  /// True if each of the bucket's parameters still lies here.
  bool holds(int64_t bucket) const;

  /// Takes in parameters that lie elsewhere (somebody has called set_data()), with the values
  /// that they have now. All move to new memory, for what lies in the old one may still be
  /// somebody's.
  void take_in() {
    check_apart();
    move_parameters();
  }

  /// Copies gradients into the bucket that somebody has put elsewhere since it was reduced.
  void take_gradients(int64_t bucket);

  /// As the reducer had them when this was made; it need not be alive.
  const std::vector<NamedParameter>& list() const { return list_; }

  int64_t buckets() const { return static_cast<int64_t>(slots_.size()); }
  const std::vector<Slot>& slots(int64_t bucket) const { return slots_[bucket]; }
  const at::Tensor& parameters(int64_t bucket) const { return parameters_[bucket]; }
  const at::Tensor& moment(int64_t which, int64_t bucket) const { return moments_[which][bucket]; }

  /// A parameter's part of a moment, in the parameter's shape. Shares its memory.
  at::Tensor moment_of(int64_t which, int64_t parameter) const;

 private:
  struct SlotInBucket {
    int64_t bucket = 0;
    Slot slot;
  };

  std::vector<at::Tensor> empty_buffers() const;
  void check_apart() const;
  void move_parameters();
  void move_moment(std::vector<at::Tensor>& buffers, const std::vector<SlotInBucket>& before);

  Reducer& reducer_;
  std::vector<NamedParameter> list_;
  int64_t version_ = 0;
  std::vector<std::vector<Slot>> slots_;  ///< by bucket
  std::vector<SlotInBucket> slot_of_;     ///< by parameter
  std::vector<at::Tensor> parameters_;    ///< by bucket
  std::vector<std::vector<at::Tensor>> moments_;
};

}  // namespace isobar
