// SPDX-License-Identifier: Apache-2.0
// What AcpSgd and PowerSgd share. Called by BucketCollectives, on the threads that compressor.hpp
// names, and between steps to save, load and plan anew.
//
// Each rank computes the orthonormal factors by itself, from sums that have the same bits
// everywhere; that they come out equal is an assumption about processors and libraries. Where it
// fails, replicas drift apart without any error, so a hash of the factors travels with the sums now
// and then. Counts of steps decide what is sent, and are the same on all ranks, since all take
// every step.
#include "compress/low_rank_compressor.hpp"

#include <isobar/core/error.hpp>
#include <ATen/ATen.h>

#include <map>
#include <string_view>
#include <utility>

namespace isobar {
namespace {

void check(const std::string& method, const LowRankOptions& options) {
  ISOBAR_CHECK(options.matrix_approximation_rank > 0 && options.min_compression_rate > 0, method,
               ": matrix_approximation_rank and min_compression_rate must be positive, got ",
               options.matrix_approximation_rank, " and ", options.min_compression_rate);
  ISOBAR_CHECK(options.start_step >= 0 && options.refresh_every >= 0 && options.compare_every >= 0,
               method, ": start_step, refresh_every and compare_every must be 0 or more, got ",
               options.start_step, ", ", options.refresh_every, " and ", options.compare_every);
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

// Factors go on where a matrix is as it was.
void LowRankCompressor::carry_over(const std::vector<LowRankBucket>& from,
                                   const std::vector<NamedParameter>& parameters,
                                   Communicator* share_holders) {
  std::vector<ParameterResidual> before, after;
  std::map<std::string_view, const FactoredMatrix*> old_of;
  for (const auto& bucket : from) {
    for (auto& residual : pending_residuals(bucket)) before.push_back(std::move(residual));
    for (const auto& matrix : bucket.matrices) old_of[matrix.name] = &matrix;
  }
  for (const auto& bucket : buckets_) {
    for (auto& residual : pending_residuals(bucket)) after.push_back(std::move(residual));
  }
  isobar::carry_over(before, after, parameters, share_holders);
  auto next = after.begin();
  const auto side = first_basis(compressed_steps_);
  for (auto& bucket : buckets_) {
    const auto end = next + static_cast<int64_t>(bucket.piece.slots.size());
    set_residuals(bucket, {next, end});
    next = end;
    for (auto& matrix : bucket.matrices) {
      const auto found = old_of.find(matrix.name);
      if (found == old_of.end() || found->second->first != matrix.first) continue;
      auto old = *found->second;
      if (old.sent(side).sizes() == matrix.sent(side).sizes()) {
        matrix.sent(side).copy_(old.sent(side));
      }
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
  return options_.compare_every > 0 &&
         (compressed_step() == loaded_at_ || compressed_step() % options_.compare_every == 0);
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

std::vector<ParameterResidual> LowRankCompressor::residuals() const {
  std::vector<ParameterResidual> list;
  for (const auto& bucket : buckets_) {
    for (const auto& matrix : bucket.matrices) {
      list.push_back({matrix.parameter, matrix.name, matrix.first, matrix.passes.residual, {}});
    }
  }
  return list;
}

// Factors of another rank start anew; the residual is part of the gradient, and has to fit.
void LowRankCompressor::load(const CompressorState& state) {
  const int64_t steps = count_of(state, "steps");
  const int64_t compressed_steps = count_of(state, "compressed_steps");
  check_fits(residuals(), state);
  load_residuals(residuals(), state);
  steps_ = steps;
  compressed_steps_ = loaded_at_ = compressed_steps;
  const auto side = first_basis(compressed_steps_);
  for (auto& bucket : buckets_) {
    for (auto& matrix : bucket.matrices) {
      matrix.set_pending(false);
      restart(matrix, compressed_steps_);
      const auto* factor = saved_tensor(state, matrix.name + ".factor");
      if (factor && factor->sizes() == matrix.sent(side).sizes()) {
        matrix.sent(side).copy_(*factor);
      }
    }
  }
}

}  // namespace isobar
