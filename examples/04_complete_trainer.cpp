// SPDX-License-Identifier: Apache-2.0
// Trains a module of one's own with all that a long run needs: samples shared out over the ranks,
// BatchNorm, 16 bits, clipping, evaluation, checkpoints, and a second start that goes on.
//
//   build/release/bin/04_complete_trainer FOLDER [float32|bf16|fp16]        one rank
//   mpirun -n 2 build/release/bin/04_complete_trainer FOLDER                two
//
// Checkpoints lie in FOLDER. The last line is "read back, the loss is the same on N ranks".
#include <isobar/comm/agreement.hpp>
#include <isobar/comm/make_communicator.hpp>
#include <isobar/core/error.hpp>
#include <isobar/data/sampler.hpp>
#include <isobar/ddp/data_parallel.hpp>
#include <isobar/launch/environment.hpp>
#include <isobar/train/checkpoint.hpp>
#include <isobar/train/grad_scaler.hpp>
#include <isobar/train/optimizer.hpp>
#include <isobar/train/schedule.hpp>
#include <isobar/train/weights.hpp>
#include <ATen/autocast_mode.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/utils/clip_grad.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>

constexpr int64_t kTraining = 2000, kValidation = 300, kBatch = 20, kEpochs = 5, kInputs = 8;

struct Network : torch::nn::Module {
  Network() {
    first = register_module("first", torch::nn::Linear(kInputs, 64));
    norm = register_module("norm", torch::nn::BatchNorm1d(64));
    last = register_module("last", torch::nn::Linear(64, 1));
  }
  at::Tensor forward(const at::Tensor& x) { return last(at::relu(norm(first(x)))).to(at::kFloat); }
  torch::nn::Linear first{nullptr}, last{nullptr};
  torch::nn::BatchNorm1d norm{nullptr};
};

// What a file would hold: inputs and target of the samples with these numbers.
at::Tensor loss_of(Network& network, const std::vector<int64_t>& numbers) {
  const auto x = at::sin(at::tensor(numbers).to(at::kFloat).unsqueeze(1) * at::arange(1, 9));
  return (network.forward(x) - x.sum(1, true)).square().mean();
}

// BatchNorm's running mean and variance are buffers, and isobar::ModuleWeights saves parameters
// alone; so they are a part of the checkpoint of their own.
class Statistics final : public isobar::Stateful {
 public:
  explicit Statistics(std::shared_ptr<torch::nn::Module> module) : module_(std::move(module)) {}
  std::string name() const override { return "statistics"; }
  int version() const override { return 1; }
  void save(isobar::StateDict& state) const override {
    for (const auto& buffer : module_->named_buffers()) state.put(buffer.key(), buffer.value());
  }
  void load(const isobar::StateDict& state, int) override {
    for (auto& buffer : module_->named_buffers()) buffer.value().copy_(state.tensor(buffer.key()));
  }

 private:
  std::shared_ptr<torch::nn::Module> module_;
};

// LibTorch's autocast: matrix products in 16 bits, parameters and gradients in float32.
class Autocast {
 public:
  explicit Autocast(at::ScalarType type) {
    at::autocast::set_autocast_dtype(at::kCPU, type);
    at::autocast::set_autocast_enabled(at::kCPU, type != at::kFloat);
  }
  ~Autocast() {
    at::autocast::set_autocast_enabled(at::kCPU, false);
    at::autocast::clear_cache();  // of weights in 16 bits, which the next update changes
  }
};

// The mean over all validation samples, each of them seen by one rank: the same on every rank.
double evaluate(Network& network, isobar::Communicator& comm) {
  const at::NoGradGuard no_grad;
  network.eval();
  auto sum = at::zeros({1}, at::kDouble);
  const isobar::SamplerOptions share{.batch = 64, .rank = comm.rank(), .size = comm.size()};
  for (auto batch : isobar::every_sample(kValidation, share)) {
    for (auto& number : batch) number += kTraining;  // they come after those of the training
    sum += loss_of(network, batch) * static_cast<double>(batch.size());
  }
  network.train();
  comm.allreduce(sum).wait();
  return sum.item<double>() / kValidation;
}

