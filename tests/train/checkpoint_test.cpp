// SPDX-License-Identifier: Apache-2.0
#include <isobar/train/checkpoint.hpp>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <isobar/core/error.hpp>
#include <nlohmann/json.hpp>
#include <cmath>
#include <limits>

#include "core/message_of.hpp"
#include "core/temporary_folder.hpp"

namespace isobar::checkpoint_test {
namespace {

namespace fs = std::filesystem;
using test::message_of;

/// A part with one tensor and one scalar, of which every aspect can be chosen.
struct Part : Stateful {
  explicit Part(std::string name, double value = 0, int version = 1)
      : name_(std::move(name)), version_(version), weight(at::full({3}, value)), best(value) {}

  std::string name() const override { return name_; }
  int version() const override { return version_; }
  void save(StateDict& state) const override {
    state.put("weight", weight);
    state.put_scalar("best", best);
  }
  void load(const StateDict& state, int version) override {
    const at::Tensor loaded = state.tensor("weight");
    if (loaded.sizes() != weight.sizes()) throw DataError("weight has another shape");
    weight = loaded;
    best = state.real("best");
    loaded_version = version;
  }

  std::string name_;
  int version_;
  at::Tensor weight;
  double best;
  int loaded_version = 0;
};

class CheckpointTest : public testing::Test {
 protected:
  std::vector<std::string> names() {
    std::vector<std::string> found;
    for (const auto& entry : fs::directory_iterator(folder.path())) {
      found.push_back(entry.path().filename().string());
    }
    std::sort(found.begin(), found.end());
    return found;
  }

  void flip_byte(const fs::path& path, std::size_t place) {
    std::string bytes = test::read_file(path);
    bytes.at(place) = static_cast<char>(bytes.at(place) ^ 1);
    test::write_file(path, bytes);
  }

