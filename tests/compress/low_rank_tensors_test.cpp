// SPDX-License-Identifier: Apache-2.0
// What devices compute low-rank factors with, on the CPU, against the loops.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>
#include <tuple>

#include "compress/low_rank_kernels.hpp"
#include "compress/parameter_residuals.hpp"
#include "compress/world.hpp"

namespace isobar::low_rank_tensors_test {
namespace {

using test::draw;

struct Case {
  int64_t rows, columns, rank;
};

/// A matrix and its factors; the same numbers each time.
struct Example {
  Example(const Case& size, at::ScalarType type, bool pending) {
    const auto wide = residual_type(type);
    matrix.rows = size.rows;
    matrix.columns = size.columns;
    matrix.rank = size.rank;
    matrix.gradient = draw({size.rows, size.columns}, 1, 0).to(type);
    matrix.residual = draw({size.rows, size.columns}, 2, 0).to(wide);
    left = draw({size.rows, size.rank}, 3, 0).to(wide);
    right = draw({size.rank, size.columns}, 4, 0).to(wide);
    if (!pending) return;
    matrix.pending_left = draw({size.rows, size.rank}, 5, 0).to(wide);
    matrix.pending_right = draw({size.rank, size.columns}, 6, 0).to(wide);
  }
  LowRankMatrix matrix;
  at::Tensor left, right;
};

using Type = std::tuple<at::ScalarType, bool>;

class LowRankTensors : public testing::TestWithParam<Type> {
 protected:
  static at::ScalarType type() { return std::get<0>(GetParam()); }

  /// Runs one pass in both ways; all that a pass may write has to be the same.
  template <typename Loops, typename Tensors>
  static void compare(const Loops& loops, const Tensors& tensors) {
    for (const auto& size : {Case{1, 1, 1}, Case{5, 3, 3}, Case{4, 16, 4}, Case{17, 33, 5},
                             Case{64, 1030, 4}, Case{300, 7, 2}, Case{9, 2100, 9}}) {
      SCOPED_TRACE(testing::Message()
                   << size.rows << " x " << size.columns << " rank " << size.rank << " " << type());
      Example one(size, type(), std::get<1>(GetParam()));
      Example other(size, type(), std::get<1>(GetParam()));
      loops(one);
      tensors(other);
      const int64_t terms = std::max(size.rows, size.columns) * (size.rank + 1);
      expect_near(one.left, other.left, terms);
      expect_near(one.right, other.right, terms);
      expect_near(one.matrix.residual, other.matrix.residual, terms);
      expect_near(one.matrix.gradient, other.matrix.gradient, terms);
    }
  }

  /// Sums of so many terms of a size near 1, in two orders; then rounded to the same type.
  static void expect_near(const at::Tensor& one, const at::Tensor& other, int64_t terms) {
    const double unit = one.scalar_type() == at::kDouble ? 1e-16 : 6e-8;
    const double coarse = one.scalar_type() == at::kBFloat16 ? 8e-3
                          : one.scalar_type() == at::kHalf   ? 1e-3
                                                             : 0;
    const auto wanted = other.to(at::kDouble);
    const auto bound = unit * static_cast<double>(terms + 20) + coarse * wanted.abs();
    EXPECT_TRUE((one.to(at::kDouble) - wanted).abs().le(bound).all().item<bool>());
  }
};
INSTANTIATE_TEST_SUITE_P(All, LowRankTensors,
                         testing::Combine(testing::Values(at::kFloat, at::kDouble, at::kBFloat16,
                                                          at::kHalf),
                                          testing::Bool()));

TEST_P(LowRankTensors, ProjectRowsAsTheLoopsDo) {
  for (const auto keep : {Keep::all, Keep::projection}) {
    compare([&](Example& e) { project_rows(e.matrix, e.left, e.right, keep); },
            [&](Example& e) {
              const auto number = by_tensors::project_rows(e.matrix, e.left, e.right, keep);
              EXPECT_EQ(number.item<double>(), 0);
            });
  }
}

TEST_P(LowRankTensors, ProjectColumnsAsTheLoopsDo) {
  compare([](Example& e) { project_columns(e.matrix, e.left, e.right); },
          [](Example& e) {
            const auto number = by_tensors::project_columns(e.matrix, e.left, e.right);
            EXPECT_EQ(number.item<double>(), 0);
          });
}

TEST_P(LowRankTensors, ProjectResidualsAsTheLoopsDo) {
  if (std::get<1>(GetParam())) return;  // not with a subtraction pending
  compare([](Example& e) { project_residual(e.matrix, e.left, e.right); },
          [](Example& e) { by_tensors::project_residual(e.matrix, e.left, e.right); });
}

TEST_P(LowRankTensors, ExpandAsTheLoopsDo) {
  compare([](Example& e) { expand(e.matrix, e.left, e.right); },
          [](Example& e) { by_tensors::expand(e.matrix, e.left, e.right); });
}

TEST_P(LowRankTensors, SettleAsTheLoopsDo) {
  compare([](Example& e) { settle(e.matrix); }, [](Example& e) { by_tensors::settle(e.matrix); });
}

// The loops forget the number's row, tensor operations the number alone.
TEST_P(LowRankTensors, TellOfANumberThatIsNotFiniteAndKeepTheRest) {
  for (const double odd :
       {std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
    for (const bool by_rows : {true, false}) {
      Example e({6, 20, 2}, type(), std::get<1>(GetParam()));
      Example clean({6, 20, 2}, type(), std::get<1>(GetParam()));
      e.matrix.gradient[2][7] = odd;
      clean.matrix.gradient[2][7] = 0;
      const auto run = [&](Example& of) {
        return by_rows ? by_tensors::project_rows(of.matrix, of.left, of.right, Keep::all)
                       : by_tensors::project_columns(of.matrix, of.left, of.right);
      };
      EXPECT_TRUE(run(e).isnan().item<bool>());
      EXPECT_FALSE(run(clean).isnan().item<bool>());
      EXPECT_TRUE(at::equal(e.matrix.residual, clean.matrix.residual));
      EXPECT_TRUE(at::equal(e.left, clean.left) && at::equal(e.right, clean.right));
    }
  }
}

}  // namespace
}  // namespace isobar::low_rank_tensors_test
