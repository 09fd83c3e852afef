// SPDX-License-Identifier: Apache-2.0
#include "compress/low_rank_buckets.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>

#include "compress/world.hpp"

namespace isobar::orthonormal_basis_test {
namespace {

using namespace test;

class OrthonormalBasis : public testing::TestWithParam<std::tuple<at::ScalarType, Side>> {
 protected:
  static at::ScalarType type() { return std::get<0>(GetParam()); }
  static Side side() { return std::get<1>(GetParam()); }

  /// A bucket of two 30 × 30 matrices and one of 20 × 44, of rank 4.
  static LowRankBucket make_bucket() {
    const std::vector<std::pair<int64_t, int64_t>> shapes{{30, 30}, {30, 30}, {20, 44}};
    BucketPiece piece{at::zeros({2 * 900 + 880}, type()), {}, 1};
    std::vector<NamedParameter> parameters;
    int64_t offset = 0;
    for (const auto& [rows, columns] : shapes) {
      const auto p = static_cast<int64_t>(parameters.size());
      parameters.push_back(parameter(std::to_string(p), {rows, columns}, type()));
      piece.slots.push_back({p, offset, 0, rows * columns, columns});
      offset += rows * columns;
    }
    return make_low_rank_bucket(piece, parameters, {.matrix_approximation_rank = 4});
  }

  /// What is to be made orthonormal, [length, 4].
  static at::Tensor sent(FactoredMatrix& matrix) {
    return side() == Side::left ? matrix.sent_left : matrix.sent_right.t();
  }
  static at::Tensor basis(FactoredMatrix& matrix) {
    return side() == Side::left ? matrix.left : matrix.right.t();
  }

  /// Bases of `columns` [44, 4], cut to length. `spans` says that nothing may be missing.
  static void expect_orthonormal(const at::Tensor& columns, bool spans) {
    auto bucket = make_bucket();
    for (auto& matrix : bucket.matrices) {
      sent(matrix).copy_(columns.narrow(0, 0, sent(matrix).size(0)));
    }
    orthonormalize(bucket, side());
    const double tolerance = type() == at::kFloat ? 2e-6 : 1e-14;
    for (auto& matrix : bucket.matrices) {
      const auto q = basis(matrix).to(at::kDouble);
      EXPECT_TRUE(at::allclose(at::mm(q.t(), q), at::eye(4, at::kDouble), 0, tolerance)) << q;
      if (!spans) continue;
      const auto a = columns.narrow(0, 0, q.size(0)).to(type()).to(at::kDouble);
      const auto rest = a - at::mm(q, at::mm(q.t(), a));
      EXPECT_LT((rest.norm() / a.norm()).item<double>(), tolerance);
    }
  }
};
INSTANTIATE_TEST_SUITE_P(All, OrthonormalBasis,
                         testing::Combine(testing::Values(at::kFloat, at::kDouble),
                                          testing::Values(Side::left, Side::right)));

at::Tensor random() { return draw({44, 4}, 3, 1); }

TEST_P(OrthonormalBasis, IsOneOfRandomColumns) { expect_orthonormal(random(), true); }

TEST_P(OrthonormalBasis, IsOneOfTinyAndOfHugeColumns) {
  for (const double scale : {1e-30, 1e30}) expect_orthonormal(random() * scale, true);
  auto mixed = random();
  mixed.select(1, 0) *= 1e-30;
  mixed.select(1, 2) *= 1e30;
  expect_orthonormal(mixed, true);
}

TEST_P(OrthonormalBasis, IsOneOfDependentColumns) {
  auto columns = random();
  columns.select(1, 2).copy_(columns.select(1, 0) - 2 * columns.select(1, 1));
  columns.select(1, 3).copy_(columns.select(1, 0));
  expect_orthonormal(columns, true);
  expect_orthonormal(at::ones({44, 4}, at::kDouble), true);
}

TEST_P(OrthonormalBasis, IsOneOfColumnsOfZeros) {
  auto columns = random();
  columns.select(1, 0).zero_();
  columns.select(1, 3).zero_();
  expect_orthonormal(columns, true);
  expect_orthonormal(at::zeros({44, 4}, at::kDouble), false);
}

TEST_P(OrthonormalBasis, IsOneOfWhatIsNotFinite) {
  for (const double value :
       {std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
    auto columns = random();
    columns.select(1, 1).fill_(value);
    expect_orthonormal(columns, false);
    expect_orthonormal(at::full({44, 4}, value, at::kDouble), false);
  }
}

TEST_P(OrthonormalBasis, DoesNotDependOnTheBucketsOtherMatrices) {
  auto bucket = make_bucket(), other = make_bucket();
  for (auto& matrix : bucket.matrices) {
    sent(matrix).copy_(random().narrow(0, 0, sent(matrix).size(0)));
  }
  sent(other.matrices[1]).copy_(sent(bucket.matrices[1]));
  orthonormalize(bucket, side());
  orthonormalize(other, side());
  EXPECT_TRUE(at::equal(basis(bucket.matrices[0]), basis(bucket.matrices[1])));
  EXPECT_TRUE(at::equal(basis(bucket.matrices[1]), basis(other.matrices[1])));
}

}  // namespace
}  // namespace isobar::orthonormal_basis_test
