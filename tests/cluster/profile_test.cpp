// SPDX-License-Identifier: Apache-2.0
#include <isobar/cluster/profile.hpp>

#include <gtest/gtest.h>

#include <isobar/core/error.hpp>

#include <algorithm>
#include <bit>
#include <set>
#include <sstream>

#include "core/message_of.hpp"

namespace isobar::profile_test {
namespace {

/// A machine that every test may change a line of.
const std::string kMachine =
    "title: a machine\n"
    "gpu_platform: cuda\n"
    "architecture: x86_64\n"
    "queues:\n"
    "  short: {partition: fast, most_nodes: 2, most_minutes: '00:30:00', on_request: true}\n"
    "  big: {partition: all, qos: many, least_nodes: 3, most_nodes: 8, most_minutes: 2-00:00:00}\n"
    "node: {count: 8, gpus: 2, cores: 16, threads_per_core: 2, numa_nodes: 4,\n"
    "       gpu_memory_bytes: 40GiB}\n"
    "binding: {cpus_per_rank: 8, gpu_cores: [0-7, 8-15], gpu_numa: [3, 1]}\n";

ClusterProfile parse(const std::string& yaml) { return parse_profile(yaml, "mybox", "mybox.yaml"); }

/// The machine with one of its texts in the place of another.
std::string with(const std::string& old, const std::string& text) {
  std::string yaml = kMachine;
  return yaml.replace(yaml.find(old), old.size(), text);
}

std::string error_of(const std::string& yaml) {
  return test::message_of<UsageError>([&] { parse(yaml); });
}
std::string error_with(const std::string& more) { return error_of(kMachine + more); }
std::string error_with(const std::string& old, const std::string& text) {
  return error_of(with(old, text));
}

const ClusterProfile& builtin(const std::string& name) {
  static const auto profiles = read_profiles();
  return profile_named(profiles, name);
}

const Queue& queue_of(const ClusterProfile& profile, const std::string& name) {
  for (const auto& queue : profile.slurm.queues) {
    if (queue.name == name) return queue;
  }
  throw UsageError(profile.name + " has no queue " + name);
}

TEST(Profile, ReadsQueuesInTheFilesOrderWithTheirLimits) {
  const auto queues = parse(kMachine).slurm.queues;
  ASSERT_EQ(queues.size(), 2U);
  EXPECT_EQ(queues[0].name, "short");
  EXPECT_EQ(queues[0].most_minutes, 30);
  EXPECT_TRUE(queues[0].on_request);
  EXPECT_EQ(queues[1].name, "big");
  EXPECT_EQ(queues[1].qos, "many");
  EXPECT_EQ(queues[1].least_nodes, 3);
  EXPECT_EQ(queues[1].most_minutes, 2880);
}

TEST(Profile, LeavesUnknownWhatAFileDoesNotSay) {
  const auto profile = parse("title: a\ngpu_platform: none\nqueues: {all: {}}\n");
  EXPECT_EQ(profile.name, "mybox");
  EXPECT_EQ(profile.slurm.queues[0].most_nodes, 0);
  EXPECT_EQ(profile.slurm.launcher, "srun");
  EXPECT_EQ(profile.compute_internet, Internet::unknown);
  EXPECT_EQ(profile.node.memory_bytes, 0);
  EXPECT_TRUE(profile.overlaid.empty());
}

TEST(Profile, RefusesAnUnknownKeyWithTheNearest) {
  EXPECT_EQ(error_with("moduls: [a]\n"),
            "mybox.yaml:10: unknown key 'moduls'; did you mean 'modules'?");
  EXPECT_EQ(error_with("qos: many", "qso: many"),
            "mybox.yaml:6: unknown key 'qso' in section 'queues.big'; did you mean 'qos'?");
}

TEST(Profile, RefusesValuesThatNoMachineHas) {
  EXPECT_EQ(error_with("gpu_platform: cuda", "gpu_platform: metal"),
            "mybox.yaml:2: 'gpu_platform' must be one of cuda, rocm, none, got 'metal'");
  EXPECT_EQ(error_with("title: a machine\n", ""), "mybox.yaml: 'title' is missing");
  EXPECT_EQ(error_with("gpu_platform: cuda\n", ""),
            "mybox.yaml: 'gpu_platform' is missing, wanted cuda, rocm or none");
  EXPECT_EQ(error_with("gpus: 2", "gpus: -2"),
            "mybox.yaml:7: 'node.gpus' must be 0 or more, got -2");
  EXPECT_EQ(error_with("environment: {'MY-VARIABLE': a}\n"),
            "mybox.yaml: 'environment' has 'MY-VARIABLE', which cannot be a variable's name");
  EXPECT_EQ(error_of("title: a\ngpu_platform: none\n"),
            "mybox.yaml: 'queues' has none; wanted one or more, each a way to ask for nodes");
}

TEST(Profile, RefusesQueuesThatTakeNothing) {
  EXPECT_EQ(error_with("least_nodes: 3", "least_nodes: 9"),
            "mybox.yaml: 'queues.big' takes 9 nodes or more and 8 or fewer; wanted least_nodes of "
            "at most most_nodes");
  EXPECT_TRUE(error_with("'00:30:00'", "soon")
                  .starts_with("mybox.yaml: queues.short: 'most_minutes': 'soon' is no time limit, "
                               "wanted minutes such as 90"));
  EXPECT_EQ(error_with("  short:", "  Short one:"),
            "mybox.yaml: 'Short one' cannot be a queue's name, wanted small letters, digits, - and "
            "_");
}

TEST(Profile, RefusesPatternsThatAreNone) {
  EXPECT_TRUE(error_with("detection: {host_name: 'n(\\d+'}\n")
                  .starts_with("mybox.yaml: 'detection.host_name' is no regular expression of "
                               "ECMAScript: 'n(\\d+' ("));
  EXPECT_NE(error_with("detection: {environment: {A: '*'}}\n").find("detection.environment.A"),
            std::string::npos);
  EXPECT_NE(error_with("detection: {files: {/etc/a: '*'}}\n").find("detection.files./etc/a"),
            std::string::npos);
  EXPECT_EQ(error_with("slurm: {account_pattern: 'p\\d+', account_example: q1}\n"),
            "mybox.yaml: 'slurm.account_example' is 'q1', which 'slurm.account_pattern' refuses: "
            "'p\\d+'");
}

TEST(Profile, RefusesBindingsThatDoNotFitTheNode) {
  EXPECT_EQ(error_with("[0-7, 8-15]", "[0-7]"),
            "mybox.yaml: 'binding.gpu_cores' has 1 entries, wanted one a GPU (node.gpus is 2) or "
            "none");
  EXPECT_EQ(error_with("[3, 1]", "[3, 1, 0]"),
            "mybox.yaml: 'binding.gpu_numa' has 3 entries, wanted one a GPU (node.gpus is 2) or "
            "none");
  EXPECT_EQ(error_with("[3, 1]", "[3, 4]"),
            "mybox.yaml: 'binding.gpu_numa' has 4, wanted from 0 to below node.numa_nodes (4)");
  EXPECT_EQ(error_with("cpus_per_rank: 8", "cpus_per_rank: 17"),
            "mybox.yaml: 'binding.cpus_per_rank' is 17 for each of 2 GPUs, and a node has 32 "
            "(node.cores times node.threads_per_core)");
  EXPECT_EQ(error_with("8-15]", "8-32]"),
            "mybox.yaml: 'binding.gpu_cores' has '8-32', wanted cores such as 0-15, below 32");
  EXPECT_EQ(error_with("8-15]", "all]"),
            "mybox.yaml: 'binding.gpu_cores' has 'all', wanted cores such as 0-15, below 32");
  EXPECT_NO_THROW(parse(with("8-15]", "'8-15,24-31']")));
}

TEST(Profile, RefusesAMarkOfAKeyThatIsNotThere) {
  EXPECT_EQ(error_with("unverified: {node.gpus: why, node.gpsu: why}\n"),
            "mybox.yaml: 'unverified' has 'node.gpsu', which is no key of this profile; did you "
            "mean 'node.gpus'?");
  EXPECT_NO_THROW(parse(kMachine + "unverified: {node: why, queues.big: why, node.gpus: why}\n"));
}

TEST(Profile, GivesTheReasonOfAMarkToAllThatIsInItsSection) {
  const auto profile = parse(kMachine + "unverified: {queues.big: read in a forum}\n");
  EXPECT_EQ(unverified_reason(profile, "queues.big"), "read in a forum");
  EXPECT_EQ(unverified_reason(profile, "queues.big.most_nodes"), "read in a forum");
  EXPECT_EQ(unverified_reason(profile, "queues.bigger"), std::nullopt);
  EXPECT_EQ(unverified_reason(profile, "queues"), std::nullopt);
}

TEST(Profile, IsFoundByItsNameInAnyCase) {
  const auto profiles = read_profiles();
  EXPECT_EQ(profile_named(profiles, "LUMI").name, "lumi");
  EXPECT_EQ(test::message_of<UsageError>([&] { profile_named(profiles, "Leonado"); }),
            "no machine 'Leonado' is known; did you mean 'leonardo'?");
  EXPECT_EQ(test::message_of<UsageError>([] { profile_text("vaga"); }),
            "no machine 'vaga' is known; did you mean 'vega'?");
}

TEST(BuiltinProfiles, AreTheseTwelve) {
  const std::vector<std::string> names{"alps_santis",    "deucalion",    "ecmwf_atos", "jupiter",
                                       "juwels_booster", "karolina",     "leonardo",   "local",
                                       "lumi",           "marenostrum5", "meluxina",   "vega"};
  EXPECT_EQ(profile_names(), names);
  std::vector<std::string> read;
  for (const auto& profile : read_profiles()) read.push_back(profile.name);
  EXPECT_EQ(read, names);
}

TEST(BuiltinProfiles, ReadBackFromTheirTexts) {
  for (const auto& name : profile_names()) {
    const auto profile = parse_profile(profile_text(name), name, name + ".yaml");
    EXPECT_EQ(profile.title, builtin(name).title);
    EXPECT_FALSE(profile.sources.empty()) << name;
  }
}

TEST(BuiltinProfiles, HoldNothingOfAUsers) {
  for (const auto& profile : read_profiles()) {
    EXPECT_TRUE(profile.account.empty() && profile.secrets.empty()) << profile.name;
    EXPECT_TRUE(profile.data_roots.empty() && profile.overlaid.empty()) << profile.name;
  }
}

TEST(BuiltinProfiles, HaveAQueueThatNobodyHasToAskForFirst) {
  for (const auto& profile : read_profiles()) {
    EXPECT_FALSE(profile.slurm.queues.front().on_request) << profile.name;
    EXPECT_EQ(profile.slurm.queues.front().least_nodes, 1) << profile.name;
    for (const auto& queue : profile.slurm.queues) {
      const bool names_one = !queue.partition.empty() || !queue.qos.empty();
      EXPECT_EQ(names_one, profile.name != "local") << profile.name << " " << queue.name;
      EXPECT_TRUE(profile.node.count == 0 || queue.most_nodes <= profile.node.count)
          << profile.name << " " << queue.name;
    }
  }
}

TEST(BuiltinProfiles, AskForNoMemoryAndForAllGpus) {
  for (const auto& profile : read_profiles()) {
    const auto& slurm = profile.slurm;
    for (const auto& directive : slurm.directives) {
      EXPECT_TRUE(directive.starts_with("--")) << profile.name;
      EXPECT_FALSE(directive.starts_with("--mem")) << profile.name;
    }
    EXPECT_EQ(slurm.gpu_request.empty(), profile.node.gpus == 0) << profile.name;
  }
}

/// What a source leaves to the reader ("a|b", "<project>") is chosen in a profile.
TEST(BuiltinProfiles, LeaveNoChoiceOpen) {
  for (const auto& profile : read_profiles()) {
    auto texts = profile.modules;
    texts.push_back(profile.container.command);
    for (const auto* more : {&profile.container.modules, &profile.container.binds}) {
      texts.insert(texts.end(), more->begin(), more->end());
    }
    for (const auto* map : {&profile.roots, &profile.environment}) {
      for (const auto& [name, value] : *map) texts.push_back(value);
    }
    for (const auto& text : texts) {
      EXPECT_EQ(text.find_first_of("|<>*"), std::string::npos) << profile.name << ": " << text;
      EXPECT_EQ(text.find(".."), std::string::npos) << profile.name << ": " << text;
    }
  }
}

std::vector<std::uint64_t> masks_of(const std::string& cpu_bind) {
  std::istringstream words(cpu_bind.substr(cpu_bind.find(':') + 1));
  std::vector<std::uint64_t> masks;
  for (std::string word; std::getline(words, word, ',');) {
    masks.push_back(std::stoull(word, nullptr, 16));
  }
  return masks;
}

std::uint64_t mask_of(const std::string& cores) {
  const auto first = std::stoi(cores), last = std::stoi(cores.substr(cores.find('-') + 1));
  return (~std::uint64_t{0} >> (63 - last)) & (~std::uint64_t{0} << first);
}

TEST(BuiltinProfiles, BindRanksToCoresOfTheirOwnNearTheirGpu) {
  int bound = 0;
  for (const auto& profile : read_profiles()) {
    const auto& binding = profile.binding;
    if (!binding.cpu_bind.starts_with("mask_cpu:")) continue;
    const auto masks = masks_of(binding.cpu_bind);
    ASSERT_EQ(masks.size(), static_cast<std::size_t>(profile.node.gpus)) << profile.name;
    std::uint64_t taken = 0;
    for (std::size_t gpu = 0; gpu < masks.size(); ++gpu) {
      EXPECT_EQ(masks[gpu] & taken, 0U) << profile.name << " GPU " << gpu;
      EXPECT_EQ(std::popcount(masks[gpu]), binding.cpus_per_rank) << profile.name;
      EXPECT_EQ(masks[gpu], mask_of(binding.gpu_cores.at(gpu))) << profile.name;
      taken |= masks[gpu];
    }
    EXPECT_LE(std::bit_width(taken), profile.node.cores) << profile.name;
    ++bound;
  }
  EXPECT_EQ(bound, 1);
}

TEST(BuiltinProfiles, FillTheCoresOfANodeOrLeaveSomeToTheSystem) {
  for (const auto& profile : read_profiles()) {
    const int used = profile.binding.cpus_per_rank * profile.node.gpus;
    EXPECT_LE(used, profile.node.cores) << profile.name;
    EXPECT_GE(used, profile.node.cores * 7 / 8) << profile.name;
  }
}

TEST(BuiltinProfiles, NameTheInterfacesThatTheirEnvironmentNames) {
  for (const auto& profile : read_profiles()) {
    const auto& environment = profile.environment;
    if (environment.contains("NCCL_SOCKET_IFNAME")) {
      EXPECT_EQ(environment.at("NCCL_SOCKET_IFNAME"), profile.network.interfaces) << profile.name;
    }
    if (environment.contains("NCCL_IB_HCA")) {
      std::string hcas;
      for (const auto& hca : profile.network.hcas) hcas += (hcas.empty() ? "" : ",") + hca;
      EXPECT_EQ(environment.at("NCCL_IB_HCA"), hcas) << profile.name;
    }
    const double node = profile.network.gbit_s_per_node;
    EXPECT_TRUE(profile.network.gbit_s_per_gpu == 0 ||
                profile.network.gbit_s_per_gpu * profile.node.gpus == node)
        << profile.name;
  }
}

TEST(BuiltinProfiles, AreRecognisedByDifferentThings) {
  std::set<std::string> seen;
  for (const auto& profile : read_profiles()) {
    const auto& rules = profile.detection;
    const bool known_by_something = !rules.environment.empty() || !rules.files.empty() ||
                                    !rules.host_name.empty() || !rules.marker_paths.empty();
    EXPECT_EQ(known_by_something, profile.name != "local") << profile.name;
    for (const auto& [name, value] : rules.environment) {
      EXPECT_TRUE(seen.insert(name + "=" + value).second) << profile.name;
    }
    for (const auto& path : rules.marker_paths) EXPECT_TRUE(seen.insert(path).second) << path;
  }
}

TEST(BuiltinProfiles, SayOfLeonardoWhatItsSourcesSay) {
  const auto& leonardo = builtin("leonardo");
  EXPECT_EQ(leonardo.slurm.queues[0].name, "normal");
  EXPECT_EQ(leonardo.slurm.queues[0].partition, "boost_usr_prod");
  EXPECT_EQ(leonardo.slurm.queues[0].qos, "");
  EXPECT_EQ(leonardo.slurm.queues[0].most_nodes, 64);
  EXPECT_EQ(leonardo.slurm.queues[1].qos, "boost_qos_bprod");
  EXPECT_EQ(leonardo.slurm.queues[1].least_nodes, 65);
  EXPECT_EQ(queue_of(leonardo, "lprod").most_minutes, 4 * 1440);
  EXPECT_TRUE(queue_of(leonardo, "dbg").on_request);
  EXPECT_EQ(leonardo.node.memory_bytes, std::int64_t{494000} << 20);
  EXPECT_EQ(leonardo.network.cell_nodes, 180);
  EXPECT_TRUE(unverified_reason(leonardo, "network.cell_nodes").has_value());
  EXPECT_FALSE(unverified_reason(leonardo, "network.topology").has_value());
  EXPECT_EQ(leonardo.compute_internet, Internet::no);
}

TEST(BuiltinProfiles, SayOfMareNostrumThatTheQosSelectsThePartition) {
  const auto& machine = builtin("marenostrum5");
  EXPECT_EQ(machine.slurm.queues[0].qos, "acc_ehpc");
  EXPECT_EQ(machine.slurm.queues[0].most_minutes, 72 * 60);
  for (const auto& queue : machine.slurm.queues) {
    EXPECT_EQ(queue.partition, "");
    EXPECT_EQ(queue.on_request, queue.name != "ehpc");
  }
  EXPECT_EQ(machine.binding.cpus_per_rank, 20);
  EXPECT_EQ(machine.network.hcas[2], "mlx5_4");
}

TEST(BuiltinProfiles, SayOfLumiWhatItsSourcesSay) {
  const auto& lumi = builtin("lumi");
  EXPECT_EQ(lumi.gpu_platform, "rocm");
  EXPECT_EQ(lumi.slurm.account_pattern, "project_\\d{9}");
  EXPECT_EQ(lumi.slurm.most_queued_jobs, 210);
  EXPECT_EQ(lumi.binding.gpu_visibility, "ROCR_VISIBLE_DEVICES");
  EXPECT_EQ(lumi.environment.at("MIOPEN_USER_DB_PATH"), "/tmp/${USER}-miopen-${SLURM_JOB_ID}");
  EXPECT_EQ(lumi.node.memory_bytes, std::int64_t{491520} << 20);
}

TEST(BuiltinProfiles, MarkWhatTheirSourcesDoNotAgreeOn) {
  const std::vector<std::pair<std::string, std::string>> marked{
      {"alps_santis", "node.count"},
      {"deucalion", "container.command"},
      {"ecmwf_atos", "node.gpus"},
      {"jupiter", "environment.NCCL_NET_GDR_LEVEL"},
      {"juwels_booster", "binding.gpu_numa"},
      {"karolina", "queues.qgpu_big.most_minutes"},
      {"leonardo", "modules"},
      {"lumi", "compute_internet"},
      {"marenostrum5", "queues.resa.most_nodes"},
      {"meluxina", "queues.default.most_nodes"},
      {"vega", "network.gbit_s_per_node"},
  };
  for (const auto& [name, key] : marked) {
    EXPECT_TRUE(unverified_reason(builtin(name), key).has_value()) << name << " " << key;
  }
  EXPECT_EQ(builtin("meluxina").slurm.account_pattern, "p20\\d{4}");
}

TEST(BuiltinProfiles, HaveOneForAMachineWithoutSlurm) {
  const auto& local = builtin("local");
  EXPECT_EQ(local.slurm.launcher, "mpirun");
  EXPECT_FALSE(local.slurm.wants_account);
  EXPECT_EQ(local.slurm.queues.size(), 1U);
  EXPECT_EQ(local.slurm.queues[0].most_nodes, 0);
  EXPECT_EQ(local.slurm.queues[0].most_minutes, 0);
  EXPECT_TRUE(local.unverified.empty());
}

}  // namespace
}  // namespace isobar::profile_test