int train(const std::string& folder, at::ScalarType type) {
  const auto comm = isobar::make_communicator();
  const auto network = std::make_shared<Network>();
  // PyTorch's DDP broadcasts buffers by default, isobar leaves each rank its own. So all ranks have
  // the first one's statistics, which is what it saves, and evaluate with the same.
  isobar::DataParallel parallel(*network, *comm,
                                {.buffers = {.action = isobar::BufferAction::broadcast}});
  isobar::Optimizer optimizer(parallel.reducer(), {.weight_decay = 0});
  isobar::GradScaler scaler({.initial = type == at::kHalf ? 1024.0 : 1.0});
  isobar::ModuleWeights weights(network);
  Statistics statistics(network);

  const isobar::Sampler sampler(kTraining,
                                {.batch = kBatch, .rank = comm->rank(), .size = comm->size()});
  const isobar::LearningRateSchedule rate{
      .peak = 0.02, .warmup_steps = 10, .total_steps = kEpochs * sampler.steps()};
  int64_t step = 0;
  isobar::run_agreed(*comm, [&] {  // what one rank throws, such as a missing file, all ranks throw
    if (const auto latest = isobar::find_latest(folder)) {
      step = isobar::load_checkpoint(*latest, {&weights, &statistics, &optimizer, &scaler}).step;
    }
  });
  double loss = evaluate(*network, *comm);
  for (int64_t epoch = step / sampler.steps(); epoch < kEpochs; ++epoch) {
    for (const auto& batch : sampler.batches(epoch)) {  // other samples, and an order by epoch
      parallel.zero_grad();
      at::Tensor batch_loss;
      {
        const Autocast autocast(type);
        batch_loss = loss_of(*network, batch);
      }
      scaler.scale(batch_loss).backward();
      parallel.finish();  // from here on gradients are the mean over all ranks, and ours to change
      if (scaler.unscale(parallel.reducer().parameters(), *comm)) {
        torch::nn::utils::clip_grad_norm_(network->parameters(), 1.0);
        optimizer.step(rate.at(step));
      }
      ++step;
    }
    loss = evaluate(*network, *comm);
    if (comm->rank() == 0) std::printf("epoch %d: loss %.4f\n", int(epoch + 1), loss);
    isobar::run_agreed(*comm, [&] {
      if (comm->rank() != 0) return;  // one rank saves for all
      isobar::save_checkpoint(folder, step, {&weights, &statistics, &optimizer, &scaler},
                              {.keep = 2});
    });
  }

  // What another program would do with the checkpoint.
  const auto other = std::make_shared<Network>();
  isobar::ModuleWeights other_weights(other);
  Statistics other_statistics(other);
  isobar::run_agreed(*comm, [&] {
    isobar::load_checkpoint(isobar::find_latest(folder).value(),
                            {&other_weights, &other_statistics});
  });
  const bool same = evaluate(*other, *comm) == loss;
  if (comm->rank() == 0 && same && loss < 0.05) {
    std::printf("read back, the loss is the same on %d ranks\n", comm->size());
  }
  return same && loss < 0.05 ? 0 : 1;
}

int main(int argc, char** argv) try {
  const std::map<std::string, at::ScalarType> types{
      {"float32", at::kFloat}, {"bf16", at::kBFloat16}, {"fp16", at::kHalf}};
  ISOBAR_CHECK(argc == 2 || (argc == 3 && types.count(argv[2])), "usage: ", argv[0],
               " FOLDER [float32|bf16|fp16]");
  return train(argv[1], argc == 3 ? types.at(argv[2]) : at::kFloat);
} catch (const std::exception& error) {
  std::fprintf(stderr, "error: %s\n", isobar::error_line(error).c_str());
  std::_Exit(1);  // without MPI_Finalize, which would wait for ranks that wait for this one
}
