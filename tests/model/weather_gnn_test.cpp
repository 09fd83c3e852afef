// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/error.hpp>
#include <isobar/model/weather_gnn.hpp>
#include <ATen/ATen.h>
#include <ATen/record_function.h>
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>
#include <vector>

#include "model/reference_gnn.hpp"
#include "model/tiny_mesh.hpp"

namespace isobar::weather_gnn_test {
namespace {

constexpr int64_t kIn = 3, kOut = 2, kChannels = 4, kLayers = 2;

const WeatherGraph& mesh() {
  static const WeatherGraph graph = test::tiny_mesh();
  return graph;
}

WeatherGnnOptions tiny_options() {
  return {.features_in = kIn,
          .features_out = kOut,
          .channels = kChannels,
          .layers = kLayers,
          .node_table = 2,
          .edge_table = 2};
}

/// Distinct values in [-1, 1] that no other phase gives.
at::Tensor values(at::IntArrayRef shape, double phase) {
  const at::Tensor empty = at::empty(shape, at::kDouble);
  return at::arange(empty.numel(), at::kDouble).mul(0.7).add(phase).sin().view(shape);
}

/// In float64 with tables and norms that are not the initial ones, so that a mix-up shows.
std::shared_ptr<WeatherGnn> filled_network(Activations activations = Activations::keep) {
  WeatherGnnOptions options = tiny_options();
  options.activations = activations;
  options.chunk_edges = 50;
  auto network = std::make_shared<WeatherGnn>(options, mesh());
  network->to(at::kDouble);
  const at::NoGradGuard no_gradient;
  double phase = 0;
  for (const auto& parameter : network->parameters()) {
    parameter.add_(values(parameter.sizes(), ++phase), 0.3);
  }
  return network;
}

at::Tensor input(int64_t batch) { return values({batch, mesh().data_nodes(), kIn}, 0.1); }

int64_t count(const torch::nn::Module& module, bool tables) {
  int64_t sum = 0;
  for (const auto& parameter : module.named_parameters()) {
    if (parameter.key().ends_with("_table") == tables) sum += parameter.value().numel();
  }
  return sum;
}

test::ReferenceGnn reference_of(const WeatherGnn& network, const std::string& direction) {
  test::ReferenceGnn reference(mesh(), kLayers);
  for (const auto& parameter : network.named_parameters()) {
    const at::Tensor& value = parameter.value();
    const bool along = parameter.key() == direction;
    reference.set(parameter.key(), value,
                  along ? values(value.sizes(), 0.5) : at::zeros_like(value));
  }
  return reference;
}

test::Rows reference_input() {
  const at::Tensor x = input(1)[0];
  return test::ReferenceGnn::rows_of(x, at::zeros_like(x));
}

TEST(WeatherGnn, GivesTheOutputOfAPlainImplementation) {
  const auto network = filled_network();
  const at::Tensor got = network->forward(input(1))[0];
  const test::Rows wanted = reference_of(*network, "").run(reference_input());

  for (int64_t i = 0; i < mesh().data_nodes(); ++i) {
    for (int64_t j = 0; j < kOut; ++j) {
      EXPECT_NEAR(got[i][j].item<double>(), wanted[i][j].value, 1e-10);
    }
  }
}

class Passes : public testing::TestWithParam<Activations> {};
INSTANTIATE_TEST_SUITE_P(WeatherGnn, Passes,
                         testing::Values(Activations::keep, Activations::recompute));

TEST_P(Passes, GiveTheGradientsOfAPlainImplementation) {
  const auto network = filled_network(GetParam());
  const at::Tensor weights = values({mesh().data_nodes(), kOut}, 0.2);
  (network->forward(input(1))[0] * weights).sum().backward();

  for (const auto& parameter : network->named_parameters()) {
    const test::Rows slopes = reference_of(*network, parameter.key()).run(reference_input());
    double wanted = 0;
    for (int64_t i = 0; i < weights.size(0); ++i) {
      for (int64_t j = 0; j < kOut; ++j)
        wanted += slopes[i][j].slope * weights[i][j].item<double>();
    }
    const at::Tensor gradient = parameter.value().grad();
    const double got = (gradient * values(gradient.sizes(), 0.5)).sum().item<double>();
    EXPECT_NEAR(got, wanted, 1e-10 * gradient.norm().item<double>()) << parameter.key();
    EXPECT_GT(gradient.norm().item<double>(), 0) << parameter.key();
  }
}

TEST(WeatherGnn, TreatsSamplesOfABatchAlone) {
  const auto network = filled_network();
  const at::Tensor x = input(3);
  const at::Tensor together = network->forward(x);

  for (int64_t i = 0; i < 3; ++i) {
    // Matrix products of other sizes may round in another order.
    EXPECT_TRUE(at::allclose(together.slice(0, i, i + 1), network->forward(x.slice(0, i, i + 1)), 0,
                             1e-13));
  }
}

TEST(WeatherGnn, AveragesTheGradientsOfItsSamples) {
  const auto network = filled_network();
  const at::Tensor x = input(2);
  network->forward(x).pow(2).mean().backward();
  std::vector<at::Tensor> together;
  for (const at::Tensor& parameter : network->parameters()) {
    together.push_back(parameter.grad().clone());
  }
  network->zero_grad();
  for (int64_t i = 0; i < 2; ++i) network->forward(x.slice(0, i, i + 1)).pow(2).mean().backward();

  for (size_t i = 0; i < together.size(); ++i) {
    EXPECT_TRUE(at::allclose(network->parameters()[i].grad() / 2, together[i], 1e-9, 1e-12));
  }
}

/// Parameters of an MLP as published: three Linear and a LayerNorm.
int64_t mlp_size(int64_t in, int64_t hidden, int64_t out, bool norm) {
  return in * hidden + hidden + hidden * hidden + hidden + hidden * out + out +
         (norm ? 2 * out : 0);
}

int64_t network_size(const WeatherGnnOptions& o) {
  const int64_t c = o.channels, node = 4 + o.node_table, edge = 3 + o.edge_table;
  const int64_t block = mlp_size(3 * c, c, c, true) + mlp_size(2 * c, c, c, true);
  return mlp_size(o.features_in + node, c, c, true) + mlp_size(node, c, c, true) +
         3 * mlp_size(edge, c, c, true) + (o.layers + 2) * block +
         mlp_size(c, c, o.features_out, false);
}

TEST(WeatherGnn, HasThePublishedNumberOfParameters) {
  // anemoi-models' network of 64 channels, and the AIFS one (99 variables at two steps).
  const WeatherGnnOptions small{.features_in = 24, .features_out = 10, .channels = 64, .layers = 4};
  const WeatherGnnOptions aifs{
      .features_in = 198, .features_out = 88, .channels = 1024, .layers = 16};
  const WeatherGnn network(small, mesh());

  EXPECT_EQ(count(network, false), 281738);
  EXPECT_EQ(network_size(small), 281738);
  EXPECT_EQ(network_size(aifs), 183015512);
  EXPECT_EQ(count(network, true),
            8 * (mesh().data_nodes() + mesh().hidden_nodes() + mesh().encoder.size() +
                 mesh().processor.size() + mesh().decoder.size()));
}

/// Counts what a device would have to launch: LibTorch's operations on this thread that call no
/// others and do more than look at or ask for memory.
class Launches {
 public:
  using Counts = std::map<std::string, int64_t>;

