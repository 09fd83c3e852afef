// SPDX-License-Identifier: Apache-2.0
#include <isobar/weather/experiment.hpp>

#include <isobar/weather/network_plan.hpp>
#include "core/message_of.hpp"

#include <isobar/core/error.hpp>
#include <gtest/gtest.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <set>

namespace isobar::experiment_test {
namespace {

using test::message_of;

constexpr const char* kYaml = R"(
run: {name: test}
data:
  path: a.nc
  variables: [t_850, t_50, 2t]
  diagnostic: [tp, lcc]
  forcing_variables: [lsm]
  input_hours: [-6, 0]
  train: {begin: 2019-03-01, end: 2019-03-21}
  validation: {begin: 2019-03-21, end: 2019-03-25}
  test: {begin: 2019-03-25, end: 2019-04-01}
graph: {hidden_level: 3}
model: {channels: 8, layers: 1}
optimizer: {learning_rate: 1.0e-3}
train: {steps: 100}
)";

Experiment read(const std::vector<std::string>& overrides = {}) {
  return read_experiment(Config::parse(kYaml, "test.yaml", overrides));
}

std::string complaint(const std::vector<std::string>& overrides) {
  return message_of<UsageError>([&] { read(overrides); });
}

bool complains(const std::vector<std::string>& overrides, const std::string& of) {
  const auto message = complaint(overrides);
  EXPECT_NE(message.find(of), std::string::npos) << message;
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  return message.find(of) != std::string::npos;
}

/// Those that have a value only where one is given, or depend on other keys; and names of files.
const std::set<std::string>& optional_keys() {
  static const std::set<std::string> keys{
      "data.select",         "graph.h5",       "run.lock",           "graph.processor_neighbours",
      "graph.grid",          "model.bounding", "data.normalization", "data.seen_hours",
      "profile.collectives", "profile.json"};
  return keys;
}

TEST(Experiment, GivesVariablesTheirRoles) {
  const auto e = read();
  EXPECT_EQ(e.data.variables,
            (std::vector<std::string>{"t_850", "t_50", "2t", "tp", "lcc", "lsm"}));
  EXPECT_EQ(e.outputs(), (std::vector<std::string>{"t_850", "t_50", "2t", "tp", "lcc"}));
  EXPECT_EQ(e.forcing_variables, std::vector<std::string>{"lsm"});
  EXPECT_TRUE(complains({"data.diagnostic=[tp, 2t]"}, "variable '2t' is given twice"));
  EXPECT_TRUE(complains({"data.variables=[]"}, "data.variables names no variable"));
}

/// With two computed forcings, which stand before the forcing variable lsm.
std::vector<SeenHour> seen(std::vector<std::string> overrides) {
  overrides.emplace_back("data.forcings=[insolation, cos_local_time]");
  return read(overrides).seen;
}

using Seen = std::vector<SeenHour>;

TEST(Experiment, ShowsForcingsAtTheInputHoursAndComputedOnesAtTheTarget) {
  EXPECT_EQ(seen({}),
            (Seen{{-6, {0, 1, 2}, {0, 1, 2}}, {0, {0, 1, 2}, {0, 1, 2}}, {6, {}, {0, 1}}}));
  EXPECT_EQ(seen({"data.input_forcings=[cos_local_time]", "data.input_hours=[0]"}),
            (Seen{{0, {0, 1, 2}, {1, 2}}, {6, {}, {0, 1}}}));
  EXPECT_EQ(seen({"data.input_forcings=[cos_local_time, insolation]"})[0].forcings,
            (std::vector<int64_t>{1, 0, 2}))
      << "in the order of the list";
}

TEST(Experiment, ShowsAtEachHourWhatItIsToldTo) {
  EXPECT_EQ(seen({"data.target_forcings=[]"}),
            (Seen{{-6, {0, 1, 2}, {0, 1, 2}}, {0, {0, 1, 2}, {0, 1, 2}}, {6, {}, {}}}));
  EXPECT_EQ(seen({"data.target_forcings=[lsm, insolation]"})[2], (SeenHour{6, {}, {2, 0}}));
  EXPECT_EQ(seen({"data.seen_hours={t_50: [0], 2t: [-6], lsm: [0], insolation: [-6, 6]}",
                  "data.target_forcings=[cos_local_time]"}),
            (Seen{{-6, {0, 2}, {0, 1}}, {0, {0, 1}, {1, 2}}, {6, {}, {1, 0}}}));
  EXPECT_EQ(seen({"data.step_hours=12", "data.seen_hours.lsm=[12]"})[2],
            (SeenHour{12, {}, {0, 1, 2}}));
  EXPECT_EQ(network_options(read({"data.seen_hours={t_50: [0], lsm: [0]}"})).features_in, 6);
}

TEST(Experiment, RefusesToShowWhatCannotBeSeen) {
  const std::string forcings = "data.forcings=[insolation, cos_local_time]";
  EXPECT_TRUE(complains({"data.seen_hours.t_50=[0, 6]"}, "seen_hours.t_50: hour 6 is the one"));
  EXPECT_TRUE(
      complains({"data.seen_hours.t_50=[-12, 0]"}, "hour -12 is neither one of data.input"));
  EXPECT_TRUE(complains({"data.seen_hours.t_50=[0, -6]"}, "seen_hours.t_50: hours must rise"));
  EXPECT_TRUE(complains({"data.seen_hours.t_50=[0, 0]"}, "seen_hours.t_50: hours must rise"));
  EXPECT_TRUE(complains({"data.seen_hours.t_50=[]"}, "make it diagnostic"));
  EXPECT_TRUE(complains({"data.seen_hours.tp=[0]"}, "a diagnostic variable is forecast, not seen"));
  EXPECT_TRUE(complains({"data.seen_hours.t_5=[0]"}, "unknown key 'data.seen_hours.t_5'"));
  EXPECT_TRUE(complains({"data.seen_hours.t_50=0.5"}, "data.seen_hours.t_50"));
  EXPECT_TRUE(
      complains({"data.target_forcings=[insolation]"}, "target_forcings: 'insolation' is not"));
  EXPECT_TRUE(
      complains({forcings, "data.input_forcings=[lsm]"}, "input_forcings: 'lsm' is not one"));
  EXPECT_TRUE(complains({forcings, "data.target_forcings=[lsm, lsm]"}, "'lsm' is given twice"));
  EXPECT_TRUE(complains({"data.forcings=[insolation, insolation]"}, "'insolation' is given twice"));
  EXPECT_TRUE(complains({"data.forcings=[insulation]"}, "did you mean 'insolation'?"));
  EXPECT_TRUE(complains({forcings, "data.input_forcings=[insolation]", "data.target_forcings=[]"},
                        "data.forcings: 'cos_local_time' is seen at no hour"));
  EXPECT_TRUE(complains({"data.forcings=[insolation]", "data.diagnostic=[insolation]"},
                        "'insolation' is a variable of the data, too"));
  for (const char* hours : {"[0, -6, 0]", "[-6, -6, 0]", "[6, 0]", "[-6]", "[]"}) {
    EXPECT_TRUE(complains({std::string("data.input_hours=") + hours}, "must rise and end with 0"));
  }
}

TEST(Experiment, ReadsBounds) {
  const auto e = read({"model.bounding.tp=relu", "model.bounding.lcc=[0, 1]"});
  ASSERT_EQ(e.bounding.size(), 2);
  EXPECT_EQ(e.bounding.at("tp").lower, 0);
  EXPECT_EQ(e.bounding.at("tp").upper, std::numeric_limits<double>::infinity());
  EXPECT_EQ(e.bounding.at("lcc").lower, 0);
  EXPECT_EQ(e.bounding.at("lcc").upper, 1);
  EXPECT_TRUE(read().bounding.empty());
  EXPECT_TRUE(complains({"model.bounding.tp=rely"}, "'model.bounding.tp' must be one of relu"));
  EXPECT_TRUE(complains({"model.bounding.tp=[1, 0]"}, "wanted relu or [lowest, highest]"));
  EXPECT_TRUE(complains({"model.bounding.tp=[a, b]"}, "must be a list of numbers"));
  EXPECT_TRUE(complains({"model.bounding.lsm=relu"}, "unknown key 'model.bounding.lsm'"));
}

TEST(Experiment, IsReadAgainFromWhatItIsRecordedAs) {
  const auto e = read({"data.forcings=[insolation]", "data.target_forcings=[lsm]",
                       "data.seen_hours={t_50: [0], insolation: [6]}", "model.bounding.lcc=[0, 1]",
                       "train.rollout={start: 1, every: 10, maximum: 3}",
                       "loss.level_weights={slope: 0.001, minimum: 0.2}"});
  const auto again = read_experiment(Config::parse(e.yaml, "checkpoint"));
  EXPECT_EQ(again.lines, e.lines);
  EXPECT_EQ(again.seen, e.seen);
  EXPECT_EQ(again.bounding.at("lcc").upper, 1);
  EXPECT_EQ(again.weight_of("t_850"), e.weight_of("t_850"));
  EXPECT_EQ(again.longest_rollout(), 3);
}

TEST(Experiment, WeighsVariablesByTheirLevel) {
  const auto e = read({"loss.level_weights={slope: 0.001, minimum: 0.2}",
                       "loss.variable_weights={t_850: 6, tp: 0.025}"});
  EXPECT_DOUBLE_EQ(e.weight_of("t_850"), 6 * 0.85);
  EXPECT_DOUBLE_EQ(e.weight_of("t_50"), 0.2);
  EXPECT_DOUBLE_EQ(e.weight_of("2t"), 1);
  EXPECT_DOUBLE_EQ(e.weight_of("tp"), 0.025);
  EXPECT_DOUBLE_EQ(read().weight_of("t_850"), 1);
  EXPECT_TRUE(complains({"loss.variable_weights={lsm: 1}"}, "'lsm' is not one of data.variables"));
  EXPECT_TRUE(complains({"loss.level_weights={minimum: 1}"}, "slope"));
  EXPECT_TRUE(complains({"loss.level_weights={slope: -1}"},
                        "'loss.level_weights.slope' must be 0 or more, got -1"));
}

TEST(Experiment, RefusesALossOfNothing) {
  const std::string all = "every variable that is forecast (t_850, t_50, 2t, tp, lcc) weighs 0";
  EXPECT_TRUE(
      complains({"loss.variable_weights={t_850: 0, t_50: 0, 2t: 0, tp: 0.0, lcc: 0}"}, all));
  const std::vector<std::string> levels{"data.variables=[t_850]", "data.diagnostic=[]",
                                        "loss.level_weights={slope: 0}"};
  EXPECT_TRUE(complains(levels, "every variable that is forecast (t_850) weighs 0"));
  EXPECT_EQ(read({"loss.variable_weights={t_850: 0, tp: 0}"}).weight_of("t_850"), 0);
}

TEST(Experiment, NamesWhatIsWrongWithLeadTimes) {
  for (const std::string split : {"validation", "test"}) {
    const auto leads = split + ".lead_hours";
    EXPECT_TRUE(complains({leads + "=[6, 12, 12]"}, leads + " names 12 twice"));
    EXPECT_TRUE(complains({leads + "=[12, 6]"}, leads + " must rise, got 6 after 12"));
    EXPECT_TRUE(complains({leads + "=[]"}, leads + " names no lead time"));
    EXPECT_TRUE(complains({leads + "=[6, 9]"}, leads + ": 9 is not a positive multiple"));
  }
}

TEST(Experiment, TakesOneHiddenMesh) {
  EXPECT_TRUE(complains({"graph.hidden_grid=O96"},
                        "graph.hidden_level: the hidden mesh is O96 (graph.hidden_grid) or an"));
  EXPECT_TRUE(complains({"graph.processor_neighbours=4"}, "and there is none: an icosphere has"));
  const auto e = read({"graph.hidden_grid=O96", "graph.hidden_level="});
  EXPECT_EQ(e.graph.hidden_grid, "O96");
  EXPECT_EQ(read_experiment(Config::parse(e.yaml, "checkpoint")).lines, e.lines);
}

TEST(Experiment, SaysHowSeveralValuesOfADimensionAreChosen) {
  EXPECT_EQ(read({"data.select={expver: \"1,5\"}"}).data.select.at("expver"), "1,5");
  EXPECT_TRUE(
      complains({"data.select={expver: [1, 5]}"}, "Several are one text, {expver: \"1,5\"}"));
  EXPECT_TRUE(complains({"data.select=850"}, "'data.select' must be a section of strings"));
}

TEST(Experiment, KnowsAPressureLevelByItsName) {
  EXPECT_EQ(pressure_level("t_850"), 850);
  EXPECT_EQ(pressure_level("mean_w_1000"), 1000);
  for (const char* name : {"2t", "tp", "_850", "t_", "t_85a", "swvl1", "t850", "t_123456"}) {
    EXPECT_EQ(pressure_level(name), std::nullopt) << name;
  }
}

TEST(Experiment, GrowsForecastsWhereTheInputHoursAllowIt) {
  EXPECT_FALSE(read().trainer.rollout.has_value());
  EXPECT_EQ(read().longest_rollout(), 1);
  const auto e = read({"train.rollout={start: 1, every: 30, maximum: 12}"});
  EXPECT_EQ(e.longest_rollout(), 4) << "at step 99";
  EXPECT_EQ(read({"train.rollout.start=2"}).longest_rollout(), 2);
  EXPECT_TRUE(complains({"train.rollout={start: 3, maximum: 2}"},
                        "'train.rollout.maximum' must be 3 or more, got 2"));
  EXPECT_TRUE(complains({"train.rollout={start: 2}", "data.input_hours=[-3, 0]"},
                        "train.rollout: the step to 12 h needs the field at hour 3"));
}

TEST(Experiment, ScalesLossesOfFloat16Only) {
  EXPECT_FALSE(read().trainer.loss_scaling.has_value());
  EXPECT_EQ(read().precision, c10::ScalarType::Float);
  const auto bf16 = read({"train.precision=bf16"});
  EXPECT_EQ(bf16.precision, c10::ScalarType::BFloat16);
  EXPECT_FALSE(bf16.trainer.loss_scaling.has_value());
  const auto fp16 = read({"train.precision=fp16"});
  EXPECT_EQ(fp16.precision, c10::ScalarType::Half);
  EXPECT_EQ(fp16.trainer.loss_scaling->initial, 65536);
  for (const char* method : {"acp_sgd", "bf16", "auto"}) {
    EXPECT_TRUE(complains({"train.precision=fp16", std::string("compress.method=") + method},
                          "compress.method: gradients of train.precision: fp16"));
  }
}

TEST(Experiment, SharesAModelByAPartition) {
  EXPECT_EQ(read().model_ranks, 1);
  EXPECT_EQ(read().partition, "bands");
  EXPECT_EQ(read().trainer.ddp.single_replica, SingleReplica::refused);
  const auto e = read({"model.ranks=4", "graph.partition=bisection"});
  EXPECT_EQ(e.model_ranks, 4);
  EXPECT_EQ(e.partition, "bisection");
  EXPECT_EQ(e.trainer.ddp.single_replica, SingleReplica::allowed);
  EXPECT_TRUE(complains({"model.ranks=0"}, "'model.ranks' must be 1 or more, got 0"));
  EXPECT_TRUE(complains({"graph.partition=rows"}, "must be one of bands"));
  EXPECT_EQ(read({"model.ranks=2", "compress.method=auto"}).compress.method, "auto");
}

/// Every number below what makes sense, before anything is built.
TEST(Experiment, NamesKeyAndValueOfANumberThatMakesNoSense) {
  const auto lines = read().lines;
  int numbers = 0;
  for (const auto& line : lines) {
    const auto equals = line.find('=');
    const auto key = line.substr(0, equals);
    double value = 0;
    const auto [rest, error] =
        std::from_chars(line.data() + equals + 1, line.data() + line.size(), value);
    if (error != std::errc() || rest != line.data() + line.size()) continue;
    ++numbers;
    const auto message = complaint({key + "=-1"});
    EXPECT_NE(message.find("'" + key + "' must be"), std::string::npos) << key << ": " << message;
    EXPECT_NE(message.find("-1"), std::string::npos) << key << ": " << message;
  }
  EXPECT_GT(numbers, 40);
  for (const char* key : {"train.steps", "train.batch", "train.accumulate", "train.log_every",
                          "model.channels", "model.layers", "ddp.bucket_cap_bytes",
                          "ddp.buffers_every", "data.step_hours", "data.prefetch"}) {
    EXPECT_TRUE(complains({std::string(key) + "=0"},
                          std::string("'") + key + "' must be 1 or more, got 0"));
  }
}

TEST(Experiment, RefusesSharesOfOneAndMore) {
  for (const char* key : {"beta1", "beta2", "average_decay"}) {
    const auto name = "optimizer." + std::string(key);
    EXPECT_TRUE(complains({name + "=1"}, "'" + name + "' must be"));
    read({name + "=0.999"});
  }
}

TEST(Experiment, WaitsForSomeTime) {
  EXPECT_EQ(read({"comm.timeout_s=0.5"}).comm.timeout, std::chrono::milliseconds(500));
  EXPECT_EQ(read({"comm.start_timeout_s=2"}).comm.start_timeout, std::chrono::seconds(2));
  EXPECT_EQ(read({"comm.silence_limit_s=3"}).comm.silence_limit, std::chrono::seconds(3));
  for (const char* key : {"timeout_s", "start_timeout_s", "silence_limit_s"}) {
    const auto name = "comm." + std::string(key);
    EXPECT_TRUE(complains({name + "=0"}, "'" + name + "' must be"));
  }
}

TEST(Experiment, NamesWhatARunAndABackendMayBe) {
  EXPECT_TRUE(complains({"run.name="}, "'run.name' has no value; it must be a string"));
  EXPECT_TRUE(complains({"run.name=a/b"}, "run.name must be a plain folder name"));
  EXPECT_TRUE(complains({"run.name=.a"}, "run.name must be a plain folder name"));
  EXPECT_TRUE(complains({"comm.backend=nccl"}, "comm.backend: nccl carries tensors of GPUs"));
  EXPECT_EQ(read({"comm.backend=nccl", "device=cuda"}).comm.backend, "nccl");
  EXPECT_TRUE(complains({"data.normalization={t_85: std}"}, "did you mean 't_850'?"));
  EXPECT_TRUE(
      complains({"data.normalization={tp: sdt}"}, "'data.normalization.tp' must be one of"));
}

TEST(Experiment, ShortensAWarmUpToTheStepsThatThereAre) {
  const auto warmup = [](const char* steps) {
    const auto e = read({"optimizer.warmup_steps=50", std::string("train.steps=") + steps});
    EXPECT_EQ(e.given_warmup_steps, 50);
    return e.trainer.schedule.warmup_steps;
  };
  EXPECT_EQ(warmup("50"), 50);
  EXPECT_EQ(warmup("49"), 4);
  EXPECT_EQ(warmup("4"), 0);
  EXPECT_EQ(read({"optimizer.warmup_steps=50", "train.steps=49", "compress.method=acp_sgd"})
                .compress.low_rank.start_step,
            4);
}

TEST(Experiment, ChoosesWhenAndHowBucketsAreReduced) {
  EXPECT_EQ(read().trainer.ddp.reducer.launch, Launch::first_gradient);
  EXPECT_EQ(read({"ddp.launch=counted"}).trainer.ddp.reducer.launch, Launch::counted);
  EXPECT_EQ(read({"ddp.launch=at_finish"}).trainer.ddp.reducer.launch, Launch::at_finish);
  EXPECT_EQ(read({"ddp.levels=two"}).trainer.ddp.reducer.levels, GridLevels::two);
  EXPECT_TRUE(complains({"ddp.launch=count"}, "did you mean 'counted'?"));
}

TEST(Experiment, ChoosesWhatHappensToBuffers) {
  EXPECT_EQ(read().trainer.ddp.buffers.action, BufferAction::none);
  EXPECT_EQ(read({"ddp.buffers=broadcast"}).trainer.ddp.buffers.action, BufferAction::broadcast);
  const auto compared = read({"ddp.buffers=compare", "ddp.buffers_every=7"}).trainer.ddp.buffers;
  EXPECT_EQ(compared.action, BufferAction::compare);
  EXPECT_EQ(compared.every, 7);
}

TEST(Experiment, ReadsWhatAProfileIsJudgedBy) {
  const auto none = read();
  EXPECT_FALSE(none.trainer.profile.collectives);
  EXPECT_EQ(none.trainer.profile.peak_flop_per_s, 0);
  const auto e = read({"profile.peak_tflop_s=1.5", "profile.warmup_steps=3",
                       "profile.collectives={gradients: 2, loss: 0}", "profile.detail=true"});
  EXPECT_DOUBLE_EQ(e.trainer.profile.peak_flop_per_s, 1.5e12);
  EXPECT_EQ(e.trainer.profile.warmup_steps, 3);
  EXPECT_EQ(e.trainer.profile.collectives,
            (std::map<std::string, int64_t>{{"gradients", 2}, {"loss", 0}}));
  EXPECT_TRUE(e.profile_detail);
  EXPECT_TRUE(complains({"profile.collectives={loss: -1}"},
                        "profile.collectives: loss must not be negative, got -1"));
}

std::string page(const std::filesystem::path& file) {
  std::ifstream in(file);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// Of every key that is read, and no other: a page that names another is one that was forgotten.
TEST(Experiment, HasTheKeysThatThePagesName) {
  const std::filesystem::path docs = ISOBAR_DOCS;
  const auto table = page(docs / "experiment.md");
  std::set<std::string> keys;
  for (const auto& line : read({"train.rollout={}", "loss.level_weights={slope: 1}"}).lines) {
    auto key = line.substr(0, line.find('='));
    keys.insert(key);
    const auto last = key.substr(key.rfind('.') + 1);
    EXPECT_NE(table.find(last), std::string::npos) << key << " is not in docs/experiment.md";
  }
  const std::regex named(
      "`(run|comm|data|graph|model|optimizer|train|profile|ddp|compress)\\.([a-z_.0-9]+)");
  for (const auto& entry : std::filesystem::directory_iterator(docs)) {
    // Campaigns' and projections' files have sections of the same names.
    const auto name = entry.path().filename();
    if (name.extension() != ".md" || name == "campaigns.md" || name == "projection.md") continue;
    const auto text = page(entry.path());
    for (std::sregex_iterator found(text.begin(), text.end(), named), end; found != end; ++found) {
      const auto key = (*found)[1].str() + "." + (*found)[2].str();
      const auto is_known = [&](const std::string& each) {
        return each == key || each.rfind(key + ".", 0) == 0 || optional_keys().count(key) == 1;
      };
      EXPECT_TRUE(std::any_of(keys.begin(), keys.end(), is_known))
          << entry.path().filename() << " names " << key;
    }
  }
}

}  // namespace
}  // namespace isobar::experiment_test
