// SPDX-License-Identifier: Apache-2.0
// `isobar verify-parity`, on every rank. All ranks share one sample's points, so that every row of
// the comparison is a maximum or a sum over them, and the ranks find the same. A difference that is
// no number must survive both: it never holds.
#include <isobar/weather/compare_parity.hpp>

#include <isobar/comm/agreement.hpp>
#include <isobar/comm/process_grid.hpp>
#include <isobar/core/error.hpp>
#include <isobar/graph/graph_shard.hpp>
#include <isobar/model/loss.hpp>
#include <isobar/train/optimizer.hpp>
#include <isobar/weather/parity_case.hpp>
#include <ATen/ATen.h>

#include <cmath>
#include <memory>

namespace isobar {
namespace {

/// Anemoi's float32 is within 3e-7 of its float64 in outputs and 8e-6 of a tensor's largest value
/// in gradients; float64 of either differs by the order of sums.
struct Tolerances {
  double output, gradient, loss;
};

Tolerances tolerances(at::ScalarType type) {
  return type == at::kDouble ? Tolerances{1e-10, 1e-10, 1e-10} : Tolerances{1e-5, 1e-4, 1e-5};
}

class ParityRun {
 public:
  ParityRun(const ParityCase& parity, const ProcessGrid& grid, const GraphShard& shard,
            Activations activations, at::ScalarType type)
      : parity_(parity), grid_(grid), shard_(shard), type_(type) {
    const WeatherGnnOptions options{.features_in = parity.input.size(2),
                                    .features_out = parity.target.size(1),
                                    .channels = parity.channels,
                                    .layers = parity.layers,
                                    .node_table = parity.node_table,
                                    .edge_table = parity.edge_table,
                                    .activations = activations};
    network_ = std::make_shared<WeatherGnn>(options, shard, grid.model());
    fill();
    network_->to(type);
    input_ = own(parity.input[0]).unsqueeze(0);
    latest_ = own(parity.latest);
    target_ = own(parity.target);
    area_ = own(parity.area);
  }

  std::vector<ParityRow> rows() {
    DataParallel parallel(*network_, grid_,
                          {.reduction =
                               [&](const std::string& name) {
                                 return network_->owned_rows(name) ? Reduction::sharded
                                                                   : Reduction::partial;
                               },
                           .single_replica = SingleReplica::allowed});
    Optimizer optimizer(parallel.reducer(), {});
    std::vector<ParityRow> all;
    std::vector<double> losses;
    const size_t updates = reference().adamw_losses.size() - 1;
    for (size_t i = 0; i <= updates; ++i) {
      parallel.zero_grad();
      const at::Tensor output = forward();
      const at::Tensor loss = weighted_mse(output, target_, area_, weights());
      loss.backward();
      parallel.finish();
      losses.push_back(sum(loss.item<double>()));
      if (i == 0) compare_first(output, losses[0], all);
      if (i < updates) optimizer.step(kLearningRate);
    }
    all.push_back(compare_losses(losses));
    return all;
  }

 private:
  static constexpr double kLearningRate = 1e-3;

  const ParityReference& reference() const {
    return type_ == at::kDouble ? parity_.float64 : parity_.float32;
  }
  at::Tensor own(const at::Tensor& whole) const {
    return whole.index_select(0, shard_.data_rows).to(type_);
  }
  at::Tensor weights() const { return at::ones({parity_.target.size(1)}, type_); }

  double sum(double value) const { return reduce(value, ReduceOp::sum); }
  double maximum(double value) const {
    // A maximum over ranks would lose what is no number.
    return reduce(std::isnan(value) ? HUGE_VAL : value, ReduceOp::maximum);
  }
  double reduce(double value, ReduceOp op) const {
    auto one = at::full({1}, value, at::kDouble);
    grid_.model().allreduce(one, op).wait();
    return one.item<double>();
  }