  Launches() : handle_(at::addThreadLocalCallback(at::RecordFunctionCallback(begin, end))) {
    state() = {};
  }
  ~Launches() { at::removeCallback(handle_); }
  Launches(const Launches&) = delete;
  Launches& operator=(const Launches&) = delete;

  static const Counts& so_far() { return state().counts; }

 private:
  struct State {
    Counts counts;
    int64_t total = 0;
    std::vector<int64_t> before;  ///< of each operation that has begun
  };
  static State& state() {
    static thread_local State state;
    return state;
  }
  static bool launches(const std::string& name) {
    static const std::set<std::string> none{"_reshape_alias",
                                            "alias",
                                            "as_strided",
                                            "contiguous",
                                            "detach",
                                            "empty",
                                            "empty_like",
                                            "empty_strided",
                                            "expand",
                                            "expand_as",
                                            "narrow",
                                            "new_empty",
                                            "new_empty_strided",
                                            "reshape",
                                            "resize_",
                                            "resolve_conj",
                                            "resolve_neg",
                                            "select",
                                            "set_",
                                            "slice",
                                            "squeeze",
                                            "t",
                                            "to",
                                            "transpose",
                                            "unsqueeze",
                                            "view",
                                            "view_as"};
    return name.starts_with("aten::") && !none.contains(name.substr(6));
  }
  static std::unique_ptr<at::ObserverContext> begin(const at::RecordFunction&) {
    state().before.push_back(state().total);
    return nullptr;
  }
  static void end(const at::RecordFunction& function, at::ObserverContext*) {
    State& s = state();
    if (s.before.empty()) return;
    if (s.total == s.before.back() && launches(function.name())) {
      ++s.total;
      ++s.counts[function.name()];
    }
    s.before.pop_back();
  }

