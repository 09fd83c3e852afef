// SPDX-License-Identifier: Apache-2.0
#include <isobar/bench/ready_times.hpp>

#include <isobar/bench/measure.hpp>
#include <isobar/core/stopwatch.hpp>
#include <isobar/core/summary.hpp>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>
#include <torch/nn/module.h>

#include <algorithm>
#include <utility>

namespace isobar::bench {

struct ReadyTimes::State {
  Stopwatch watch;
  std::vector<double> seconds;
};

class ReadyTimes::Hook final : public torch::autograd::PostAccumulateGradHook {
 public:
  Hook(std::shared_ptr<State> state, size_t leaf) : state_(std::move(state)), leaf_(leaf) {}

  void operator()(const torch::autograd::Variable&) override {
    state_->seconds[leaf_] = state_->watch.elapsed_s();
  }

 private:
  std::shared_ptr<State> state_;
  size_t leaf_;
};

ReadyTimes::ReadyTimes(std::vector<at::Tensor> leaves)
    : leaves_(std::move(leaves)), state_(std::make_shared<State>()) {
  state_->seconds.resize(leaves_.size());
  for (size_t i = 0; i < leaves_.size(); ++i) {
    torch::autograd::impl::set_post_acc_grad_hooks(leaves_[i], std::make_unique<Hook>(state_, i));
  }
}

ReadyTimes::~ReadyTimes() {
  for (const auto& leaf : leaves_) torch::autograd::impl::set_post_acc_grad_hooks(leaf, nullptr);
}

void ReadyTimes::restart() {
  std::fill(state_->seconds.begin(), state_->seconds.end(), 0);
  state_->watch.restart();
}

const std::vector<double>& ReadyTimes::seconds() const { return state_->seconds; }

double ReadyTimes::last_s() const {
  const auto& all = state_->seconds;
  return all.empty() ? 0 : *std::max_element(all.begin(), all.end());
}

double ReadyTimes::since_last_s() const { return state_->watch.elapsed_s() - last_s(); }

namespace {

/// Forward, backward, and when each gradient was there, of one pass.
std::vector<double> pass(Subject& ranks, const Workload& plain, ReadyTimes& ready,
                         Gradients gradients) {
  plain.module->zero_grad(/*set_to_none=*/gradients == Gradients::new_ones);
  ranks.barrier();
  Stopwatch watch;
  const auto loss = plain.loss();
  wait_for(plain.device);
  std::vector<double> times{watch.restart()};
  ready.restart();
  loss.backward();
  wait_for(plain.device);
  times.push_back(watch.elapsed_s());
  times.insert(times.end(), ready.seconds().begin(), ready.seconds().end());
  return largest_over_ranks(ranks, times);
}

}  // namespace

ComputeProfile profile_compute(Subject& ranks, const Workload& plain, int repeats,
                               Gradients gradients) {
  ReadyTimes ready(trainable_parameters(*plain.module));
  std::vector<std::vector<double>> by_value(2 + ready.seconds().size());
  pass(ranks, plain, ready, gradients);
  for (int i = 0; i < repeats; ++i) {
    const auto times = pass(ranks, plain, ready, gradients);
    for (size_t v = 0; v < times.size(); ++v) by_value[v].push_back(times[v]);
  }
  std::vector<double> medians;
  for (auto& values : by_value) medians.push_back(summarize(std::move(values)).median);
  return {.forward_s = medians[0],
          .backward_s = medians[1],
          .ready_s = {medians.begin() + 2, medians.end()}};
}

ComputeProfile no_slower_than(ComputeProfile profile, double forward_s, double backward_s) {
  profile.forward_s = std::min(profile.forward_s, forward_s);
  if (profile.backward_s > backward_s) {
    for (auto& ready_s : profile.ready_s) ready_s *= backward_s / profile.backward_s;
    profile.backward_s = backward_s;
  }
  return profile;
}

}  // namespace isobar::bench
