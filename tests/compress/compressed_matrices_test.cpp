// SPDX-License-Identifier: Apache-2.0
// Which gradients are compressed, and as which matrix.
#include <isobar/compress/low_rank.hpp>

#include <gtest/gtest.h>

#include "compress/gradients.hpp"
#include "compress/methods.hpp"
#include "compress/world.hpp"

namespace isobar::compressed_matrices_test {
namespace {

using namespace test;

TEST(IsCompressed, WhereFactorsAreLessThanHalf) {
  const auto with_rank = [](int64_t rank) {
    return LowRankOptions{.matrix_approximation_rank = rank};
  };
  EXPECT_TRUE(is_compressed(1024, 1024, with_rank(4)));
  EXPECT_FALSE(is_compressed(1'000'000, 8, with_rank(4)));
  EXPECT_TRUE(is_compressed(1'000'000, 8, with_rank(1)));
  EXPECT_FALSE(is_compressed(16, 16, with_rank(4)));  // 128 · 2 is not less than 256
  EXPECT_TRUE(is_compressed(16, 17, with_rank(4)));
  EXPECT_FALSE(is_compressed(0, 5, with_rank(1)));
  EXPECT_FALSE(is_compressed(5, 0, with_rank(1)));
  EXPECT_TRUE(is_compressed(16, 16, {.min_compression_rate = 1}));
}

TEST(IsCompressed, NeverOfVectorsWhateverTheRate) {
  for (const double rate : {1e-6, 0.5, 1.0, 2.0}) {
    const LowRankOptions options{.matrix_approximation_rank = 1, .min_compression_rate = rate};
    EXPECT_FALSE(is_compressed(1000, 1, options)) << rate;
    EXPECT_FALSE(is_compressed(1, 1000, options)) << rate;
  }
}

/// Steps of rank-one gradients, which are exact after two; the residual's shape, or none.
/// `type`: of the parameter, whose gradient's precision the tolerance has to allow for.
void check(Method method, const at::Tensor& tensor, std::vector<int64_t> matrix,
           double tolerance = 1e-12) {
  run_ranks(3, [&](Communicator& comm) {
    const auto own = tensor.is_non_overlapping_and_dense()
                         ? at::empty_strided(tensor.sizes(), tensor.strides(), tensor.options())
                         : at::empty({1}, tensor.options()).expand(tensor.sizes());
    own.fill_(1);
    const auto compressor =
        make(method, {.matrix_approximation_rank = 1, .start_step = 0, .compare_every = 1});
    CompressedModel model({{"p", own.set_requires_grad(true)}, parameter("dense", {3})}, comm,
                          compressor);
    auto given = at::zeros(tensor.sizes(), at::kDouble);
    if (tensor.numel() > 0) {
      // Of rank one whichever dimension is outermost.
      given.fill_(1);
      for (int64_t d = 0; d < tensor.dim(); ++d) {
        std::vector<int64_t> sizes(tensor.dim(), 1);
        sizes[d] = tensor.size(d);
        given *= at::arange(1, tensor.size(d) + 1, at::kDouble).view(sizes) / tensor.size(d);
      }
    }
    at::Tensor wanted = given.to(tensor.scalar_type());
    if (tensor.is_complex()) wanted = wanted * c10::complex<double>(1, -2);
    const auto wide = tensor.is_complex() ? at::kComplexDouble : at::kDouble;
    auto sum = at::zeros(tensor.sizes(), wide);
    for (int step = 0; step < 4; ++step) {
      // The ranks' mean is 1.
      model.step({at::conj(wanted) * (0.5 + 0.5 * comm.rank()), at::ones({3}, at::kDouble)});
      sum += model.grad(0);
    }
    const auto residual = remembered(*compressor, "p.residual");
    EXPECT_EQ(residual.defined() ? residual.sizes().vec() : std::vector<int64_t>(), matrix);
    EXPECT_TRUE(at::allclose(sum, 4 * wanted.to(wide), tolerance, tolerance));
    EXPECT_TRUE(at::equal(model.grad(1), at::ones({3}, at::kDouble)));
  });
}

class CompressedMatrices : public testing::TestWithParam<Method> {};
INSTANTIATE_TEST_SUITE_P(All, CompressedMatrices, kMethods);

TEST_P(CompressedMatrices, AreNoVectorsAndScalars) {
  check(GetParam(), at::ones({500}, at::kDouble), {});
  check(GetParam(), at::ones({1, 500}, at::kDouble), {});
  check(GetParam(), at::ones({500, 1}, at::kDouble), {});
  check(GetParam(), at::ones({}, at::kDouble), {});
  check(GetParam(), at::ones({0, 500}, at::kDouble), {});
  check(GetParam(), at::ones({500, 0}, at::kDouble), {});
}

TEST_P(CompressedMatrices, HaveTheRowsOfTheOutermostDimension) {
  check(GetParam(), at::ones({12, 10}, at::kDouble), {12, 10});
  check(GetParam(), at::ones({100, 8}, at::kDouble), {100, 8});
  check(GetParam(), at::ones({8, 4, 3, 3}, at::kDouble), {8, 36});
  check(GetParam(), at::ones({1, 12, 10}, at::kDouble), {12, 10});
}

TEST_P(CompressedMatrices, AreThoseInMemory) {
  check(GetParam(), at::ones({10, 12}, at::kDouble).t(), {10, 12});
  const auto kernel = at::ones({8, 4, 3, 5}, at::kDouble);
  check(GetParam(), kernel.contiguous(at::MemoryFormat::ChannelsLast), {8, 60});
  check(GetParam(), kernel.permute({2, 0, 3, 1}), {8, 60});
}

TEST_P(CompressedMatrices, AreTheShapeWhereMemoryOverlaps) {
  check(GetParam(), at::ones({1}, at::kDouble).expand({12, 10}), {12, 10});
}

TEST_P(CompressedMatrices, TakeComplexNumbersForPairs) {
  check(GetParam(), at::ones({12, 10}, at::kComplexDouble), {12, 20});
  check(GetParam(), at::ones({12, 10}, at::kComplexFloat), {12, 20}, 1e-5);
}

TEST_P(CompressedMatrices, AreComputedInFloatOf16BitFloats) {
  check(GetParam(), at::ones({12, 10}, at::kFloat), {12, 10}, 1e-5);
  check(GetParam(), at::ones({12, 10}, at::kHalf), {12, 10}, 1e-2);
  check(GetParam(), at::ones({12, 10}, at::kBFloat16), {12, 10}, 8e-2);
}

TEST(ResidualOf16BitFloats, IsFloat) {
  run_ranks(2, [&](Communicator& comm) {
    const auto compressor = make_acp_sgd({.matrix_approximation_rank = 1, .start_step = 0});
    CompressedModel model({parameter("p", {12, 10}, at::kBFloat16)}, comm, compressor);
    EXPECT_EQ(remembered(*compressor, "p.residual").scalar_type(), at::kFloat);
    EXPECT_EQ(remembered(*compressor, "p.factor").scalar_type(), at::kFloat);
  });
}

}  // namespace
}  // namespace isobar::compressed_matrices_test
