// SPDX-License-Identifier: Apache-2.0
// Gradients in 8-bit blocks for four ranks: what is sent, the sum that its owner makes, and back.
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>

#include "bench/kernels/kernels.hpp"
#include "compress/block_int8_kernels.hpp"

namespace isobar::bench {
namespace {

constexpr int64_t kParts = 4, kBlock = 256;

struct Message {
  explicit Message(Place place) {
    const int64_t count = rows_of(place) * kWidth;
    layout = isobar::block_layout(count, kParts, kBlock);
    values = bench::values({count}, at::kFloat, 1);
    residual = bench::values({count}, at::kFloat, 2);
    message = zeros({layout.message_bytes()}, at::kByte);
    before = plain(residual);
  }

  /// What the bytes of `part` of a message stand for.
  std::vector<double> read(const at::Tensor& bytes, int64_t part) const {
    std::vector<double> result;
    const auto* from = bytes.const_data_ptr<uint8_t>() + part * layout.part_bytes();
    for (int64_t i = 0; i < layout.part_values(); ++i) {
      float scale;
      std::memcpy(&scale, from + layout.part_values() + 4 * (i / layout.block), sizeof scale);
      result.push_back(static_cast<double>(static_cast<int8_t>(from[i])) * scale);
    }
    return result;
  }

  isobar::BlockLayout layout;
  at::Tensor values, residual, message;
  std::vector<double> before;
};

/// The nearest of 255 levels of a block, the largest value being the last one.
void round_blocks(std::vector<double>& x, int64_t block) {
  for (size_t first = 0; first < x.size(); first += block) {
    double largest = 0;
    for (int64_t i = 0; i < block; ++i) largest = std::max(largest, std::abs(x[first + i]));
    const double step = largest / 127;
    for (int64_t i = 0; i < block; ++i) {
      if (step > 0) x[first + i] = std::nearbyint(x[first + i] / step) * step;
    }
  }
}

/// Levels beside a tie may fall either way in float32, a step of a block's largest value apart:
/// what is sent and what is kept must add up in any case, and what is sent be near.
double errors_of(const std::vector<double>& x, const std::vector<double>& sent,
                 const std::vector<double>& kept, int64_t block) {
  auto rounded = x;
  round_blocks(rounded, block);
  double largest = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    largest = std::max(largest, std::abs(sent[i] + kept[i] - x[i]));
    const double off = std::abs(sent[i] - rounded[i]),
                 tie = std::abs(std::abs(sent[i] - x[i]) - std::abs(rounded[i] - x[i]));
    largest = std::max(largest, std::min(off, tie));
  }
  return largest;
}

/// A row that moves `bytes` and computes `operations` for each value.
Kernel kernel_of(const Message& m, double bytes, double operations) {
  const auto count = static_cast<double>(m.layout.values);
  return {.bytes = bytes * count,
          .operations = operations * count,
          .call = {},
          .error = {},
          .tolerance = 1e-5};
}

Kernel quantise(Place place) {
  const auto m = std::make_shared<Message>(place);
  auto kernel = kernel_of(*m, 4 + 8 + 1 + 4.0 / kBlock, 6);
  kernel.call = [=] { isobar::quantise(m->layout, m->values, m->residual, m->message); };
  kernel.error = [=] {
    auto x = plain(m->values);
    for (size_t i = 0; i < x.size(); ++i) x[i] += m->before[i];
    std::vector<double> sent;
    for (int64_t part = 0; part < kParts; ++part) {
      const auto some = m->read(m->message, part);
      sent.insert(sent.end(), some.begin(), some.end());
    }
    return errors_of(x, sent, plain(m->residual), m->layout.block);
  };
  return kernel;
}

Kernel quantise_sum(Place place) {
  const auto m = std::make_shared<Message>(place);
  isobar::quantise(m->layout, m->values, m->residual, m->message);
  m->before = plain(m->residual);
  const auto own = zeros({m->layout.part_bytes()}, at::kByte);
  const auto sum = zeros({m->layout.part_values()}, at::kFloat);
  // Of all values: a byte is read; of a part's, the sum is written and the residual changed.
  auto kernel = kernel_of(*m, 1 + 4.0 / kBlock + (1 + 4 + 8.0) / kParts, 2 + 6.0 / kParts);
  kernel.call = [=] { isobar::quantise_sum(m->layout, 1, m->message, sum, m->residual, own); };
  kernel.error = [=] {
    std::vector<double> total(m->layout.part_values());
    for (int64_t part = 0; part < kParts; ++part) {
      const auto some = m->read(m->message, part);
      for (size_t i = 0; i < total.size(); ++i) total[i] += some[i];
    }
    const auto residual = plain(m->residual);
    std::vector<double> kept;
    for (size_t i = 0; i < total.size(); ++i) {
      const size_t at = total.size() + i;  // of rank 1
      kept.push_back(residual[at] - m->before[at]);
    }
    return errors_of(total, m->read(own, 0), kept, m->layout.block);
  };
  return kernel;
}

Kernel dequantise(Place place) {
  const auto m = std::make_shared<Message>(place);
  isobar::quantise(m->layout, m->values, m->residual, m->message);
  auto kernel = kernel_of(*m, 1 + 4.0 / kBlock + 4, 1);
  kernel.call = [=] { isobar::dequantise(m->layout, m->message, 2, m->values); };
  kernel.error = [=] {
    std::vector<double> wanted;
    for (int64_t part = 0; part < kParts; ++part) {
      for (const double value : m->read(m->message, part)) wanted.push_back(value / 2);
    }
    return deviation(m->values, wanted);
  };
  return kernel;
}

}  // namespace

void add_block_int8(Kernels& kernels) {
  for (const Place place : {Place::cache, Place::memory}) {
    kernels.add("int8_quantise", place, [=] { return quantise(place); });
    kernels.add("int8_quantise_sum", place, [=] { return quantise_sum(place); });
    kernels.add("int8_dequantise", place, [=] { return dequantise(place); });
  }
}

}  // namespace isobar::bench
