// SPDX-License-Identifier: Apache-2.0
// The passes over memory against ATen's operations, for sizes that fill no vector register.
#include "compress/low_rank_kernels.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <functional>

#include "compress/world.hpp"

namespace isobar::kernels_test {
namespace {

using namespace test;

LowRankMatrix make_matrix(int64_t rows, int64_t columns, int64_t rank, at::ScalarType type,
                          bool pending) {
  LowRankMatrix m{rows, columns, rank, {}, {}, {}, {}};
  m.gradient = draw({rows, columns}, 1, 0).to(type);
  m.residual = draw({rows, columns}, 2, 0).to(type);
  if (pending) {
    m.pending_left = draw({rows, rank}, 3, 0).to(type);
    m.pending_right = draw({rank, columns}, 4, 0).to(type);
  }
  return m;
}

at::Tensor left_of(const LowRankMatrix& m) {
  return draw({m.rows, m.rank}, 5, 0).to(m.residual.scalar_type());
}
at::Tensor right_of(const LowRankMatrix& m) {
  return draw({m.rank, m.columns}, 6, 0).to(m.residual.scalar_type());
}

/// gradient + residual, in float64.
at::Tensor owed(const LowRankMatrix& m) {
  auto w = m.gradient.to(at::kDouble) + m.residual.to(at::kDouble);
  if (m.pending_left.defined()) {
    w -= at::mm(m.pending_left.to(at::kDouble), m.pending_right.to(at::kDouble));
  }
  return w;
}

class Kernels : public testing::TestWithParam<std::tuple<at::ScalarType, bool>> {
 protected:
  static at::ScalarType type() { return std::get<0>(GetParam()); }
  static bool pending() { return std::get<1>(GetParam()); }

