// SPDX-License-Identifier: Apache-2.0
// Parameters and buffers of every kind come from rank 0, are compared, or are refused by name.
#include "ddp/tensor_bits.hpp"

#include "core/message_of.hpp"

#include <isobar/ddp/data_parallel.hpp>
#include <c10/core/InferenceMode.h>
#include <torch/nn/module.h>
#include <gtest/gtest.h>

#include "ddp/exact.hpp"

#include "comm/expect_error.hpp"

namespace isobar::tensor_kinds_test {
namespace {

using namespace test;

/// Small whole numbers from `seed` on, which every type holds.
at::Tensor values(at::ScalarType type, int seed, at::IntArrayRef sizes = {3, 4}) {
  int64_t count = 1;
  for (const auto size : sizes) count *= size;
  const auto numbers = (at::arange(count) % 5 + seed).view(sizes);
  if (type == at::kBool) return numbers % 2 == 0;
  return numbers.to(at::kFloat).to(type);
}

/// As many entries for every seed, each time elsewhere: a sparse matrix's indices differ too.
at::Tensor one_entry(int seed) {
  auto matrix = at::zeros({3, 4});
  matrix[seed % 3][seed % 4] = seed;
  return matrix;
}

struct Kind {
  const char* name;
  std::function<at::Tensor(int seed)> make;
  bool is_dense = true;
};

std::ostream& operator<<(std::ostream& out, const Kind& kind) { return out << kind.name; }

std::vector<Kind> kinds() {
  std::vector<Kind> result;
  const std::pair<const char*, at::ScalarType> types[] = {{"bool", at::kBool},
                                                          {"uint8", at::kByte},
                                                          {"int8", at::kChar},
                                                          {"int16", at::kShort},
                                                          {"int32", at::kInt},
                                                          {"int64", at::kLong},
                                                          {"uint16", at::kUInt16},
                                                          {"uint32", at::kUInt32},
                                                          {"uint64", at::kUInt64},
                                                          {"half", at::kHalf},
                                                          {"bfloat16", at::kBFloat16},
                                                          {"float", at::kFloat},
                                                          {"double", at::kDouble},
                                                          {"float8", at::kFloat8_e4m3fn},
                                                          {"complex_half", at::kComplexHalf},
                                                          {"complex_float", at::kComplexFloat},
                                                          {"complex_double", at::kComplexDouble}};
  for (const auto& [name, type] : types) {
    result.push_back({name, [type = type](int seed) { return values(type, seed); }});
  }
  const auto made = [](auto&& change) {
    return [change](int seed) { return change(values(at::kFloat, seed)); };
  };
  const std::vector<Kind> others{
      {"expanded",
       [](int seed) {
         return values(at::kFloat, seed, {3, 1}).expand({2, 3, 4});
       }},
      {"expanded_scalar", [](int seed) { return at::full({}, seed, at::kDouble).expand({5}); }},
      {"overlapping", made([](const at::Tensor& t) { return t.view({-1}).unfold(0, 3, 1); })},
      {"transposed", made([](const at::Tensor& t) { return t.t(); })},
      {"with_gaps", made([](const at::Tensor& t) { return t.slice(1, 0, 4, 2); })},
      {"channels_last",
       [](int seed) {
         return values(at::kFloat, seed, {2, 3, 2, 2}).contiguous(at::MemoryFormat::ChannelsLast);
       }},
      {"inference",
       [](int seed) {
         const c10::InferenceMode inference;
         return at::full({3}, seed, at::kFloat);
       }},
      {"scalar", [](int seed) { return at::full({}, seed); }},
      {"empty",
       [](int) {
         return at::empty({0, 3});
       }},
      {"conjugate",
       [](int seed) {
         return at::complex(values(at::kFloat, seed), values(at::kFloat, seed)).conj();
       }},
      {"negative",
       [](int seed) {
         return at::imag(at::complex(values(at::kFloat, seed), values(at::kFloat, seed)).conj());
       }},
      {"coo", [](int seed) { return one_entry(seed).to_sparse(); }, false},
      {"coo_uncoalesced",
       [](int seed) {
         return at::sparse_coo_tensor(at::tensor({0, 2, 2}, at::kLong).view({1, 3}),
                                      values(at::kDouble, seed, {3}), {4});
       },
       false},
      {"csr", [](int seed) { return one_entry(seed).to_sparse_csr(); }, false},
      {"csc", [](int seed) { return one_entry(seed).to_sparse_csc(); }, false},
      {"bsr",
       [](int seed) {
         return one_entry(seed).to_sparse_bsr({1, 2});
       },
       false}};
  result.insert(result.end(), others.begin(), others.end());
  return result;
}

at::Tensor dense(const at::Tensor& tensor) {
  auto plain =
      tensor.detach().layout() == at::kStrided ? tensor.detach() : tensor.detach().to_dense();
  plain = plain.resolve_conj().resolve_neg();
  return plain.to(plain.is_complex() ? at::kComplexDouble : at::kDouble);
}

struct Holder : torch::nn::Module {
  at::Tensor weight = register_parameter("weight", at::ones({2}));
};

class TensorKinds : public testing::TestWithParam<Kind> {};
INSTANTIATE_TEST_SUITE_P(All, TensorKinds, testing::ValuesIn(kinds()),
                         [](const auto& info) { return info.param.name; });

void step(DataParallel& parallel, const Holder& module) {
  parallel.zero_grad();
  module.weight.sum().backward();
  parallel.finish();
}

TEST_P(TensorKinds, AsBuffersAndFrozenParametersComeFromRankZero) {
  run_ranks(2, [](Communicator& comm) {
    Holder module;
    const auto buffer = module.register_buffer("buffer", GetParam().make(2 * comm.rank() + 1));
    std::vector<at::Tensor> tensors{buffer};
    if (GetParam().is_dense) {
      tensors.push_back(
          module.register_parameter("frozen", GetParam().make(2 * comm.rank() + 1), false));
    }
    DataParallel parallel(module, comm, {.buffers = {.action = BufferAction::compare}});
    for (const auto& tensor : tensors) {
      EXPECT_TRUE(at::equal(dense(tensor), dense(GetParam().make(1)))) << dense(tensor);
    }
    step(parallel, module);
  });
}

TEST_P(TensorKinds, ThatDifferAreNamed) {
  if (GetParam().make(1).numel() == 0) return;
  run_ranks(2, [](Communicator& comm) {
    Holder module;
    auto buffer = module.register_buffer("buffer", GetParam().make(1));
    DataParallel parallel(module, comm, {.buffers = {.action = BufferAction::compare}});
    step(parallel, module);
    if (comm.rank() == 1) {
      const auto others = parts_of(GetParam().make(2));
      const auto own = parts_of(buffer);
      for (size_t i = 0; i < own.size(); ++i) set_raw_bytes(own[i], raw_bytes(others[i]));
    }
    expect_contains(message_of<UsageError>([&] { step(parallel, module); }),
                    "buffer 'buffer' of rank 1 of 2 differs from that of rank 0");
  });
}

TEST_P(TensorKinds, AreBroadcastByPolicy) {
  run_ranks(2, [](Communicator& comm) {
    Holder module;
    const auto buffer = module.register_buffer("buffer", GetParam().make(1));
    DataParallel parallel(module, comm, {.buffers = {.action = BufferAction::broadcast}});
    const auto others = parts_of(GetParam().make(2 + comm.rank()));
    const auto own = parts_of(buffer);
    for (size_t i = 0; i < own.size(); ++i) set_raw_bytes(own[i], raw_bytes(others[i]));
    step(parallel, module);
    EXPECT_TRUE(at::equal(dense(buffer), dense(GetParam().make(2)))) << dense(buffer);
  });
}

TEST(TensorKindsRefused, AreNamedOnEveryRank) {
  const std::vector<std::pair<std::function<at::Tensor()>, std::string>> refused{
      {[] { return at::quantize_per_tensor(at::ones({4}), 0.1, 0, at::kQInt8); }, "is quantized"},
      {[] { return at::empty({4}, at::TensorOptions().device(at::kMeta)); }, "has no memory"}};
  for (const auto& [maker, reason] : refused) {
    const auto& make = maker;  // a name that Clang lets a lambda capture
    for (const auto& message : errors_of([&](Communicator& comm) {
           Holder module;
           module.register_buffer("odd", make());
           DataParallel parallel(module, comm);
         })) {
      expect_contains(message, "buffer 'odd' " + reason);
    }
  }
}

TEST(TensorKindsRefused, AreSparseBuffersOfUnequalStructure) {
  for (const auto& message : errors_of([](Communicator& comm) {
         Holder module;
         auto graph = at::eye(3);
         if (comm.rank() == 1) graph[0][2] = 1;
         module.register_buffer("adjacency", graph.to_sparse());
         DataParallel parallel(module, comm);
       })) {
    expect_contains(message, "buffer adjacency Float [3, 3] Sparse");
  }
}

TEST(TensorKindsRefused, AreParametersThatCannotBeReducedByName) {
  const std::vector<at::Tensor> tensors{
      at::ones({2}).to(at::kFloat8_e4m3fn).set_requires_grad(true),
      at::empty({2}, at::TensorOptions().device(at::kMeta)).set_requires_grad(true)};
  for (const auto& tensor : tensors) {
    for (const auto& message : errors_of([&](Communicator& comm) {
           Reducer reducer({{"odd", tensor.detach().set_requires_grad(true)}}, comm);
         })) {
      expect_contains(message, "parameter 'odd' is ");
    }
  }
}

/// Every kind that has gradients, as parameters that are trained.
TEST(TensorKindsTrained, ComeFromRankZeroAndAreReduced) {
  run_ranks(2, [](Communicator& comm) {
    const auto rank = comm.rank();
    const std::vector<at::Tensor> made{
        values(at::kDouble, rank).set_requires_grad(true),
        values(at::kComplexFloat, rank).set_requires_grad(true),
        values(at::kFloat, rank, {3, 1}).expand({3, 4}).detach().set_requires_grad(true),
        values(at::kBFloat16, rank).t().set_requires_grad(true),
        values(at::kFloat, rank).slice(1, 0, 4, 2).set_requires_grad(true),
        at::empty({0, 2}).set_requires_grad(true),
        at::full({}, rank + 1.0).set_requires_grad(true)};
    torch::nn::Module module;
    for (size_t i = 0; i < made.size(); ++i) {
      module.register_parameter("p" + std::to_string(i), made[i]);
    }
    DataParallel parallel(module, comm);
    EXPECT_TRUE(at::equal(made[2].detach(), values(at::kFloat, 0, {3, 1}).expand({3, 4})));
    EXPECT_TRUE(at::equal(made[1].detach(), values(at::kComplexFloat, 0)));
    for (int i = 0; i < 2; ++i) {
      parallel.zero_grad();
      for (const auto& tensor : made) backward(tensor, rank);
      parallel.finish();
      for (const auto& tensor : made) EXPECT_TRUE(at::equal(tensor.grad(), exact_mean(tensor, 2)));
    }
  });
}

}  // namespace
}  // namespace isobar::tensor_kinds_test
