// SPDX-License-Identifier: Apache-2.0
// The passes over a gradient's matrix of low-rank compression, at rank 4.
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <memory>

#include "bench/kernels/kernels.hpp"
#include "compress/low_rank_kernels.hpp"

namespace isobar::bench {
namespace {

constexpr int64_t kRank = 4;

int64_t side_of(Place place) { return place == Place::cache ? 256 : 4096; }

/// A square matrix with factors, and what it held before the first call.
struct Passes {
  explicit Passes(Place place) : side(side_of(place)) {
    matrix.rows = matrix.columns = side;
    matrix.rank = kRank;
    matrix.gradient = values({side, side}, at::kFloat, 1);
    matrix.residual = values({side, side}, at::kFloat, 2);
    left = values({side, kRank}, at::kFloat, 3);
    right = values({kRank, side}, at::kFloat, 4);
    residual = plain(matrix.residual);
    sum = plain(matrix.gradient);
    for (size_t k = 0; k < sum.size(); ++k) sum[k] += residual[k];
  }

  /// w · rightᵀ, [side, kRank].
  std::vector<double> onto_right(const std::vector<double>& w,
                                 const std::vector<double>& by) const {
    std::vector<double> result(side * kRank);
    for (int64_t i = 0; i < side; ++i) {
      for (int64_t r = 0; r < kRank; ++r) {
        for (int64_t j = 0; j < side; ++j)
          result[i * kRank + r] += w[i * side + j] * by[r * side + j];
      }
    }
    return result;
  }
  /// leftᵀ · w, [kRank, side].
  std::vector<double> onto_left(const std::vector<double>& w, const std::vector<double>& by) const {
    std::vector<double> result(kRank * side);
    for (int64_t i = 0; i < side; ++i) {
      for (int64_t r = 0; r < kRank; ++r) {
        for (int64_t j = 0; j < side; ++j)
          result[r * side + j] += by[i * kRank + r] * w[i * side + j];
      }
    }
    return result;
  }
  /// w + factor · a · b.
  std::vector<double> with_product(std::vector<double> w, double factor,
                                   const std::vector<double>& a,
                                   const std::vector<double>& b) const {
    for (int64_t i = 0; i < side; ++i) {
      for (int64_t r = 0; r < kRank; ++r) {
        for (int64_t j = 0; j < side; ++j) {
          w[i * side + j] += factor * a[i * kRank + r] * b[r * side + j];
        }
      }
    }
    return w;
  }

  int64_t side;
  isobar::LowRankMatrix matrix;
  at::Tensor left, right;
  std::vector<double> residual, sum;  ///< before the first call; the sum is with the gradient
};

/// A row of a pass that moves `bytes` and computes `operations` for each value of the matrix.
/// Projections are sums of float32 over a side, whose rounding grows with it.
template <typename Pass, typename Error>
void add_pass(Kernels& kernels, const std::string& name, double bytes, double operations,
              const Pass& pass, const Error& error) {
  for (const Place place : {Place::cache, Place::memory}) {
    kernels.add("low_rank_" + name, place, [=] {
      const auto p = std::make_shared<Passes>(place);
      const auto count = static_cast<double>(p->side * p->side);
      return Kernel{.bytes = bytes * count,
                    .operations = operations * count,
                    .call = [=] { pass(*p); },
                    .error = [=] { return error(*p); },
                    .tolerance = 1e-7 * static_cast<double>(p->side)};
    });
  }
}

}  // namespace

void add_low_rank(Kernels& kernels) {
  add_pass(
      kernels, "project_rows", 12, 1 + 2 * kRank,
      [](Passes& p) { isobar::project_rows(p.matrix, p.left, p.right, isobar::Keep::all); },
      [](Passes& p) {
        return std::max(deviation(p.left, p.onto_right(p.sum, plain(p.right))),
                        deviation(p.matrix.residual, p.sum));
      });
  add_pass(
      kernels, "project_rows_keeping_the_rest", 12, 1 + 4 * kRank,
      [](Passes& p) { isobar::project_rows(p.matrix, p.left, p.right, isobar::Keep::projection); },
      [](Passes& p) {
        const auto right = plain(p.right), left = p.onto_right(p.sum, right);
        return std::max(deviation(p.left, left),
                        deviation(p.matrix.residual, p.with_product(p.sum, -1, left, right)));
      });
  add_pass(
      kernels, "project_columns", 12, 1 + 2 * kRank,
      [](Passes& p) { isobar::project_columns(p.matrix, p.left, p.right); },
      [](Passes& p) {
        return std::max(deviation(p.right, p.onto_left(p.sum, plain(p.left))),
                        deviation(p.matrix.residual, p.sum));
      });
  add_pass(
      kernels, "project_residual", 4, 2 * kRank,
      [](Passes& p) { isobar::project_residual(p.matrix, p.left, p.right); },
      [](Passes& p) { return deviation(p.right, p.onto_left(p.residual, plain(p.left))); });
  add_pass(
      kernels, "expand", 4, 2 * kRank, [](Passes& p) { isobar::expand(p.matrix, p.left, p.right); },
      [](Passes& p) {
        const std::vector<double> none(p.side * p.side);
        return deviation(p.matrix.gradient, p.with_product(none, 1, plain(p.left), plain(p.right)));
      });
  add_pass(
      kernels, "settle", 8, 2 * kRank,
      [](Passes& p) {
        p.matrix.pending_left = p.left;
        p.matrix.pending_right = p.right;
        isobar::settle(p.matrix);
      },
      [](Passes& p) {
        return deviation(p.matrix.residual,
                         p.with_product(p.residual, -1, plain(p.left), plain(p.right)));
      });
}

}  // namespace isobar::bench