  static void for_sizes(const std::function<void(LowRankMatrix)>& check) {
    for (const int64_t columns : {1, 3, 15, 16, 17, 63, 1025, 2100}) {
      for (int64_t k = 1; k <= 9; ++k) {
        const int64_t rank = columns < 100 ? k : 10 - k;
        SCOPED_TRACE(testing::Message() << k << " x " << columns << " rank " << rank);
        check(make_matrix(k, columns, rank, type(), pending()));
      }
    }
  }
  /// Sums of so many terms of a size near 1.
  static void expect_near(const at::Tensor& got, const at::Tensor& wanted, int64_t terms) {
    const double unit = type() == at::kFloat ? 2e-7 : 4e-16;
    const double error = (got.to(at::kDouble) - wanted).abs().max().item<double>();
    EXPECT_LE(error, unit * static_cast<double>(terms + 20));
  }
};
INSTANTIATE_TEST_SUITE_P(All, Kernels,
                         testing::Combine(testing::Values(at::kFloat, at::kDouble),
                                          testing::Bool()));

TEST_P(Kernels, ProjectRows) {
  for_sizes([](LowRankMatrix m) {
    const auto w = owed(m), right = right_of(m);
    const auto left = at::full({m.rows, m.rank}, 77, right.options());
    const auto before = m.residual.clone();
    EXPECT_FALSE(project_rows(m, left, right, Keep::all).defined());
    expect_near(left, at::mm(w, right.to(at::kDouble).t()), 4 * m.columns);
    expect_near(m.residual, w, 2 * m.rank);
    m.residual.copy_(before);
    project_rows(m, left, right, Keep::projection);
    const auto rest = w - at::mm(left.to(at::kDouble), right.to(at::kDouble));
    expect_near(m.residual, rest, 100 * m.rank);
  });
}

TEST_P(Kernels, ProjectColumns) {
  for_sizes([](LowRankMatrix m) {
    const auto w = owed(m), left = left_of(m);
    const auto right = at::full({m.rank, m.columns}, 77, left.options());
    EXPECT_FALSE(project_columns(m, left, right).defined());
    expect_near(right, at::mm(left.to(at::kDouble).t(), w), 4 * m.rows * m.rank);
    expect_near(m.residual, w, 2 * m.rank);
  });
}

TEST_P(Kernels, ProjectResidual) {
  if (pending()) return;
  for_sizes([](LowRankMatrix m) {
    const auto left = left_of(m), before = m.residual.clone();
    const auto right = at::full({m.rank, m.columns}, 77, left.options());
    project_residual(m, left, right);
    expect_near(right, at::mm(left.to(at::kDouble).t(), before.to(at::kDouble)), 4 * m.rows);
    EXPECT_TRUE(at::equal(m.residual, before));
  });
}

TEST_P(Kernels, Expand) {
  for_sizes([](LowRankMatrix m) {
    const auto left = left_of(m), right = right_of(m);
    expand(m, left, right);
    expect_near(m.gradient, at::mm(left.to(at::kDouble), right.to(at::kDouble)), 4 * m.rank);
  });
}

TEST_P(Kernels, SettleIsWhatTheNextPassDoesToTheBit) {
  for_sizes([](LowRankMatrix m) {
    auto settled = m, columns = m, rows = m;
    settled.residual = m.residual.clone();
    settle(settled);
    settled.pending_left = settled.pending_right = at::Tensor();
    for (const bool by_rows : {true, false}) {
      auto apart = settled, at_once = m;
      apart.residual = settled.residual.clone();
      at_once.residual = m.residual.clone();
      const auto left = left_of(m), right = right_of(m);
      const auto left2 = left.clone(), right2 = right.clone();
      if (by_rows) {
        project_rows(apart, left, right, Keep::projection);
        project_rows(at_once, left2, right2, Keep::projection);
      } else {
        project_columns(apart, left, right);
        project_columns(at_once, left2, right2);
      }
      EXPECT_TRUE(at::equal(left, left2) && at::equal(right, right2));
      EXPECT_TRUE(at::equal(apart.residual, at_once.residual));
    }
  });
}

/// All results of all passes over a matrix.
std::vector<at::Tensor> results(int64_t rows, int64_t columns, at::ScalarType type, bool pending) {
  auto m = make_matrix(rows, columns, 4, type, pending);
  const auto left = left_of(m), right = right_of(m);
  std::vector<at::Tensor> all;
  project_rows(m, left, right, Keep::projection);
  all.insert(all.end(), {left.clone(), m.residual.clone()});
  project_columns(m, left, right);
  all.insert(all.end(), {right.clone(), m.residual.clone()});
  project_residual(m, left, right);
  settle(m);
  expand(m, left, right);
  all.insert(all.end(), {right, m.residual, m.gradient});
  return all;
}

TEST_P(Kernels, BitsDoNotDependOnTheNumberOfThreads) {
  const int usual = at::get_num_threads();
  for (const auto& [rows, columns] :
       {std::pair{203, 517}, std::pair{9, 40001}, std::pair{65537, 3}}) {
    std::vector<std::vector<at::Tensor>> by_threads;
    for (const int threads : {1, 3}) {
      at::set_num_threads(threads);
      by_threads.push_back(results(rows, columns, type(), pending()));
    }
    at::set_num_threads(usual);
    for (size_t i = 0; i < by_threads[0].size(); ++i) {
      EXPECT_TRUE(at::equal(by_threads[0][i], by_threads[1][i])) << rows << " " << i;
    }
  }
}

TEST_P(Kernels, RowsThatAreNotFiniteCountAsZero) {
  for_sizes([](LowRankMatrix m) {
    auto clean = m;
    clean.residual = m.residual.clone();
    clean.gradient = m.gradient.clone();
    const int64_t row = m.rows / 2;
    m.gradient[row][m.columns - 1] = std::numeric_limits<double>::infinity();
    clean.gradient[row].zero_();
    const auto left = left_of(m), right = right_of(m), left2 = left.clone();
    const auto number = project_rows(m, left, right, Keep::all);
    project_rows(clean, left2, right, Keep::all);
    EXPECT_TRUE(number.defined() && number.isnan().item<bool>());
    EXPECT_TRUE(at::equal(left, left2));
    EXPECT_TRUE(at::equal(m.residual, clean.residual));
  });
}

}  // namespace
}  // namespace isobar::kernels_test
