// SPDX-License-Identifier: Apache-2.0
#include <isobar/bench/values.hpp>

#include <isobar/core/error.hpp>
#include <isobar/core/text.hpp>
#include <ATen/ops/arange.h>
#include <ATen/ops/bitwise_right_shift.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

namespace isobar::bench {
namespace {

/// Elements looked at together: references of 64 MiB on several ranks a machine would need
/// gigabytes otherwise.
constexpr int64_t kChunk = 1 << 20;
constexpr int64_t kLargestValue = 31;
/// What no result is, for outputs that nothing has been written to.
constexpr int kUnwritten = -1;

/// Type, its name, and the integer up to which it holds every one.
struct Type {
  std::string_view name;
  at::ScalarType type;
  int64_t exact;
};

constexpr std::array<Type, 6> kTypes{{{"float32", at::kFloat, 1 << 24},
                                      {"float64", at::kDouble, int64_t{1} << 53},
                                      {"bfloat16", at::kBFloat16, 1 << 8},
                                      {"float16", at::kHalf, 1 << 11},
                                      {"int32", at::kInt, std::numeric_limits<int32_t>::max()},
                                      {"int64", at::kLong, std::numeric_limits<int64_t>::max()}}};

int64_t exact_limit(at::ScalarType type) {
  for (const auto& known : kTypes) {
    if (known.type == type) return known.exact;
  }
  return kLargestValue;
}

/// Calls `body`(first, count) for consecutive stretches of [0, total).
template <typename Body>
void in_chunks(int64_t total, const Body& body) {
  for (int64_t first = 0; first < total; first += kChunk) {
    body(first, std::min(kChunk, total - first));
  }
}

}  // namespace

at::ScalarType parse_type(std::string_view name) {
  std::vector<std::string> names;
  for (const auto& known : kTypes) {
    if (known.name == name) return known.type;
    names.emplace_back(known.name);
  }
  throw UsageError(detail::join("no type '", name, "'; ", did_you_mean(name, names)));
}

ExactValues::ExactValues(Collective op, at::ScalarType type, int rank, int ranks)
    : op_(op),
      type_(type),
      rank_(rank),
      ranks_(ranks),
      modulus_(std::clamp<int64_t>(exact_limit(type) / ranks, 2, kLargestValue)) {}

Buffers ExactValues::make_buffers(int64_t bytes, const at::Device& device) const {
  if (op_ == Collective::barrier) return {};
  const auto options = at::TensorOptions().dtype(type_).device(device);
  const auto element_bytes = static_cast<int64_t>(c10::elementSize(type_));
  const auto counts = counts_of(op_, bytes, element_bytes, ranks_);
  const auto output = at::empty({counts.output}, options);
  return {in_place(op_) ? output : at::empty({counts.input}, options), output};
}

at::Tensor ExactValues::values(int rank, int round, int64_t first, int64_t count) const {
  // Knuth's multiplicative hash: neighbours, blocks and ranks all differ.
  const auto mixed = at::arange(first, first + count, at::kLong)
                         .mul_(int64_t{2654435761})
                         .add_(int64_t{40503} * 65536 * (rank + 1));
  return at::bitwise_right_shift(mixed, 16)
      .bitwise_and_(0xffffff)
      .add_(round)
      .remainder_(modulus_)
      .add_(1);
}

void ExactValues::fill(const Buffers& buffers, int round) const {
  if (!buffers.input.defined()) return;
  in_chunks(buffers.input.numel(), [&](int64_t first, int64_t count) {
    buffers.input.narrow(0, first, count).copy_(values(rank_, round, first, count));
  });
  if (!in_place(op_)) buffers.output.fill_(kUnwritten);
}

void ExactValues::settle(const Buffers& buffers) const {
  if (op_ == Collective::allreduce) buffers.output.fill_(0);
}

std::vector<ExactValues::Piece> ExactValues::pieces(int64_t output_count) const {
  std::vector<int> everyone(ranks_);
  std::iota(everyone.begin(), everyone.end(), 0);
  const auto part = output_count / ranks_;
  switch (op_) {
    case Collective::allreduce:
      return {{0, output_count, 0, everyone}};
    case Collective::reduce_scatter:
      return {{0, output_count, rank_ * output_count, everyone}};
    case Collective::broadcast:
      return {{0, output_count, 0, {0}}};
    case Collective::send_receive:
      return {{0, output_count, 0, {(rank_ + ranks_ - 1) % ranks_}}};
    case Collective::barrier:
      return {};
    default:
      break;
  }
  std::vector<Piece> blocks;
  const auto index = op_ == Collective::all_to_all ? rank_ * part : 0;
  for (const int from : everyone) blocks.push_back({from * part, part, index, {from}});
  return blocks;
}

double ExactValues::deviation(const Buffers& buffers, int round) const {
  if (!buffers.output.defined()) return 0;
  double largest = 0;
  for (const auto& piece : pieces(buffers.output.numel())) {
    in_chunks(piece.count, [&](int64_t first, int64_t count) {
      auto wanted = at::zeros({count}, at::kLong);
      for (const int rank : piece.ranks) {
        wanted.add_(values(rank, round, piece.index + first, count));
      }
      const auto got = buffers.output.narrow(0, piece.at + first, count).cpu().to(at::kDouble);
      // Through the type: where ranks are so many that it cannot hold the sum, rounded once.
      const auto off = got.sub(wanted.to(type_)).abs_().max().item<double>();
      largest = std::isfinite(off) ? std::max(largest, off) : std::numeric_limits<double>::max();
    });
  }
  return largest;
}

}  // namespace isobar::bench
