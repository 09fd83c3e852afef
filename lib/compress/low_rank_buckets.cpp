// SPDX-License-Identifier: Apache-2.0
// How a bucket lies in matrices, factors and messages, for LowRankCompressor and its two methods;
// on the threads that compressor.hpp names.
//
// Every value of a slot is in one matrix or in one dense run, so that the message has all of it.
// What is not sent stays in a matrix's residual; where a new plan puts such values in a dense run,
// they are sent with the next step's. Random factors depend on seed, name and restart alone: ranks
// begin with the same ones without a message.
#include "compress/low_rank_buckets.hpp"

#include <isobar/core/hash.hpp>
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numbers>
#include <string_view>
#include <utility>

namespace isobar {
namespace {

FactoredMatrix make_matrix(const BucketPiece& piece, size_t index, int64_t begin, int64_t rows,
                           const std::vector<NamedParameter>& parameters,
                           const LowRankOptions& options) {
  const auto& slot = piece.slots[index];
  FactoredMatrix matrix;
  matrix.slot = index;
  matrix.parameter = slot.parameter;
  matrix.name = parameters[slot.parameter].name;
  matrix.first = begin;
  matrix.offset = slot.offset + begin - slot.first;
  auto& passes = matrix.passes;
  passes.rows = rows;
  passes.columns = slot.columns;
  passes.rank = std::min({options.matrix_approximation_rank, rows, slot.columns});
  const auto type = piece.values.options().dtype(residual_type(piece.values.scalar_type()));
  passes.residual = at::zeros({rows, slot.columns}, type);
  matrix.left = at::zeros({rows, passes.rank}, type);
  matrix.right = at::zeros({passes.rank, slot.columns}, type);
  matrix.own_right = at::zeros_like(matrix.right);
  return matrix;
}

/// Only whole rows: where the piece cuts through one, its parts travel as they are.
void add_slot(LowRankBucket& bucket, size_t index, const std::vector<NamedParameter>& parameters,
              const LowRankOptions& options) {
  const auto& slot = bucket.piece.slots[index];
  const int64_t end = slot.first + slot.elements;
  const int64_t first_row = (slot.first + slot.columns - 1) / slot.columns;
  const int64_t rows = std::max<int64_t>(0, end / slot.columns - first_row);
  const bool compressed = is_compressed(rows, slot.columns, options);
  const auto add_dense = [&](int64_t from, int64_t to) {
    if (from < to) bucket.dense.push_back({index, slot.offset + from - slot.first, to - from, {}});
  };
  if (!compressed) return add_dense(slot.first, end);
  const int64_t begin = first_row * slot.columns;
  add_dense(slot.first, begin);
  bucket.matrices.push_back(make_matrix(bucket.piece, index, begin, rows, parameters, options));
  add_dense(begin + rows * slot.columns, end);
}

void allocate_payloads(LowRankBucket& bucket) {
  const auto type = bucket.matrices.front().left.options();
  bucket.left_payload = at::zeros({bucket.left_values + bucket.dense_values + kFingerprint}, type);
  bucket.right_payload =
      at::zeros({bucket.right_values + bucket.dense_values + kFingerprint}, type);
  int64_t left = 0, right = 0;
  for (auto& matrix : bucket.matrices) {
    const auto part = [](const at::Tensor& payload, int64_t& begin, const at::Tensor& like) {
      const auto view = payload.narrow(0, begin, like.numel()).view(like.sizes());
      begin += like.numel();
      return view;
    };
    matrix.sent_left = part(bucket.left_payload, left, matrix.left);
    matrix.sent_right = part(bucket.right_payload, right, matrix.right);
  }
}

// Made up by the decomposition, such columns would be the same rows' every time: of a gradient
// that has nothing there, nothing would ever be sent.
at::Tensor replace_zero_columns(LowRankBucket& bucket, const at::Tensor& factors) {
  const auto shape = factors.sizes().slice(1);
  auto& spare = bucket.spares[shape.vec()];
  if (!spare.defined()) spare = random_factor(shape, 0, "spare", 0, factors.options());
  const auto is_zero = factors.abs().amax(-2, /*keepdim=*/true) == 0;
  return at::where(is_zero, spare, factors);
}

/// Bytes of a contiguous factor.
std::string_view bytes_of(const at::Tensor& tensor) {
  return {static_cast<const char*>(tensor.const_data_ptr()), tensor.nbytes()};
}

/// Digits below the root of 2^24 / ranks: a sum over the ranks of their squares is exact.
int64_t digit_base(int ranks) {
  const auto root = static_cast<int64_t>(std::sqrt(static_cast<double>(1 << 24) / ranks));
  return std::clamp<int64_t>(root, 2, 256);
}

}  // namespace

const at::Tensor& DenseRun::take_residual() { return sent_residual = std::exchange(residual, {}); }

void FactoredMatrix::set_pending(bool pending) {
  passes.pending_left = pending ? left : at::Tensor();
  passes.pending_right = pending ? own_right : at::Tensor();
}

LowRankBucket make_low_rank_bucket(const BucketPiece& piece,
                                   const std::vector<NamedParameter>& parameters,
                                   const LowRankOptions& options) {
  LowRankBucket bucket;
  bucket.piece = piece;
  for (size_t i = 0; i < piece.slots.size(); ++i) {
    const auto& parameter = parameters[piece.slots[i].parameter];
    bucket.owners.push_back({parameter.name, parameter.tensor.sizes().vec()});
    add_slot(bucket, i, parameters, options);
  }
  for (const auto& matrix : bucket.matrices) {
    bucket.left_values += matrix.left.numel();
    bucket.right_values += matrix.right.numel();
  }
  for (const auto& run : bucket.dense) bucket.dense_values += run.elements;
  if (!bucket.matrices.empty()) allocate_payloads(bucket);
  return bucket;
}

at::Tensor settled_residual(const FactoredMatrix& matrix) {
  auto passes = matrix.passes;
  passes.residual = passes.residual.clone();
  settle(passes);
  return passes.residual;
}

std::vector<ParameterResidual> pending_residuals(const LowRankBucket& bucket) {
  std::vector<ParameterResidual> residuals;
  const auto& values = bucket.piece.values;
  const auto options = values.options().dtype(residual_type(values.scalar_type()));
  for (size_t i = 0; i < bucket.owners.size(); ++i) {
    const auto& slot = bucket.piece.slots[i];
    residuals.push_back({slot.parameter, bucket.owners[i].name, slot.first,
                         at::zeros({slot.elements}, options), bucket.owners[i].sizes});
  }
  for (const auto& matrix : bucket.matrices) {
    const auto& to = residuals[matrix.slot];
    to.values.narrow(0, matrix.first - to.first, matrix.passes.residual.numel())
        .copy_(settled_residual(matrix).view({-1}));
  }
  for (const auto& run : bucket.dense) {
    if (!run.residual.defined()) continue;
    const int64_t begin = run.offset - bucket.piece.slots[run.slot].offset;
    residuals[run.slot].values.narrow(0, begin, run.elements).copy_(run.residual);
  }
  return residuals;
}

void set_residuals(LowRankBucket& bucket, const std::vector<ParameterResidual>& residuals) {
  for (auto& matrix : bucket.matrices) {
    const auto& from = residuals[matrix.slot];
    auto residual = matrix.passes.residual.view({-1});
    residual.copy_(from.values.narrow(0, matrix.first - from.first, residual.numel()));
  }
  for (auto& run : bucket.dense) {
    const int64_t begin = run.offset - bucket.piece.slots[run.slot].offset;
    const auto residual = residuals[run.slot].values.narrow(0, begin, run.elements);
    run.residual = residual.any().item<bool>() ? residual.clone() : at::Tensor();
  }
}

void read_source(LowRankBucket& bucket, FactoredMatrix& matrix, const BucketChannel& channel) {
  write_piece(bucket, matrix);
  const auto source = channel.source(matrix.slot);
  if (!source.defined()) return;
  const auto& slot = bucket.piece.slots[matrix.slot];
  auto& passes = matrix.passes;
  passes.gradient = source.narrow(0, matrix.first - slot.first, passes.rows * passes.columns)
                        .view({passes.rows, passes.columns});
}

void write_piece(LowRankBucket& bucket, FactoredMatrix& matrix) {
  auto& passes = matrix.passes;
  passes.gradient = bucket.piece.values.narrow(0, matrix.offset, passes.rows * passes.columns)
                        .view({passes.rows, passes.columns});
}

void pack_dense(LowRankBucket& bucket, Side side, const BucketChannel& channel) {
  int64_t to = bucket.factor_values(side);
  for (auto& run : bucket.dense) {
    const auto source = channel.source(run.slot);
    const auto& values = source.defined() ? source : bucket.piece.values;
    const int64_t from =
        source.defined() ? run.offset - bucket.piece.slots[run.slot].offset : run.offset;
    const auto part = bucket.payload(side).narrow(0, to, run.elements);
    part.copy_(values.narrow(0, from, run.elements));
    if (run.residual.defined()) part.add_(run.take_residual());
    to += run.elements;
  }
}

void unpack_dense(LowRankBucket& bucket, Side side) {
  int64_t from = bucket.factor_values(side);
  for (auto& run : bucket.dense) {
    bucket.piece.values.narrow(0, run.offset, run.elements)
        .copy_(bucket.payload(side).narrow(0, from, run.elements));
    run.sent_residual = at::Tensor();
    from += run.elements;
  }
}

Work start_dense(LowRankBucket& bucket, BucketChannel& channel) {
  const auto& values = bucket.piece.values;
  for (size_t i = 0; i < bucket.piece.slots.size(); ++i) {
    const auto source = channel.source(i);
    const auto& slot = bucket.piece.slots[i];
    if (source.defined()) values.narrow(0, slot.offset, slot.elements).copy_(source);
  }
  for (auto& run : bucket.dense) {
    if (!run.residual.defined()) continue;
    values.narrow(0, run.offset, run.elements).add_(run.take_residual());
  }
  return channel.allreduce(values,
                           bucket.dense_values * static_cast<int64_t>(values.element_size()),
                           bucket.piece.divisor_inside());
}

void complete_dense(LowRankBucket& bucket) {
  for (auto& run : bucket.dense) run.sent_residual = at::Tensor();
  bucket.piece.divide_outside();
}

// Box and Muller 1958, on numbers of splitmix64.
at::Tensor random_factor(at::IntArrayRef shape, uint64_t seed, const std::string& name,
                         int64_t restart, const at::TensorOptions& options) {
  auto values = at::empty(shape, at::kDouble);
  double* data = values.mutable_data_ptr<double>();
  const uint64_t start = splitmix64(seed + static_cast<uint64_t>(restart) + kSplitmix64Step);
  uint64_t state = start ^ fnv1a(name);
  const auto uniform = [&] {
    state += kSplitmix64Step;
    return (static_cast<double>(splitmix64(state) >> 11) + 0.5) * 0x1p-53;
  };
  for (int64_t i = 0; i < values.numel(); ++i) {
    const double radius = std::sqrt(-2 * std::log(uniform()));
    data[i] = radius * std::cos(2 * std::numbers::pi * uniform());
  }
  return values.to(options);
}

void orthonormalize(LowRankBucket& bucket, Side side) {
  std::map<std::vector<int64_t>, std::vector<FactoredMatrix*>> by_shape;
  for (auto& matrix : bucket.matrices) {
    by_shape[matrix.sent(side).sizes().vec()].push_back(&matrix);
  }
  for (auto& [shape, matrices] : by_shape) {
    std::vector<at::Tensor> factors;
    for (const auto* matrix : matrices) {
      factors.push_back(side == Side::left ? matrix->sent_left : matrix->sent_right.t());
    }
    auto stacked = at::nan_to_num(at::stack(factors), 0, 0, 0);
    stacked = replace_zero_columns(bucket, stacked);
    const auto basis = std::get<0>(at::linalg_qr(stacked, "reduced"));
    for (size_t i = 0; i < matrices.size(); ++i) {
      const auto one = basis[static_cast<int64_t>(i)];
      matrices[i]->basis(side).copy_(side == Side::left ? one : one.t());
    }
  }
}

at::Tensor fingerprint(const LowRankBucket& bucket, Side side, int ranks) {
  uint64_t hash = 0;
  for (const auto& matrix : bucket.matrices) {
    const auto factor = (side == Side::left ? matrix.left : matrix.right).cpu();
    hash = splitmix64(hash + kSplitmix64Step) ^ fnv1a(bytes_of(factor));
  }
  std::vector<double> numbers;
  const auto base = static_cast<uint64_t>(digit_base(ranks));
  for (; static_cast<int64_t>(numbers.size()) < kFingerprint; hash /= base) {
    const auto digit = static_cast<double>(hash % base);
    numbers.insert(numbers.end(), {digit, digit * digit});
  }
  return at::tensor(numbers, at::kDouble);
}

// The mean of squares exceeds the square of the mean by the variance, which is zero only where all
// digits are equal. The sums are below 2^24, and so exact in float32 (digit_base).
bool agree(const at::Tensor& summed_fingerprint, int ranks) {
  const auto sums = summed_fingerprint.to(at::kCPU, at::kDouble);
  const double* sum = sums.const_data_ptr<double>();
  for (int64_t i = 0; i < kFingerprint; i += 2) {
    if (ranks * sum[i + 1] != sum[i] * sum[i]) return false;
  }
  return true;
}

}  // namespace isobar
