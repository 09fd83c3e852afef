// SPDX-License-Identifier: Apache-2.0
#include <isobar/ddp/input_agreement.hpp>

#include <isobar/comm/census.hpp>
#include <isobar/core/error.hpp>
#include <ATen/ops/empty.h>

namespace isobar {

struct InputAgreement::Impl {
  void check(const int64_t* counts) const;

  Communicator& world;
  int model_size;  ///< ranks that share the samples of a step
  int64_t step = 0;
  at::Tensor mine = at::empty({1}, at::kLong);
  at::Tensor all = at::empty({world.size()}, at::kLong);
  Work work{};
  bool started = false;
};

namespace {

/// Every rank has seen the same numbers, so every rank throws.
[[noreturn]] void throw_on_all(const std::string& message) {
  UsageError error(message);
  error.set_known_to_all();
  throw error;
}

}  // namespace

void InputAgreement::Impl::check(const int64_t* counts) const {
  for (int rank = 0; rank < world.size(); ++rank) {
    if (counts[rank] < 0) {
      throw_on_all(detail::join("InputAgreement: step ", step, ": rank ", rank, " of ",
                                world.size(), " has ", counts[rank], " samples, wanted 0 or more"));
    }
    const int first = rank / model_size * model_size;
    if (counts[rank] == counts[first]) continue;
    throw_on_all(detail::join("InputAgreement: step ", step, ": rank ", rank, " of ", world.size(),
                              " has ", counts[rank], " samples, rank ", first,
                              " of the same model has ", counts[first],
                              "; give all ranks of a model the same samples"));
  }
}

InputAgreement::InputAgreement(Communicator& world)
    : impl_(new Impl{.world = world, .model_size = 1}) {}

InputAgreement::InputAgreement(const ProcessGrid& grid)
    : impl_(new Impl{.world = grid.world(), .model_size = grid.model().size()}) {}

InputAgreement::~InputAgreement() = default;

void InputAgreement::start(int64_t local_samples) {
  Impl& a = *impl_;
  ISOBAR_CHECK(!a.started, "InputAgreement: start on rank ", a.world.rank(), " at step ", a.step,
               " while the last one is under way; call finish() first");
  // A negative number travels too: refused here, it would leave the others waiting.
  *a.mine.mutable_data_ptr<int64_t>() = local_samples;
  const CollectiveAsker asker("inputs");
  a.work = a.world.all_gather(a.all, a.mine);
  a.started = true;
}

StepInputs InputAgreement::finish() {
  Impl& a = *impl_;
  ISOBAR_CHECK(a.started, "InputAgreement: finish on rank ", a.world.rank(), " at step ", a.step,
               " without start(); call start() first");
  a.started = false;
  a.work.synchronize();
  const auto* counts = a.all.const_data_ptr<int64_t>();
  a.check(counts);
  ++a.step;
  StepInputs inputs;
  for (int rank = 0; rank < a.world.size(); rank += a.model_size) {
    inputs.total_samples += counts[rank];
  }
  if (!inputs.any()) return inputs;
  const int replicas = a.world.size() / a.model_size;
  inputs.weight = static_cast<double>(counts[a.world.rank()]) * replicas /
                  static_cast<double>(inputs.total_samples);
  return inputs;
}

}  // namespace isobar