  void fill() {
    const at::NoGradGuard no_gradient;
    for (auto& parameter : network_->named_parameters()) {
      const auto& whole = parity_.weights.at(parameter.key());
      const auto owned = network_->owned_rows(parameter.key());
      const at::Tensor values = owned ? whole.index_select(0, owned->rows) : whole;
      if (values.sizes() != parameter.value().sizes()) {
        throw DataError(detail::join("parity: weights of '", parameter.key(), "' are ",
                                     values.sizes(), ", wanted ", parameter.value().sizes()));
      }
      parameter.value().copy_(values);
    }
  }

  at::Tensor forward() const {
    const at::Tensor raw = network_->forward(input_)[0];
    const int64_t prognostic = latest_.size(1);
    return at::cat({raw.narrow(1, 0, prognostic) + latest_,
                    raw.narrow(1, prognostic, raw.size(1) - prognostic)},
                   1);
  }

  ParityRow difference(const std::string& quantity, const at::Tensor& got, const at::Tensor& wanted,
                       double largest) const {
    ParityRow row{.quantity = quantity};
    const auto off = (got.detach().to(at::kDouble) - wanted.to(at::kDouble)).abs();
    row.error = maximum(off.numel() == 0 ? 0 : off.max().item<double>());
    row.relative = largest > 0 ? row.error / largest : row.error;
    return row;
  }

  void compare_first(const at::Tensor& output, double loss, std::vector<ParityRow>& rows) const {
    const auto limits = tolerances(type_);
    const auto largest = [](const at::Tensor& x) { return x.abs().max().item().toDouble(); };
    rows.push_back(difference("output", output,
                              reference().output.index_select(0, shard_.data_rows),
                              largest(reference().output)));
    rows.back().tolerance = limits.output;
    rows.push_back(difference("loss", at::scalar_tensor(loss, at::kDouble),
                              at::scalar_tensor(reference().loss, at::kDouble), reference().loss));
    rows.back().tolerance = limits.loss;
    rows.back().is_relative = true;
    for (const auto& parameter : network_->named_parameters()) {
      const auto& whole = reference().gradients.at(parameter.key());
      const auto owned = network_->owned_rows(parameter.key());
      rows.push_back(difference("gradient of " + parameter.key(), parameter.value().grad(),
                                owned ? whole.index_select(0, owned->rows) : whole,
                                largest(whole)));
      rows.back().tolerance = limits.gradient;
      rows.back().is_relative = true;
    }
  }

  ParityRow compare_losses(const std::vector<double>& losses) const {
    ParityRow row{.quantity = "losses over AdamW updates",
                  .tolerance = tolerances(type_).loss,
                  .is_relative = true};
    for (size_t i = 0; i < losses.size(); ++i) {
      const double wanted = reference().adamw_losses[i];
      const double error = std::abs(losses[i] - wanted);
      // Not std::max, which would drop what is no number.
      if (!(error <= row.error)) row.error = error;
      if (!(error / wanted <= row.relative)) row.relative = error / wanted;
    }
    return row;
  }

  const ParityCase& parity_;
  const ProcessGrid& grid_;
  const GraphShard& shard_;
  at::ScalarType type_;
  std::shared_ptr<WeatherGnn> network_;
  at::Tensor input_, latest_, target_, area_;
};

}  // namespace

void compare_parity(Communicator& world, const std::string& path, const ParityOptions& options,
                    const std::function<void(const std::string& precision,
                                             const std::vector<ParityRow>& rows)>& on_precision) {
  const ProcessGrid grid(world, world.size());
  ParityCase parity;
  GraphShard shard;
  run_agreed(world, [&] {
    parity = read_parity_case(path);
    const auto partition = make_partition(parity.graph, world.size(), options.partition);
    shard = make_shard(parity.graph, partition, world.rank());
    shard.data_attributes = parity.data_attributes.index_select(0, shard.data_rows);
    shard.hidden_attributes = parity.hidden_attributes.index_select(0, shard.hidden_rows);
  });
  run_or_abort(world, [&] {
    for (const auto type : {at::kFloat, at::kDouble}) {
      on_precision(type == at::kFloat ? "float32" : "float64",
                   ParityRun(parity, grid, shard, options.activations, type).rows());
    }
  });
}

}  // namespace isobar