  test::TemporaryFolder folder;
};

TEST_F(CheckpointTest, LoadsWhatWasSaved) {
  const Part model("model", 1.5), optimizer("optimizer", 0.1, 2);
  const fs::path path =
      save_checkpoint(folder.path(), 120, {&model, &optimizer}, {.metadata = {{"run", "a"}}});
  EXPECT_EQ(path, folder / "step_00000120");
  Part other_model("model"), other_optimizer("optimizer", 0, 3);
  const LoadedCheckpoint loaded = load_checkpoint(path, {&other_optimizer, &other_model});
  EXPECT_EQ(loaded.step, 120);
  EXPECT_EQ(loaded.metadata.at("run"), "a");
  EXPECT_TRUE(loaded.unknown_parts.empty());
  EXPECT_TRUE(at::equal(other_model.weight, model.weight));
  EXPECT_EQ(other_optimizer.best, 0.1);
  EXPECT_EQ(other_optimizer.loaded_version, 2);
}

TEST_F(CheckpointTest, KeepsScalarsThatJsonCannotHold) {
  const double infinity = std::numeric_limits<double>::infinity();
  for (const double value : {infinity, -infinity, std::nan(""), -0.0, 3.0, 0.1}) {
    const Part saved("part", value);
    Part loaded("part", 7);
    load_checkpoint(save_checkpoint(folder.path(), 1, {&saved}), {&loaded});
    EXPECT_EQ(std::isnan(loaded.best), std::isnan(value));
    EXPECT_EQ(std::signbit(loaded.best), std::signbit(value));
    EXPECT_TRUE(loaded.best == value || std::isnan(value)) << value;
  }
}

TEST_F(CheckpointTest, SaysInItsManifestWhatItHolds) {
  const Part model("model", 1);
  const fs::path path = save_checkpoint(folder.path(), 5, {&model});
  const auto manifest = nlohmann::json::parse(test::read_file(path / "manifest.json"));
  EXPECT_EQ(manifest["format"], "isobar.checkpoint");
  EXPECT_EQ(manifest["format_version"], 1);
  EXPECT_EQ(manifest["step"], 5);
  EXPECT_EQ(manifest["parts"][0]["file"], "model.safetensors");
  EXPECT_EQ(manifest["parts"][0]["bytes"], fs::file_size(path / "model.safetensors"));
  EXPECT_EQ(manifest["parts"][0]["scalars"]["best"], 1.0);
}

TEST_F(CheckpointTest, KeepsTheNewestAndTheProtectedOne) {
  const Part model("model");
  for (const std::int64_t step : {1, 2, 3, 4, 5}) {
    save_checkpoint(folder.path(), step, {&model}, {.keep = 2, .protected_step = 2});
  }
  EXPECT_EQ(names(), (std::vector<std::string>{"step_00000002", "step_00000004", "step_00000005"}));
}

TEST_F(CheckpointTest, KeepsAllOrTheOneJustSavedWhateverItsStep) {
  const Part model("model");
  for (const std::int64_t step : {3, 4, 5}) {
    save_checkpoint(folder.path(), step, {&model}, {.keep = 0});
  }
  EXPECT_EQ(names().size(), 3U);
  save_checkpoint(folder.path(), 1, {&model}, {.keep = 1});
  EXPECT_EQ(names(), (std::vector<std::string>{"step_00000001", "step_00000005"}));
}

TEST_F(CheckpointTest, ReplacesOneOfTheSameStepAndClearsLeftovers) {
  const Part old("model", 1), replacement("model", 2);
  fs::create_directories(folder / ".step_00000009.tmp/deeper");
  save_checkpoint(folder.path(), 7, {&old});
  const fs::path path = save_checkpoint(folder.path(), 7, {&replacement});
  Part loaded("model");
  load_checkpoint(path, {&loaded});
  EXPECT_EQ(loaded.best, 2);
  EXPECT_EQ(names(), (std::vector<std::string>{"step_00000007"}));
}

/// A part whose saving fails, as a full disk or a bug makes it.
struct Failing : Part {
  Failing() : Part("failing") {}
  void save(StateDict&) const override { throw DataError("no state"); }
};

TEST_F(CheckpointTest, LeavesOlderOnesAloneWhenSavingFails) {
  const Part model("model");
  save_checkpoint(folder.path(), 1, {&model}, {.keep = 1});
  const Failing failing;
  EXPECT_THROW(save_checkpoint(folder.path(), 2, {&model, &failing}, {.keep = 1}), DataError);
  EXPECT_EQ(find_latest(folder.path()), folder / "step_00000001");
}

TEST_F(CheckpointTest, FindsADamagedByteAnywhere) {
  const Part model("model", 1);
  const fs::path path = save_checkpoint(folder.path(), 1, {&model});
  for (const char* file : {"model.safetensors", "manifest.json"}) {
    const std::string whole = test::read_file(path / file);
    // The manifest's last byte is a line end outside of the JSON.
    for (std::size_t place = 0; place + 1 < whole.size(); ++place) {
      flip_byte(path / file, place);
      Part loaded("model", 7);
      EXPECT_THROW(load_checkpoint(path, {&loaded}), DataError) << file << " byte " << place;
      EXPECT_EQ(loaded.best, 7);
      test::write_file(path / file, whole);
    }
  }
}

TEST_F(CheckpointTest, NamesThePartWhoseFileIsDamaged) {
  const Part model("model", 1);
  const fs::path path = save_checkpoint(folder.path(), 1, {&model});
  const fs::path file = path / "model.safetensors";
  fs::resize_file(file, fs::file_size(file) - 4);
  Part loaded("model");
  const std::string message = message_of<DataError>([&] { load_checkpoint(path, {&loaded}); });
  EXPECT_EQ(message.find("checkpoint " + file.string() + ": part 'model' is damaged: it has "), 0U)
      << message;
}

TEST_F(CheckpointTest, ChangesNoPartWhenAnotherCannotBeLoaded) {
  const Part model("model", 1), optimizer("optimizer", 1);
  const fs::path path = save_checkpoint(folder.path(), 1, {&model, &optimizer});
  flip_byte(path / "optimizer.safetensors", 80);
  Part loaded("model", 7), other("optimizer", 7);
  EXPECT_THROW(load_checkpoint(path, {&loaded, &other}), DataError);
  EXPECT_EQ(loaded.best, 7);
}

TEST_F(CheckpointTest, NamesAPartThatIsMissingOrTooNew) {
  const Part model("model", 1, 3);
  const fs::path path = save_checkpoint(folder.path(), 1, {&model});
  Part sampler("sampler"), older("model", 0, 2);
  EXPECT_EQ(message_of<DataError>([&] { load_checkpoint(path, {&sampler}); }),
            "checkpoint " + path.string() + ": part 'sampler' is missing; it has model");
  EXPECT_EQ(message_of<DataError>([&] { load_checkpoint(path, {&older}); }),
            "checkpoint " + path.string() +
                ": part 'model' has version 3, this isobar reads up to 2; use a newer one");
}

TEST_F(CheckpointTest, NamesThePartThatRefusesItsState) {
  const Part model("model", 1);
  const fs::path path = save_checkpoint(folder.path(), 1, {&model});
  Part wider("model");
  wider.weight = at::zeros({4});
  EXPECT_EQ(message_of<DataError>([&] { load_checkpoint(path, {&wider}); }),
            "checkpoint " + path.string() + ": part 'model': weight has another shape");
}

TEST_F(CheckpointTest, ReportsPartsThatNobodyAskedFor) {
  const Part model("model"), residual("residual");
  const fs::path path = save_checkpoint(folder.path(), 1, {&model, &residual});
  Part loaded("model");
  EXPECT_EQ(load_checkpoint(path, {&loaded}).unknown_parts, std::vector<std::string>{"residual"});
}

TEST_F(CheckpointTest, FindsTheLatestByNumber) {
  const Part model("model");
  EXPECT_EQ(find_latest(folder.path()), std::nullopt);
  EXPECT_EQ(find_latest(folder / "none"), std::nullopt);
  for (const std::int64_t step : {std::int64_t{99999999}, std::int64_t{100000000}}) {
    save_checkpoint(folder.path(), step, {&model});
  }
  fs::create_directories(folder / "step_900000000");
  fs::create_directories(folder / "step_latest");
  EXPECT_EQ(find_latest(folder.path()), folder / "step_100000000");
}

TEST_F(CheckpointTest, RefusesNamesThatAreNoFileNamesOrGivenTwice) {
  const Part model("model"), slash("a/b"), none("");
  EXPECT_THROW(save_checkpoint(folder.path(), 1, {&model, &model}), UsageError);
  EXPECT_THROW(save_checkpoint(folder.path(), 1, {&slash}), UsageError);
  EXPECT_THROW(save_checkpoint(folder.path(), 1, {&none}), UsageError);
  EXPECT_THROW(save_checkpoint(folder.path(), -1, {&model}), UsageError);
}

TEST_F(CheckpointTest, NamesAFolderThatCannotBeWritten) {
  const Part model("model");
  test::write_file(folder / "file", "");
  const std::string message =
      message_of<Error>([&] { save_checkpoint(folder / "file", 1, {&model}); });
  EXPECT_EQ(message.find("save checkpoint " + (folder / "file/step_00000001").string()), 0U)
      << message;
}

}  // namespace
}  // namespace isobar::checkpoint_test
