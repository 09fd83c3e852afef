// SPDX-License-Identifier: Apache-2.0
// The user's file, laid over the profiles that are part of the library.
#include <isobar/cluster/profile.hpp>

#include <gtest/gtest.h>

#include <isobar/core/error.hpp>

#include <cstdlib>

#include "core/message_of.hpp"
#include "core/temporary_folder.hpp"

namespace isobar::overlay_test {
namespace {

/// ISOBAR_CLUSTER_CONFIG names a file of this text while it lives.
class UsersFile {
 public:
  explicit UsersFile(const std::string& yaml) {
    test::write_file(path(), yaml);
    setenv("ISOBAR_CLUSTER_CONFIG", path().c_str(), 1);
  }
  ~UsersFile() { unsetenv("ISOBAR_CLUSTER_CONFIG"); }
  UsersFile(const UsersFile&) = delete;
  UsersFile& operator=(const UsersFile&) = delete;

  std::filesystem::path path() const { return folder_ / "mine.yaml"; }

 private:
  test::TemporaryFolder folder_;
};

ClusterProfile laid_over(const std::string& yaml, const std::string& name) {
  const UsersFile file(yaml);
  return profile_named(read_profiles(), name);
}

/// The error that a file of this text ends in, which begins with the file; without its folder.
std::string error_of(const std::string& yaml) {
  const UsersFile file(yaml);
  const auto message = test::message_of<UsageError>([] { read_profiles(); });
  const auto folder = file.path().parent_path().string() + "/";
  return message.starts_with(folder) ? message.substr(folder.size()) : message;
}

const std::string kMyBox =
    "clusters: {mybox: {title: under my desk, gpu_platform: cuda, queues: {all: {partition: p}},\n"
    "                   node: {gpus: 2, cores: 16}, account: me}}\n";

TEST(Overlay, SetsSingleKeysAndKeepsTheOthers) {
  const auto before = profile_named(read_profiles(), "leonardo");
  const auto profile = laid_over(
      "clusters:\n"
      "  leonardo:\n"
      "    account: EUHPC_1\n"
      "    data_roots: {era5: /data/era5}\n"
      "    roots: {scratch: /my/scratch}\n"
      "    secrets: {mlflow: env:MLFLOW_TOKEN, s3: /my/key}\n",
      "leonardo");
  EXPECT_EQ(profile.account, "EUHPC_1");
  EXPECT_EQ(profile.data_roots.at("era5"), "/data/era5");
  EXPECT_EQ(profile.roots.at("scratch"), "/my/scratch");
  EXPECT_EQ(profile.roots.at("work"), before.roots.at("work"));
  EXPECT_EQ(profile.secrets.at("mlflow"), "env:MLFLOW_TOKEN");
  EXPECT_EQ(profile.title, before.title);
  EXPECT_EQ(profile.slurm.queues.size(), before.slurm.queues.size());
  const std::vector<std::string> keys{"account", "data_roots.era5", "roots.scratch",
                                      "secrets.mlflow", "secrets.s3"};
  EXPECT_EQ(profile.overlaid, keys);
}

TEST(Overlay, RaisesALimitAndAddsAQueue) {
  const auto profile = laid_over(
      "clusters: {leonardo: {queues: {normal: {most_nodes: 128}, mine: {qos: my_qos,\n"
      "  most_minutes: '90'}}}}\n",
      "leonardo");
  const auto& queues = profile.slurm.queues;
  EXPECT_EQ(queues.front().most_nodes, 128);
  EXPECT_EQ(queues.front().partition, "boost_usr_prod");
  EXPECT_EQ(queues.front().most_minutes, 1440);
  EXPECT_EQ(queues.back().name, "mine");
  EXPECT_EQ(queues.back().most_minutes, 90);
}

TEST(Overlay, ReplacesAListAndTakesAMapsEntryAwayByAnEmptyText) {
  const auto profile = laid_over(
      "clusters: {leonardo: {modules: [mine/1], environment: {NCCL_IB_SL: '', NCCL_DEBUG: "
      "INFO}}}\n",
      "leonardo");
  EXPECT_EQ(profile.modules, std::vector<std::string>{"mine/1"});
  EXPECT_FALSE(profile.environment.contains("NCCL_IB_SL"));
  EXPECT_EQ(profile.environment.at("NCCL_DEBUG"), "INFO");
  EXPECT_TRUE(profile.environment.contains("UCX_IB_SL"));
}

TEST(Overlay, TakesMarksFromWhatItSets) {
  const auto before = profile_named(read_profiles(), "karolina");
  ASSERT_TRUE(unverified_reason(before, "modules") && unverified_reason(before, "network.nic"));
  const auto profile =
      laid_over("clusters: {karolina: {modules: [mine/1], network: {nic: seen}}}\n", "karolina");
  EXPECT_FALSE(profile.unverified.contains("modules"));
  EXPECT_EQ(unverified_reason(profile, "network.nic"), std::nullopt);
  EXPECT_TRUE(unverified_reason(profile, "network.topology").has_value());
}

TEST(Overlay, SetsAndTakesMarksByName) {
  const auto profile =
      laid_over("clusters: {vega: {unverified: {network: '', node.count: they grew}}}\n", "vega");
  EXPECT_EQ(unverified_reason(profile, "network.nic"), std::nullopt);
  EXPECT_EQ(unverified_reason(profile, "node.count"), "they grew");
  EXPECT_TRUE(profile.overlaid.empty());
}

TEST(Overlay, AddsAMachine) {
  const auto profile = laid_over(kMyBox, "mybox");
  EXPECT_EQ(profile.title, "under my desk");
  EXPECT_EQ(profile.slurm.queues.front().partition, "p");
  const UsersFile file(kMyBox);
  EXPECT_EQ(read_profiles().size(), profile_names().size() + 1);
  EXPECT_EQ(read_profiles()[9].name, "marenostrum5");
  EXPECT_EQ(read_profiles()[11].name, "mybox");
}

TEST(Overlay, IsNothingWhereTheVariableIsEmptyOrTheFileIs) {
  setenv("ISOBAR_CLUSTER_CONFIG", "", 1);
  EXPECT_EQ(read_profiles().size(), profile_names().size());
  unsetenv("ISOBAR_CLUSTER_CONFIG");
  const UsersFile file("# nothing yet\n");
  EXPECT_EQ(read_profiles().size(), profile_names().size());
}

TEST(Overlay, RefusesAFileThatIsNotThere) {
  setenv("ISOBAR_CLUSTER_CONFIG", "/nowhere/mine.yaml", 1);
  EXPECT_EQ(test::message_of<UsageError>([] { read_profiles(); }),
            "ISOBAR_CLUSTER_CONFIG names '/nowhere/mine.yaml', which is no file; correct the "
            "variable or unset it");
  unsetenv("ISOBAR_CLUSTER_CONFIG");
}

TEST(Overlay, NamesFileAndLineOfAnUnknownKey) {
  EXPECT_EQ(error_of("clusters:\n  leonardo:\n    acount: a\n"),
            "mine.yaml:3: unknown key 'acount' in section 'clusters.leonardo'; did you mean "
            "'account'?");
  EXPECT_EQ(error_of("cluster: {}\n"),
            "mine.yaml:1: unknown key 'cluster'; did you mean 'clusters'?");
}

TEST(Overlay, TakesASectionWithNothingBelowAsEmpty) {
  EXPECT_TRUE(laid_over("clusters:\n  leonardo:\n", "leonardo").overlaid.empty());
  EXPECT_TRUE(laid_over("clusters:\n", "leonardo").overlaid.empty());
  const auto before = profile_named(read_profiles(), "leonardo");
  const auto profile =
      laid_over("clusters: {leonardo: {account: , queues: {normal: , mine: }}}\n", "leonardo");
  EXPECT_EQ(profile.slurm.queues.size(), before.slurm.queues.size() + 1);
  EXPECT_EQ(profile.slurm.queues.front().partition, before.slurm.queues.front().partition);
  EXPECT_EQ(
      error_of("clusters:\n  leonrdo:\n"),
      "mine.yaml: clusters.leonrdo: no machine 'leonrdo' is known, and without a 'title' this "
      "describes no new one; did you mean 'leonardo'?");
}

TEST(Overlay, PutsVariablesAndHomeIntoADataRoot) {
  setenv("ISOBAR_TEST_FOLDER", "/d/me", 1);
  const std::string home = std::getenv("HOME") == nullptr ? "" : std::getenv("HOME");
  setenv("HOME", "/d/own", 1);
  const auto profile = laid_over(
      "clusters: {lumi: {data_roots: {a: $ISOBAR_TEST_FOLDER/x, b: '${ISOBAR_TEST_FOLDER}_2/$',\n"
      "  c: ~/x, d: '~', e: /plain/~}}}\n",
      "lumi");
  EXPECT_EQ(data_root(profile, "a"), "/d/me/x");
  EXPECT_EQ(data_root(profile, "b"), "/d/me_2/$");
  EXPECT_EQ(data_root(profile, "c"), "/d/own/x");
  EXPECT_EQ(data_root(profile, "d"), "/d/own");
  EXPECT_EQ(data_root(profile, "e"), "/plain/~");
  EXPECT_EQ(profile.data_roots.at("c"), "~/x") << "as it is written, for people";
  setenv("HOME", home.c_str(), 1);
}

TEST(Overlay, NamesFileAndKeyWhereADataRootsVariableIsNotSet) {
  const UsersFile file("clusters: {lumi: {data_roots: {era5: $ISOBAR_TEST_ABSENT/x}}}\n");
  const auto profile = profile_named(read_profiles(), "lumi");
  EXPECT_EQ(test::message_of<UsageError>([&] { data_root(profile, "era5"); }),
            file.path().string() +
                ": clusters.lumi.data_roots.era5 is '$ISOBAR_TEST_ABSENT/x', and "
                "ISOBAR_TEST_ABSENT is not set here");
  EXPECT_EQ(test::message_of<UsageError>([&] { data_root(profile, "era6"); }),
            "lumi has no data root 'era6'; did you mean 'era5'?; data_roots in the file that "
            "ISOBAR_CLUSTER_CONFIG names adds one");
}

TEST(Overlay, RefusesARelativeFolderWithFileAndLine) {
  const std::string wanted =
      "', wanted an absolute folder: one that begins with /, ~/ or a $VARIABLE";
  EXPECT_EQ(error_of("clusters:\n  lumi:\n    data_roots:\n      era5: data/era5\n"),
            "mine.yaml:4: 'data_roots.era5' is 'data/era5" + wanted);
  EXPECT_EQ(error_of("clusters:\n  lumi:\n    roots:\n      scratch: ~other/x\n"),
            "mine.yaml:4: 'roots.scratch' is '~other/x" + wanted);
}

TEST(Overlay, GivesTheTextOfAMachineOfItsOwn) {
  const UsersFile file("clusters: {mybox: {title: mine, gpu_platform: none, queues: {all: }}}\n");
  const auto text = profile_text("MyBox");
  const auto profile = parse_profile(text, "mybox", "mybox.yaml");
  EXPECT_EQ(profile.title, "mine");
  EXPECT_EQ(profile.slurm.queues.front().name, "all");
  EXPECT_EQ(text.find("clusters"), std::string::npos) << text;
  EXPECT_EQ(test::message_of<UsageError>([] { profile_text("mybx"); }),
            "no machine 'mybx' is known; did you mean 'mybox'?");
}

TEST(Overlay, RefusesAMachineThatIsNeitherKnownNorDescribed) {
  EXPECT_EQ(
      error_of("clusters: {leonrdo: {account: a}}\n"),
      "mine.yaml: clusters.leonrdo: no machine 'leonrdo' is known, and without a 'title' this "
      "describes no new one; did you mean 'leonardo'?");
  EXPECT_EQ(
      error_of("clusters: {My.Box: {title: a}}\n"),
      "mine.yaml: clusters.My.Box: 'My.Box' cannot be a machine's name, wanted small letters, "
      "digits, - and _");
  EXPECT_EQ(error_of("clusters: {mybox: {title: a}}\n"),
            "mine.yaml: clusters.mybox: 'gpu_platform' is missing, wanted cuda, rocm or none");
}

TEST(Overlay, RefusesASecretThatIsWrittenDownAndDoesNotRepeatIt) {
  const std::string wanted =
      "mine.yaml: clusters.lumi: 'secrets.mlflow' must say where the secret is, as env:VARIABLE or "
      "as the absolute path of a file; the secret itself does not belong here";
  EXPECT_EQ(error_of("clusters: {lumi: {secrets: {mlflow: dapi0123456789abcdef}}}\n"), wanted);
  EXPECT_EQ(error_of("clusters: {lumi: {secrets: {mlflow: 'env:not a name'}}}\n"), wanted);
  EXPECT_EQ(error_of("clusters: {lumi: {secrets: {mlflow: token.txt}}}\n"), wanted);
}

TEST(Overlay, ChecksWhatTheTwoFilesComeToTogether) {
  EXPECT_EQ(error_of("clusters: {leonardo: {node: {gpus: 8}}}\n"),
            "mine.yaml: clusters.leonardo: 'binding.gpu_cores' has 4 entries, wanted one a GPU "
            "(node.gpus is 8) or none");
  EXPECT_EQ(error_of("clusters: {lumi: {account: mine}}\n"),
            "mine.yaml: clusters.lumi: 'account' is 'mine', which is no account of this machine; "
            "wanted one such as 'project_465000001'");
}

}  // namespace
}  // namespace isobar::overlay_test