  at::CallbackHandle handle_;
};

/// Launches of forward and backward pass, all edges of a set in one chunk, in a type for which the
/// CPU has no loops: it computes by the operations that a device has to launch.
Launches::Counts launches_of(int64_t layers, Activations activations) {
  WeatherGnnOptions options = tiny_options();
  options.layers = layers;
  options.activations = activations;
  options.compute = at::kHalf;
  const WeatherGnn network(options, mesh());
  const at::Tensor x = input(1).to(at::kFloat);
  const Launches launches;
  network.forward(x).sum().backward();
  return Launches::so_far();
}

// A launch takes some 5 microseconds, in which a GPU multiplies a thousand edges of 1024 channels.
TEST_P(Passes, LaunchFewOperationsALayerOnADevice) {
  const auto less = launches_of(2, GetParam());
  int64_t layer = 0;
  std::string names;
  for (const auto& [name, count] : launches_of(3, GetParam())) {
    const int64_t more = count - (less.contains(name) ? less.at(name) : 0);
    layer += more;
    names += name + " " + std::to_string(more) + ", ";
  }
  EXPECT_LE(layer, GetParam() == Activations::keep ? 150 : 180) << names;
  EXPECT_GT(layer, 50) << "what is counted? " << names;
}

// Rounding of 16 bits in every layer of a small network; the gradients' own rounding on top.
TEST(WeatherGnn, ComputesIn16BitsOverFloat32Parameters) {
  for (const auto type : {at::kBFloat16, at::kHalf}) {
    for (const auto activations : {Activations::keep, Activations::recompute}) {
      WeatherGnnOptions options = tiny_options();
      options.channels = 16;
      const WeatherGnn wide(options, mesh());
      options.compute = type;
      options.activations = activations;
      const WeatherGnn narrow(options, mesh());
      const at::Tensor x = input(1).to(at::kFloat);
      const at::Tensor got = narrow.forward(x), wanted = wide.forward(x);
      got.square().sum().backward();
      wanted.square().sum().backward();

      EXPECT_EQ(got.scalar_type(), at::kFloat);
      EXPECT_LT((got - wanted).norm().item<float>(), 0.02 * wanted.norm().item<float>());
      for (size_t i = 0; i < wide.parameters().size(); ++i) {
        const at::Tensor a = narrow.parameters()[i].grad(), b = wide.parameters()[i].grad();
        EXPECT_EQ(a.scalar_type(), at::kFloat);
        EXPECT_LT((a - b).norm().item<float>(), 0.1 * b.norm().item<float>()) << i;
      }
    }
  }
}

TEST(WeatherGnn, WorksWithoutTables) {
  WeatherGnnOptions options = tiny_options();
  options.node_table = options.edge_table = 0;
  const WeatherGnn network(options, mesh());

  EXPECT_EQ(count(network, true), 0);
  EXPECT_EQ(count(network, false), network_size(options));
  EXPECT_EQ(network.forward(input(1).to(at::kFloat)).sizes(),
            (std::vector<int64_t>{1, mesh().data_nodes(), kOut}));
}

TEST(WeatherGnn, StartsAsIfThereWereNoTables) {
  const WeatherGnn network(tiny_options(), mesh());

  for (const auto& parameter : network.named_parameters()) {
    if (parameter.key().ends_with("_table")) {
      EXPECT_TRUE(parameter.value().eq(0).all().item<bool>()) << parameter.key();
    }
  }
}

TEST(WeatherGnn, TakesItsWeightsFromTheSeed) {
  WeatherGnnOptions options = tiny_options();
  const WeatherGnn a(options, mesh()), b(options, mesh());
  options.seed = 1;
  const WeatherGnn c(options, mesh());
  const at::Tensor x = input(1).to(at::kFloat);

  EXPECT_TRUE(at::equal(a.forward(x), b.forward(x)));
  EXPECT_FALSE(at::equal(a.forward(x), c.forward(x)));
}

TEST(WeatherGnn, HoldsItsMeshInBuffersAlone) {
  const WeatherGnn network(tiny_options(), mesh());

  // Attributes of two node and three edge sets; six index tensors an edge set.
  EXPECT_EQ(network.named_buffers().size(), 5u + 3 * 6u);
  for (const auto& parameter : network.named_parameters()) {
    EXPECT_TRUE(parameter.value().requires_grad()) << parameter.key();
  }
}

TEST(WeatherGnn, RejectsInputOfAnotherShape) {
  const WeatherGnn network(tiny_options(), mesh());

  EXPECT_THROW(network.forward(at::zeros({mesh().data_nodes(), kIn})), UsageError);
  EXPECT_THROW(network.forward(at::zeros({1, mesh().data_nodes() - 1, kIn})), UsageError);
  EXPECT_THROW(network.forward(at::zeros({1, mesh().data_nodes(), kIn + 1})), UsageError);
}

TEST(WeatherGnn, RejectsOptionsOutOfRange) {
  EXPECT_THROW(WeatherGnn({.features_in = 0, .features_out = 1}, mesh()), UsageError);
  EXPECT_THROW(WeatherGnn({.features_in = 1, .features_out = 1, .layers = 0}, mesh()), UsageError);
  EXPECT_THROW(WeatherGnn({.features_in = 1, .features_out = 1, .edge_table = -1}, mesh()),
               UsageError);
}

}  // namespace
}  // namespace isobar::weather_gnn_test
