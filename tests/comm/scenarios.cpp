// SPDX-License-Identifier: Apache-2.0
#include "comm/scenarios.hpp"

#include <isobar/comm/agreement.hpp>
#include <isobar/comm/process_grid.hpp>
#include <isobar/comm/thread_world.hpp>
#include <isobar/core/error.hpp>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "comm/values.hpp"

namespace isobar::test {
namespace {

struct Setting {
  at::ScalarType type;
  int64_t count;
};

/// The checks of one operation for all element types and sizes.
template <typename Check>
void for_settings(const Check& check) {
  for (const auto type : {at::kFloat, at::kDouble, at::kLong, at::kBFloat16, at::kHalf}) {
    for (const int64_t count : {0, 1, 7, 1000}) check(Setting{type, count});
  }
}

double combine(ReduceOp op, double a, double b) {
  if (op == ReduceOp::sum) return a + b;
  return op == ReduceOp::minimum ? std::min(a, b) : std::max(a, b);
}

/// The plain reference: the values of all ranks, combined at each position.
std::vector<double> combined(ReduceOp op, int size, int64_t count, int64_t first = 0) {
  std::vector<double> result;
  for (int64_t i = first; i < first + count; ++i) {
    auto all = value(0, i);
    for (int r = 1; r < size; ++r) all = combine(op, all, value(r, i));
    result.push_back(all);
  }
  return result;
}

constexpr ReduceOp kOps[] = {ReduceOp::sum, ReduceOp::minimum, ReduceOp::maximum};

void allreduce(Communicator& world) {
  for_settings([&](const Setting& setting) {
    for (const auto op : kOps) {
      auto buffer = ramp(setting.type, world.rank(), setting.count);
      world.allreduce(buffer, op).wait();
      EXPECT_EQ(to_vector(buffer), combined(op, world.size(), setting.count));
    }
  });
}

void reduce_scatter(Communicator& world) {
  for_settings([&](const Setting& setting) {
    for (const auto op : kOps) {
      const auto input = ramp(setting.type, world.rank(), world.size() * setting.count);
      auto output = at::empty({setting.count}, setting.type);
      world.reduce_scatter(output, input, op).wait();
      EXPECT_EQ(to_vector(output),
                combined(op, world.size(), setting.count, world.rank() * setting.count));
    }
  });
}

/// Large values whose sum no float16 holds, and the smallest whose share none does.
void sums_of_sixteen_bits_are_divided_before_they_are_rounded(Communicator& world) {
  const double size = world.size();
  for (const auto type : {at::kBFloat16, at::kHalf}) {
    for (const int64_t count : {1, 7, 1000, 100'000}) {
      const auto mean = at::full({count}, 60000, type);
      mean.narrow(0, count / 2, 1).fill_(0x1p-24);
      auto buffer = mean.clone();
      world.allreduce(buffer, {.divisor = size}).wait();
      EXPECT_TRUE(at::equal(buffer, mean));
      world.reduce_scatter(buffer.zero_(), mean.repeat({world.size()}), {.divisor = size}).wait();
      EXPECT_TRUE(at::equal(buffer, mean));
      world.allreduce(buffer.fill_(3), {.divisor = 1.5}).wait();
      EXPECT_TRUE(at::equal(buffer, at::full_like(buffer, 2 * size)));
    }
  }
}

void all_gather(Communicator& world) {
  for_settings([&](const Setting& setting) {
    auto output = at::empty({world.size(), setting.count}, setting.type);
    world.all_gather(output, ramp(setting.type, world.rank(), setting.count)).wait();
    for (int r = 0; r < world.size(); ++r) {
      EXPECT_EQ(to_vector(output[r]), to_vector(ramp(setting.type, r, setting.count)));
    }
  });
}

/// Different for every pair, zero for some.
int64_t rows_between(int from, int to, int64_t count) { return (from + 2 * to) % 3 * count; }

/// Rows of two elements from each rank to each other; those of a pair start at
/// an index that only the pair has.
at::Tensor rows_of(at::ScalarType type, int from, int to, int64_t count) {
  return ramp(type, from, 2 * rows_between(from, to, count), 100 * to).view({-1, 2});
}

void all_to_all(Communicator& world) {
  for_settings([&](const Setting& setting) {
    std::vector<int64_t> input_rows;
    std::vector<int64_t> output_rows;
    std::vector<at::Tensor> sent;
    std::vector<at::Tensor> expected;
    for (int r = 0; r < world.size(); ++r) {
      input_rows.push_back(rows_between(world.rank(), r, setting.count));
      output_rows.push_back(rows_between(r, world.rank(), setting.count));
      sent.push_back(rows_of(setting.type, world.rank(), r, setting.count));
      expected.push_back(rows_of(setting.type, r, world.rank(), setting.count));
    }
    auto output = at::empty_like(at::cat(expected));
    world.all_to_all(output, at::cat(sent), output_rows, input_rows).wait();
    EXPECT_TRUE(at::equal(output, at::cat(expected)));
  });
}

void broadcast(Communicator& world) {
  for_settings([&](const Setting& setting) {
    for (int root = 0; root < world.size(); ++root) {
      auto buffer = ramp(setting.type, world.rank(), setting.count);
      world.broadcast(buffer, root).wait();
      EXPECT_TRUE(at::equal(buffer, ramp(setting.type, root, setting.count)));
    }
  });
}

void send_and_receive(Communicator& world) {
  if (world.size() == 1) return;
  const int next = (world.rank() + 1) % world.size();
  const int previous = (world.rank() + world.size() - 1) % world.size();
  for_settings([&](const Setting& setting) {
    auto buffer = at::empty({setting.count}, setting.type);
    auto received = world.receive(buffer, previous, 3);
    auto sent = world.send(ramp(setting.type, world.rank(), setting.count), next, 3);
    received.wait();
    sent.wait();
    EXPECT_TRUE(at::equal(buffer, ramp(setting.type, previous, setting.count)));
  });
}

void messages_are_matched_by_tag_and_order(Communicator& world) {
  if (world.size() == 1 || world.rank() > 1) return;
  const int peer = 1 - world.rank();
  std::vector<at::Tensor> received(3, at::Tensor());
  std::vector<Work> works;
  const int sent_tags[] = {5, 8, 5};
  for (int i = 0; i < 3; ++i) {
    works.push_back(world.send(at::full({4}, 10 * world.rank() + i), peer, sent_tags[i]));
  }
  const int wanted_tags[] = {8, 5, 5};
  for (int i = 0; i < 3; ++i) {
    received[i] = at::empty({4}, at::kFloat).to(at::kLong);
    works.push_back(world.receive(received[i], peer, wanted_tags[i]));
  }
  for (auto& work : works) work.wait();
  EXPECT_EQ(received[0][0].item<int64_t>(), 10 * peer + 1);
  EXPECT_EQ(received[1][0].item<int64_t>(), 10 * peer);
  EXPECT_EQ(received[2][0].item<int64_t>(), 10 * peer + 2);
}

void barriers_complete(Communicator& world) {
  for (int i = 0; i < 3; ++i) {
    auto work = world.barrier();
    work.wait();
    EXPECT_TRUE(work.is_completed());
  }
}

void parameters_that_want_gradients_are_written(Communicator& world) {
  auto parameter = ramp(at::kFloat, world.rank(), 5).requires_grad_();
  world.broadcast(parameter, 0).wait();
  EXPECT_TRUE(at::equal(parameter.detach(), ramp(at::kFloat, 0, 5)));

  auto gathered = at::empty({world.size(), 5}).requires_grad_();
  world.all_gather(gathered, parameter).wait();
  EXPECT_TRUE(gathered.is_leaf());
  EXPECT_TRUE(at::equal(gathered.detach()[world.size() - 1], ramp(at::kFloat, 0, 5)));
}

void many_in_flight_are_waited_for_in_reverse(Communicator& world) {
  constexpr int kCount = 60;
  std::vector<at::Tensor> buffers;
  std::vector<Work> works;
  for (int i = 0; i < kCount; ++i) {
    buffers.push_back(ramp(at::kFloat, world.rank() + i, 1 + i));
    works.push_back(i % 3 == 0 ? world.broadcast(buffers[i], i % world.size())
                               : world.allreduce(buffers[i]));
  }
  for (int i = kCount - 1; i >= 0; --i) {
    works[i].wait();
    auto expected = ramp(at::kFloat, i % world.size() + i, 1 + i);
    if (i % 3 != 0) {
      expected.zero_();
      for (int r = 0; r < world.size(); ++r) expected += ramp(at::kFloat, r + i, 1 + i);
    }
    EXPECT_TRUE(at::equal(buffers[i], expected)) << "operation " << i;
  }
}

void work_may_be_dropped_and_keeps_its_tensors(Communicator& world) {
  for (int i = 0; i < 5; ++i) {
    [[maybe_unused]] const auto dropped = world.allreduce(at::ones({1000}));
  }
  auto buffer = at::ones({3});
  auto work = world.allreduce(buffer);
  auto copy = work;
  copy.wait();
  work.wait();
  EXPECT_TRUE(at::equal(buffer, at::full({3}, static_cast<float>(world.size()))));
}

void allreduce_gives_every_rank_the_same_bits(Communicator& world) {
  auto buffer = at::sin(at::arange(0, 1013, at::kFloat) * (1 + world.rank())) * 1e-3;
  world.allreduce(buffer).wait();
  auto all = at::empty({world.size(), buffer.numel()});
  world.all_gather(all, buffer).wait();
  for (int r = 1; r < world.size(); ++r) EXPECT_TRUE(at::equal(all[r], all[0])) << "rank " << r;
}

/// The ranks of `comm` in the numbers of the world, in order.
std::vector<double> members_of(Communicator& comm, int world_rank) {
  auto all = at::empty({comm.size()}, at::kLong);
  comm.all_gather(all, at::full({1}, world_rank, at::kLong)).wait();
  return to_vector(all);
}

void split_orders_by_key(Communicator& world) {
  const auto reversed = world.split(0, -world.rank());
  std::vector<double> expected;
  for (int r = world.size() - 1; r >= 0; --r) expected.push_back(r);
  EXPECT_EQ(members_of(*reversed, world.rank()), expected);
  EXPECT_EQ(reversed->rank(), world.size() - 1 - world.rank());
  EXPECT_EQ(reversed->timeout(), world.timeout());
  EXPECT_EQ(reversed->backend(), world.backend());
}

void split_with_a_negative_color_gives_none(Communicator& world) {
  const auto rest = world.split(world.rank() == 0 ? -1 : 7, 0);
  ASSERT_EQ(rest == nullptr, world.rank() == 0);
  if (rest) {
    EXPECT_EQ(rest->size(), world.size() - 1);
  }
}

void split_communicators_work_beside_each_other(Communicator& world) {
  const int color = world.rank() % 2;
  const auto half = world.split(color, 0);
  auto in_half = at::ones({3});
  auto in_world = at::ones({3});
  auto half_work = half->allreduce(in_half);
  auto world_work = world.allreduce(in_world);
  world_work.wait();
  half_work.wait();
  EXPECT_EQ(in_half[0].item<float>(), half->size());
  EXPECT_EQ(in_world[0].item<float>(), world.size());
  EXPECT_EQ(half->size(), (world.size() + 1 - color) / 2);
}

void process_grid_has_neighbours_in_a_model(Communicator& world) {
  for (int model_size = 1; model_size <= world.size(); ++model_size) {
    if (world.size() % model_size != 0) continue;
    const ProcessGrid grid(world, model_size);
    std::vector<double> model;
    std::vector<double> data;
    for (int w = 0; w < world.size(); ++w) {
      if (w / model_size == world.rank() / model_size) model.push_back(w);
      if (w % model_size == world.rank() % model_size) data.push_back(w);
    }
    EXPECT_EQ(members_of(grid.model(), world.rank()), model);
    EXPECT_EQ(members_of(grid.data(), world.rank()), data);
    EXPECT_EQ(grid.replicas(), world.size() / model_size);
  }
}

void process_grid_wants_a_divisor(Communicator& world) {
  EXPECT_THROW(ProcessGrid(world, world.size() + 1), UsageError);
  EXPECT_THROW(ProcessGrid(world, 0), UsageError);
}

void texts_of_any_length_are_gathered(Communicator& world) {
  const auto text_of = [](int rank) {
    return std::string(3 * rank, static_cast<char>('a' + rank));
  };
  const auto texts = gather_texts(world, text_of(world.rank()));
  ASSERT_EQ(texts.size(), world.size());
  for (int r = 0; r < world.size(); ++r) EXPECT_EQ(texts[r], text_of(r));
  EXPECT_EQ(gather_texts(world, ""), std::vector<std::string>(world.size()));
}

void an_error_of_one_rank_is_everyones(Communicator& world) {
  const int last = world.size() - 1;
  try {
    run_agreed(world, [&] {
      if (world.rank() == last) throw DataError("era5.nc: no variable 't2m'");
    });
    FAIL() << "no error on rank " << world.rank();
  } catch (const DataError& error) {
    const auto where =
        last == 0 ? ""
                  : "rank " + std::to_string(last) + " of " + std::to_string(world.size()) + ": ";
    EXPECT_EQ(error.what(), where + "era5.nc: no variable 't2m'");
  }
  bool ran = false;
  run_agreed(world, [&] { ran = true; });
  EXPECT_TRUE(ran);
}

constexpr at::ScalarType kReduced[] = {at::kByte, at::kChar,     at::kShort, at::kInt,   at::kLong,
                                       at::kHalf, at::kBFloat16, at::kFloat, at::kDouble};

/// Small integers that no type wraps or rounds, sums of five ranks included.
at::Tensor values(at::ScalarType type, int rank, int64_t count, int64_t first = 0) {
  return ((at::arange(first, first + count, at::kLong) * 3 + 7 * rank) % 11).to(type);
}

at::Tensor combine(ReduceOp op, const at::Tensor& a, const at::Tensor& b) {
  if (op == ReduceOp::sum) return a + b;
  return op == ReduceOp::minimum ? at::minimum(a, b) : at::maximum(a, b);
}

at::Tensor combined_values(ReduceOp op, at::ScalarType type, int size, int64_t count,
                           int64_t first = 0) {
  auto result = values(type, 0, count, first);
  for (int r = 1; r < size; ++r) result = combine(op, result, values(type, r, count, first));
  return result;
}

/// Starts `issue(type, count)` for all of them, then checks what each gave.
template <typename Issue>
void issue_all(const std::vector<int64_t>& counts, const std::vector<at::ScalarType>& types,
               const Issue& issue) {
  struct Started {
    at::Tensor result;
    at::Tensor expected;
    Work work;
  };
  for (const auto type : types) {
    std::vector<Started> all;
    for (const auto count : counts) {
      auto& started = all.emplace_back();
      started.work = issue(type, count, started.result, started.expected);
    }
    for (auto& started : all) {
      started.work.wait();
      EXPECT_TRUE(at::equal(started.result, started.expected))
          << type << "[" << started.result.numel() << "]";
    }
  }
}

std::vector<at::ScalarType> moved_types() {
  std::vector<at::ScalarType> types(std::begin(kReduced), std::end(kReduced));
  types.push_back(at::kBool);
  return types;
}

void check_reductions(Communicator& world, const std::vector<int64_t>& counts) {
  const std::vector<at::ScalarType> types(std::begin(kReduced), std::end(kReduced));
  const int size = world.size();
  for (const auto op : kOps) {
    SCOPED_TRACE(to_string(op));
    issue_all(counts, types, [&](auto type, int64_t count, auto& result, auto& expected) {
      result = values(type, world.rank(), count);
      expected = combined_values(op, type, size, count);
      return world.allreduce(result, op);
    });
    issue_all(counts, types, [&](auto type, int64_t count, auto& result, auto& expected) {
      result = at::empty({count}, type);
      expected = combined_values(op, type, size, count, world.rank() * count);
      return world.reduce_scatter(result, values(type, world.rank(), size * count), op);
    });
  }
}

void check_moves(Communicator& world, const std::vector<int64_t>& counts) {
  const int size = world.size();
  issue_all(counts, moved_types(), [&](auto type, int64_t count, auto& result, auto& expected) {
    std::vector<at::Tensor> all;
    for (int r = 0; r < size; ++r) all.push_back(values(type, r, count));
    expected = at::cat(all);
    result = at::empty_like(expected);
    return world.all_gather(result, values(type, world.rank(), count));
  });
  issue_all(counts, moved_types(), [&](auto type, int64_t count, auto& result, auto& expected) {
    const int root = static_cast<int>(count) % size;
    result = values(type, world.rank(), count);
    expected = values(type, root, count);
    return world.broadcast(result, root);
  });
}

void check_exchanges(Communicator& world, const std::vector<int64_t>& counts) {
  const int me = world.rank();
  issue_all(counts, moved_types(), [&](auto type, int64_t count, auto& result, auto& expected) {
    std::vector<int64_t> input_rows;
    std::vector<int64_t> output_rows;
    std::vector<at::Tensor> sent;
    std::vector<at::Tensor> wanted;
    for (int r = 0; r < world.size(); ++r) {
      input_rows.push_back((me + 2 * r) % 3 * count);
      output_rows.push_back((r + 2 * me) % 3 * count);
      sent.push_back(values(type, me, input_rows.back(), 100 * r));
      wanted.push_back(values(type, r, output_rows.back(), 100 * me));
    }
    expected = at::cat(wanted);
    result = at::empty_like(expected);
    return world.all_to_all(result, at::cat(sent), output_rows, input_rows);
  });
}

/// Values of very different magnitude, so that another order gives other bits.
at::Tensor awkward(at::ScalarType type, int rank, int64_t count) {
  const auto index = at::arange(count, at::kDouble);
  return (at::sin(index * (rank + 1.5)) * at::exp(at::cos(index + 7 * rank) * 4)).to(type);
}

/// What rank `rank` of a world of threads gets from the same values.
struct Bits {
  at::Tensor sum;
  at::Tensor scattered;
};

Bits bits_of_sums(Communicator& world, at::ScalarType type, int64_t count) {
  Bits bits;
  bits.sum = awkward(type, world.rank(), count);
  bits.scattered = at::empty({count}, type);
  auto sum = world.allreduce(bits.sum);
  const auto input = awkward(type, world.rank(), world.size() * count);
  auto scatter = world.reduce_scatter(bits.scattered, input);
  sum.wait();
  scatter.wait();
  return bits;
}

}  // namespace

void check_sizes(Communicator& world, const std::vector<int64_t>& counts) {
  check_reductions(world, counts);
  check_moves(world, counts);
  check_exchanges(world, counts);
}

void check_bits(Communicator& world, const std::vector<int64_t>& counts) {
  for (const auto type : {at::kHalf, at::kBFloat16, at::kFloat, at::kDouble}) {
    for (const auto count : counts) {
      Bits expected;
      run_ranks(world.size(), [&](Communicator& threads) {
        auto bits = bits_of_sums(threads, type, count);
        if (threads.rank() == world.rank()) expected = std::move(bits);
      });
      const auto got = bits_of_sums(world, type, count);
      EXPECT_TRUE(at::equal(got.sum, expected.sum)) << type << "[" << count << "]";
      EXPECT_TRUE(at::equal(got.scattered, expected.scattered)) << type << "[" << count << "]";
    }
  }
}

std::vector<Scenario> scenarios() {
  return {
      {"Allreduce", allreduce},
      {"ReduceScatter", reduce_scatter},
      {"SumsOfSixteenBitsAreDividedBeforeTheyAreRounded",
       sums_of_sixteen_bits_are_divided_before_they_are_rounded},
      {"AllGather", all_gather},
      {"AllToAll", all_to_all},
      {"Broadcast", broadcast},
      {"SendAndReceive", send_and_receive, true},
      {"MessagesAreMatchedByTagAndOrder", messages_are_matched_by_tag_and_order, true},
      {"BarriersComplete", barriers_complete},
      {"ParametersThatWantGradientsAreWritten", parameters_that_want_gradients_are_written},
      {"ManyInFlightAreWaitedForInReverse", many_in_flight_are_waited_for_in_reverse},
      {"WorkMayBeDroppedAndKeepsItsTensors", work_may_be_dropped_and_keeps_its_tensors},
      {"AllreduceGivesEveryRankTheSameBits", allreduce_gives_every_rank_the_same_bits},
      {"SplitOrdersByKey", split_orders_by_key},
      {"SplitWithANegativeColorGivesNone", split_with_a_negative_color_gives_none},
      {"SplitCommunicatorsWorkBesideEachOther", split_communicators_work_beside_each_other},
      {"ProcessGridHasNeighboursInAModel", process_grid_has_neighbours_in_a_model},
      {"ProcessGridWantsADivisor", process_grid_wants_a_divisor},
      {"TextsOfAnyLengthAreGathered", texts_of_any_length_are_gathered},
      {"AnErrorOfOneRankIsEveryones", an_error_of_one_rank_is_everyones},
  };
}

std::vector<Scenario> collective_scenarios() {
  auto all = scenarios();
  std::erase_if(all, [](const Scenario& scenario) { return scenario.sends_messages; });
  return all;
}

}  // namespace isobar::test
