// SPDX-License-Identifier: Apache-2.0
#include "compress/low_rank_compressor.hpp"

#include <isobar/core/error.hpp>
#include <ATen/ATen.h>

#include <map>
#include <utility>

namespace isobar::detail {
namespace {

void check(const std::string& method, const LowRankOptions& options) {
  ISOBAR_CHECK(options.matrix_approximation_rank > 0 && options.min_compression_rate > 0, method,
               ": matrix_approximation_rank and min_compression_rate must be positive, got ",
               options.matrix_approximation_rank, " and ", options.min_compression_rate);
  ISOBAR_CHECK(options.start_step >= 0 && options.refresh_every >= 0 && options.compare_every >= 0,
               method, ": start_step, refresh_every and compare_every must be 0 or more, got ",
               options.start_step, ", ", options.refresh_every, " and ", options.compare_every);
}

/// What the residual stands for, in memory of its own.
at::Tensor settled_residual(const FactoredMatrix& matrix) {
  auto passes = matrix.passes;
  passes.residual = passes.residual.clone();
  settle(passes);
  return passes.residual;
}

/// Where two runs of a parameter's values overlap, the second takes the first's.
void copy_overlap(const at::Tensor& from, int64_t from_first, const at::Tensor& to,
                  int64_t to_first) {
  const int64_t begin = std::max(from_first, to_first);
  const int64_t end = std::min(from_first + from.numel(), to_first + to.numel());
  if (begin >= end) return;
  to.narrow(0, begin - to_first, end - begin)
      .copy_(from.narrow(0, begin - from_first, end - begin));
}

const at::Tensor* find(const CompressorState& state, const std::string& key) {
  for (const auto& [name, tensor] : state.tensors) {
    if (name == key) return &tensor;
  }
  return nullptr;
}

int64_t count_of(const CompressorState& state, const std::string& key) {
  const auto found = state.counts.find(key);
  if (found == state.counts.end()) {
    throw DataError(detail::join("compressor state has no '", key, "'"));
  }
  return found->second;
}

}  // namespace

LowRankCompressor::LowRankCompressor(std::string method, const LowRankOptions& options)
    : method_(std::move(method)), options_(options) {
  check(method_, options_);
}

std::string LowRankCompressor::description() const {
  return detail::join(method_, " rank ", options_.matrix_approximation_rank, " start ",
                      options_.start_step, " rate ", options_.min_compression_rate, " refresh ",
                      options_.refresh_every, " compare ", options_.compare_every, " seed ",
                      options_.seed);
}

void LowRankCompressor::set_plan(const std::vector<NamedParameter>& parameters,
                                 const std::vector<BucketPiece>& pieces,
                                 Communicator* share_holders) {
  auto before = std::exchange(buckets_, {});
  for (const auto& piece : pieces) {
    buckets_.push_back(make_low_rank_bucket(piece, parameters, options_));
    for (auto& matrix : buckets_.back().matrices) restart(matrix, compressed_steps_);
  }
  if (compressed_steps_ > 0) carry_over(before, parameters, share_holders);
}

void LowRankCompressor::restart(FactoredMatrix& matrix, int64_t index) const {
  auto& factor = matrix.sent(first_basis(index));
  const auto name = detail::join(matrix.name, " ", matrix.first);
  factor.copy_(random_factor(factor.sizes(), options_.seed, name, index, factor.options()));
}

// With shares, a new plan cuts parameters elsewhere: residuals then come from the ranks that
// had them, all of a parameter at a time.
void LowRankCompressor::carry_over(std::vector<LowRankBucket>& from,
                                   const std::vector<NamedParameter>& parameters,
                                   Communicator* share_holders) {
  std::map<int64_t, std::pair<FactoredMatrix*, FactoredMatrix*>> pairs;
  for (auto& bucket : from) {
    for (auto& matrix : bucket.matrices) pairs[matrix.parameter].first = &matrix;
  }
  for (auto& bucket : buckets_) {
    for (auto& matrix : bucket.matrices) pairs[matrix.parameter].second = &matrix;
  }
  for (size_t p = 0; p < parameters.size(); ++p) {
    const bool is_shared = share_holders && parameters[p].reduction != Reduction::sharded;
    const auto found = pairs.find(static_cast<int64_t>(p));
    const auto [old, now] =
        found == pairs.end() ? std::pair<FactoredMatrix*, FactoredMatrix*>() : found->second;
    if (!is_shared && !(old && now)) continue;
    at::Tensor values = old ? settled_residual(*old).view({-1}) : at::Tensor();
    int64_t first = old ? old->first : 0;
    if (is_shared) {
      const auto& tensor = parameters[p].tensor;
      const auto type = tensor.element_size() == 2 ? at::kFloat : tensor.scalar_type();
      const auto whole = at::zeros({(tensor.is_complex() ? 2 : 1) * tensor.numel()},
                                   tensor.options().dtype(c10::toRealValueType(type)));
      if (old) copy_overlap(values, first, whole, 0);
      share_holders->allreduce(whole).wait();
      values = whole;
      first = 0;
    }
    if (!now) continue;
    copy_overlap(values, first, now->passes.residual.view({-1}), now->first);
    const auto side = first_basis(compressed_steps_);
    if (old && old->first == now->first && old->sent(side).sizes() == now->sent(side).sizes()) {
      now->sent(side).copy_(old->sent(side));
    }
  }
}

bool LowRankCompressor::begin_step() {
  if (steps_++ < options_.start_step) return false;
  const int64_t index = compressed_steps_++;
  if (options_.refresh_every > 0 && index > 0 && index % options_.refresh_every == 0) {
    for (auto& bucket : buckets_) {
      for (auto& matrix : bucket.matrices) restart(matrix, index);
    }
  }
  return true;
}

bool LowRankCompressor::comparison_is_due() const {
  return options_.compare_every > 0 && compressed_step() % options_.compare_every == 0;
}

Work LowRankCompressor::send(LowRankBucket& bucket, Side side, int64_t values, Side basis,
                             BucketChannel& channel) {
  ranks_ = channel.size();
  auto& payload = bucket.payload(side);
  const int64_t bytes = values * static_cast<int64_t>(payload.element_size());
  if (!comparison_is_due()) return channel.allreduce(payload.narrow(0, 0, values), bytes);
  payload.narrow(0, values, kFingerprint).copy_(fingerprint(bucket, basis, ranks_));
  return channel.allreduce(payload.narrow(0, 0, values + kFingerprint), bytes);
}

void LowRankCompressor::check_factors(LowRankBucket& bucket, Side side, int64_t values) const {
  if (!comparison_is_due()) return;
  if (agree(bucket.payload(side).narrow(0, values, kFingerprint), ranks_)) return;
  throw Error(detail::join(method_, ": compressed step ", compressed_step(),
                           ": the ranks' orthonormal factors of '", bucket.matrices.front().name,
                           "' and its bucket differ, so that replicas drift apart; wanted "
                           "the same bits: run on equal processors with the same libraries"));
}

CompressorState LowRankCompressor::state() const {
  CompressorState state;
  state.counts = {{"steps", steps_}, {"compressed_steps", compressed_steps_}};
  const auto side = first_basis(compressed_steps_);
  for (const auto& bucket : buckets_) {
    for (const auto& matrix : bucket.matrices) {
      const auto& factor = side == Side::left ? matrix.sent_left : matrix.sent_right;
      state.counts[matrix.name + ".first"] = matrix.first;
      state.tensors.emplace_back(matrix.name + ".residual", settled_residual(matrix));
      state.tensors.emplace_back(matrix.name + ".factor", factor.clone());
    }
  }
  return state;
}

// Another rank of the factors, or another layout of a matrix over ranks, makes the factors start
// anew; the residual is a debt, and has to fit.
void LowRankCompressor::load(const CompressorState& state) {
  const int64_t steps = count_of(state, "steps");
  const int64_t compressed_steps = count_of(state, "compressed_steps");
  for (const auto& bucket : buckets_) {
    for (const auto& matrix : bucket.matrices) {
      const auto* residual = find(state, matrix.name + ".residual");
      if (!residual) continue;
      const int64_t first = count_of(state, matrix.name + ".first");
      if (residual->sizes() == matrix.passes.residual.sizes() && first == matrix.first) continue;
      throw DataError(detail::join("compressor state '", matrix.name, ".residual' holds ",
                                   residual->sizes(), " from value ", first, " on, this rank ",
                                   matrix.passes.residual.sizes(), " from ", matrix.first,
                                   "; load on the same number of ranks a model"));
    }
  }
  steps_ = steps;
  compressed_steps_ = compressed_steps;
  const auto side = first_basis(compressed_steps_);
  for (auto& bucket : buckets_) {
    for (auto& matrix : bucket.matrices) {
      matrix.set_pending(false);
      restart(matrix, compressed_steps_);
      const auto* residual = find(state, matrix.name + ".residual");
      const auto* factor = find(state, matrix.name + ".factor");
      if (residual) {
        matrix.passes.residual.copy_(*residual);
      } else {
        matrix.passes.residual.zero_();
      }
      if (factor && factor->sizes() == matrix.sent(side).sizes()) {
        matrix.sent(side).copy_(*factor);
      }
    }
  }
}

}  // namespace isobar::detail
