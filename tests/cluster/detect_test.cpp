// SPDX-License-Identifier: Apache-2.0
#include <isobar/cluster/detect.hpp>

#include <isobar/core/error.hpp>
#include <isobar/core/machine.hpp>
#include <isobar/core/text.hpp>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "comm/expect_error.hpp"

namespace isobar::test::detect_test {
namespace {

/// A machine as a process sees it, and what it is.
struct Case {
  std::string what = {};
  std::string host = {};
  std::map<std::string, std::string> environment = {};
  std::set<std::string> paths = {};
  std::map<std::string, std::string> files = {};
  /// "leonardo", "alps_santis or lumi", or "unknown".
  std::string wanted = {};
  std::string words = {};  ///< of the reason
  bool has_slurm = true;
};

MachineFacts facts_of(const Case& one) {
  return {.environment = one.environment,
          .host_name = one.host,
          .text_of =
              [files = one.files](const std::string& path) {
                const auto found = files.find(path);
                return found == files.end() ? std::string() : found->second;
              },
          .exists = [paths = one.paths](const std::string& path) { return paths.contains(path); },
          .has_slurm = one.has_slurm};
}

std::string answer(const Detection& detection) {
  return detection.clusters.empty() ? "unknown" : join_words(detection.clusters, " or ");
}

void expect_all(const std::vector<Case>& cases) {
  const auto profiles = read_profiles();
  for (const auto& one : cases) {
    const auto got = detect_cluster(profiles, facts_of(one));
    EXPECT_EQ(answer(got), one.wanted) << one.what << ": " << got.reason;
    EXPECT_NE(got.reason.find(one.words), std::string::npos)
        << one.what << ": '" << got.reason << "' lacks '" << one.words << "'";
  }
}

const std::string kFzj = "/etc/FZJ/systemname";

TEST(DetectCluster, KnowsTheNodesOfItsMachines) {
  expect_all({
      {.what = "Leonardo, login",
       .host = "login02.leonardo.local",
       .environment = {{"HPC_SYSTEM", "leonardo"}, {"CINECA_SCRATCH", "/leonardo_scratch/large/u"}},
       .paths = {"/leonardo_work", "/leonardo_scratch"},
       .wanted = "leonardo",
       .words = "host name login02.leonardo.local"},
      {.what = "Leonardo, compute", .host = "lrdn0042.leonardo.local", .wanted = "leonardo"},
      {.what = "Leonardo, compute without a domain",
       .host = "lrdn3456",
       .wanted = "leonardo",
       .words = "host name lrdn3456"},
      {.what = "Leonardo, login without a domain",
       .host = "login07",
       .paths = {"/leonardo_work"},
       .wanted = "leonardo",
       .words = "host name login07 beside /leonardo_work"},
      {.what = "Leonardo, data mover",
       .host = "dmover1.leonardo.cineca.it",
       .environment = {{"HPC_SYSTEM", "leonardo"}},
       .wanted = "leonardo",
       .words = "HPC_SYSTEM=leonardo"},
      {.what = "MareNostrum5, login of the GPU partition",
       .host = "alogin1",
       .environment = {{"BSC_MACHINE", "mn5"}},
       .wanted = "marenostrum5"},
      {.what = "MareNostrum5, general login",
       .host = "glogin1",
       .environment = {{"BSC_MACHINE", "mn5_gpp"}},
       .wanted = "marenostrum5",
       .words = "BSC_MACHINE=mn5_gpp"},
      {.what = "MareNostrum5, compute", .host = "as01r3b02", .wanted = "marenostrum5"},
      {.what = "LUMI, login",
       .host = "uan02",
       .environment = {{"LMOD_ADMIN_FILE", "/appl/lumi/LMOD/lmodadmin.lua"}},
       .paths = {"/appl/lumi", "/pfs/lustrep1"},
       .wanted = "lumi",
       .words = "host name uan02 beside /appl/lumi"},
      {.what = "LUMI, compute",
       .host = "nid005038",
       .environment = {{"SLURM_CLUSTER_NAME", "lumi"}},
       .paths = {"/appl/lumi"},
       .wanted = "lumi"},
      {.what = "LUMI, compute, by Slurm alone",
       .host = "nid005038",
       .environment = {{"SLURM_CLUSTER_NAME", "lumi"}},
       .wanted = "lumi",
       .words = "SLURM_CLUSTER_NAME=lumi"},
      {.what = "JUWELS Booster, login",
       .host = "jwlogin22.juwels",
       .environment = {{"SYSTEMNAME", "juwelsbooster"}},
       .files = {{kFzj, "juwelsbooster"}},
       .wanted = "juwels_booster",
       .words = kFzj + " holds 'juwelsbooster'"},
      {.what = "JUWELS Booster, compute", .host = "jwb0123.juwels", .wanted = "juwels_booster"},
      {.what = "JUPITER, login",
       .host = "jpbl-s01-02.jupiter.internal",
       .files = {{kFzj, "jupiter"}},
       .wanted = "jupiter"},
      {.what = "JUPITER, compute", .host = "jpbo-012-34.jupiter.internal", .wanted = "jupiter"},
      {.what = "JUPITER, by its variable",
       .host = "jpxx01",
       .environment = {{"SYSTEMNAME", "jupiterbooster"}},
       .wanted = "jupiter",
       .words = "SYSTEMNAME=jupiterbooster"},
      {.what = "Santis, login", .host = "santis-ln001", .wanted = "alps_santis"},
      {.what = "Santis, compute",
       .host = "nid007654",
       .environment = {{"CLUSTER_NAME", "santis"}},
       .wanted = "alps_santis",
       .words = "CLUSTER_NAME=santis"},
      {.what = "ECMWF, compute",
       .host = "ac6-200.bullx",
       .environment = {{"HPCPERM", "/ec/res4/hpcperm/u"}},
       .paths = {"/ec/res4"},
       .wanted = "ecmwf_atos",
       .words = "/ec/res4"},
      {.what = "ECMWF, in a container without its folders",
       .host = "ac6-200",
       .environment = {{"HPCPERM", "/ec/res4/hpcperm/u"}},
       .wanted = "ecmwf_atos",
       .words = "host name ac6-200 beside HPCPERM"},
      {.what = "Karolina, login", .host = "login3.karolina.it4i.cz", .wanted = "karolina"},
      {.what = "Karolina, GPU node", .host = "acn41.karolina.it4i.cz", .wanted = "karolina"},
      {.what = "Karolina, CPU node", .host = "cn123.karolina.it4i.cz", .wanted = "karolina"},
      {.what = "MeluXina, login", .host = "login01.meluxina.lxp.lu", .wanted = "meluxina"},
      {.what = "MeluXina, compute",
       .host = "mel2041",
       .paths = {"/apps/USE", "/project/home"},
       .wanted = "meluxina",
       .words = "beside /apps/USE"},
      {.what = "Deucalion, GPU node", .host = "gnx501", .wanted = "deucalion"},
      {.what = "Vega, login", .host = "vglogin0006", .wanted = "vega"},
      {.what = "Vega, GPU node",
       .host = "gn12",
       .paths = {"/ceph/hpc"},
       .wanted = "vega",
       .words = "host name gn12 beside /ceph/hpc"},
      {.what = "Vega, CPU node", .host = "cn0345.vega.izum.si", .wanted = "vega"},
  });
}

TEST(DetectCluster, LeavesOtherMachinesUnknown) {
  expect_all({
      {.what = "laptop", .host = "mira", .wanted = "local", .words = "mira", .has_slurm = false},
      {.what = "CI runner",
       .host = "runner-x7fk2-project-12-concurrent-0",
       .environment = {{"CI", "true"}},
       .wanted = "local",
       .words = "no Slurm",
       .has_slurm = false},
      {.what = "container of a CI", .host = "3f9ab2c01d44", .wanted = "local", .has_slurm = false},
      {.what = "laptop named as a node is",
       .host = "login01",
       .wanted = "local",
       .has_slurm = false},
      {.what = "another Slurm cluster",
       .host = "node17.cluster.example.org",
       .environment = {{"SLURM_CLUSTER_NAME", "maxwell"}},
       .wanted = "unknown",
       .words = "SLURM_CLUSTER_NAME=maxwell"},
      {.what = "another Cray with a Slurm of its own",
       .host = "nid001234",
       .environment = {{"SLURM_CLUSTER_NAME", "perlmutter"}},
       .wanted = "unknown",
       .words = "host name nid001234"},
      {.what = "another machine of CSCS",
       .host = "nid006543",
       .environment = {{"CLUSTER_NAME", "daint"}, {"SLURM_CLUSTER_NAME", "daint"}},
       .wanted = "unknown",
       .words = "CLUSTER_NAME=daint"},
      {.what = "another machine of CINECA",
       .host = "login01.g100.cineca.it",
       .environment = {{"HPC_SYSTEM", "galileo100"}},
       .wanted = "unknown",
       .words = "HPC_SYSTEM=galileo100"},
      {.what = "JUWELS without Booster",
       .host = "jwlogin08.juwels",
       .environment = {{"SYSTEMNAME", "juwels"}},
       .files = {{kFzj, "juwels"}},
       .wanted = "unknown",
       .words = kFzj + " holds 'juwels'"},
      {.what = "a node that another machine has got",
       .host = "jwb0123.juwels",
       .files = {{kFzj, "juwels"}},
       .wanted = "unknown",
       .words = kFzj + " holds 'juwels'"},
      {.what = "a Ceph somewhere", .host = "c17", .paths = {"/ceph/hpc"}, .wanted = "unknown"},
      {.what = "a GPFS somewhere",
       .host = "c17",
       .paths = {"/gpfs/projects", "/project/home"},
       .wanted = "unknown"},
      {.what = "a name inside another", .host = "xlrdn0042y", .wanted = "unknown"},
      {.what = "a login node of anybody",
       .host = "ln01",
       .wanted = "unknown",
       .words = "like deucalion's, and nothing else says so"},
  });
}

TEST(DetectCluster, SaysWhichMachinesLookAlike) {
  expect_all({
      {.what = "LUMI or Alps", .host = "nid001234", .wanted = "alps_santis or lumi"},
      {.what = "LUMI or Alps, with another's domain",
       .host = "nid001234.local",
       .wanted = "alps_santis or lumi",
       .words = "nothing decides"},
      {.what = "login01", .host = "login01", .wanted = "leonardo or meluxina"},
      {.what = "login1", .host = "login1", .wanted = "unknown", .words = "like karolina's"},
      {.what = "cn0123", .host = "cn0123", .wanted = "karolina or vega"},
      {.what = "Deucalion's are others", .host = "cnx012", .wanted = "deucalion"},
      {.what = "two variables",
       .host = "3f9ab2c01d44",
       .environment = {{"HPC_SYSTEM", "leonardo"}, {"CLUSTER_NAME", "santis"}},
       .wanted = "alps_santis or leonardo",
       .words = "HPC_SYSTEM=leonardo"},
  });
}

TEST(DetectCluster, TakesVariablesOfAnotherMachineForLeftOver) {
  expect_all({
      {.what = "JUWELS's on Leonardo",
       .host = "lrdn0001.leonardo.local",
       .environment = {{"SYSTEMNAME", "juwelsbooster"}},
       .wanted = "leonardo",
       .words = "SYSTEMNAME=juwelsbooster, which is juwels_booster's, is taken for left over"},
      {.what = "a job of LUMI's, by ssh to Karolina",
       .host = "login1.karolina.it4i.cz",
       .environment = {{"SLURM_CLUSTER_NAME", "lumi"}, {"SLURM_JOB_ID", "7"}},
       .wanted = "karolina",
       .words = "SLURM_CLUSTER_NAME=lumi, which is lumi's, is taken for left over"},
      {.what = "sbatch --export of HPC_SYSTEM to JUPITER",
       .host = "jpbo-001-48.jupiter.internal",
       .environment = {{"HPC_SYSTEM", "leonardo"}},
       .files = {{kFzj, "jupiter"}},
       .wanted = "jupiter",
       .words = "left over"},
      {.what = "start-up files of JUWELS on LUMI, in a job",
       .host = "nid005038",
       .environment = {{"SYSTEMNAME", "juwelsbooster"}, {"SLURM_CLUSTER_NAME", "lumi"}},
       .wanted = "lumi",
       .words = "SLURM_CLUSTER_NAME=lumi; SYSTEMNAME=juwelsbooster, which is juwels_booster's"},
      {.what = "the same with LUMI's folders",
       .host = "nid005038",
       .environment = {{"SYSTEMNAME", "juwelsbooster"}},
       .paths = {"/appl/lumi"},
       .wanted = "lumi",
       .words = "left over"},
      {.what = "the same with nothing that decides",
       .host = "nid005038",
       .environment = {{"SYSTEMNAME", "juwelsbooster"}},
       .wanted = "alps_santis or juwels_booster or lumi",
       .words = "host name nid005038 contradicts it"},
      {.what = "HPCPERM on a login01 of anybody's",
       .host = "login01",
       .environment = {{"HPCPERM", "/ec/res4/hpcperm/u"}},
       .wanted = "leonardo or meluxina"},
      {.what = "a file and a host name",
       .host = "lrdn0001.leonardo.local",
       .files = {{kFzj, "jupiter"}},
       .wanted = "jupiter or leonardo",
       .words = "contradicts it"},
  });
}

TEST(DetectCluster, LooksOutOfContainers) {
  expect_all({
      {.what = "Singularity on JUWELS, without /etc",
       .host = "jwb0123",
       .environment = {{"SYSTEMNAME", "juwelsbooster"}},
       .wanted = "juwels_booster"},
      {.what = "Singularity on LUMI, in a job",
       .host = "nid005038",
       .environment = {{"SLURM_CLUSTER_NAME", "lumi"}},
       .paths = {"/pfs/lustrep1"},
       .wanted = "lumi"},
      {.what = "a host name of its own on Leonardo",
       .host = "3f9ab2c01d44",
       .environment = {{"CINECA_SCRATCH", "/leonardo_scratch/large/u"}},
       .paths = {"/leonardo_work", "/leonardo_scratch"},
       .wanted = "leonardo",
       .words = "/leonardo_work and /leonardo_scratch and CINECA_SCRATCH"},
      {.what = "with one folder only",
       .host = "3f9ab2c01d44",
       .paths = {"/leonardo_work"},
       .wanted = "unknown"},
      {.what = "a name of its own on Santis",
       .host = "3f9ab2c01d44",
       .environment = {{"CLUSTER_NAME", "santis"}},
       .wanted = "alps_santis"},
  });
}

TEST(DetectCluster, DoesNotLookAtCapitals) {
  expect_all({
      {.what = "host", .host = "LRDN0042.Leonardo.Local", .wanted = "leonardo"},
      {.what = "Slurm",
       .host = "nid005038",
       .environment = {{"SLURM_CLUSTER_NAME", "LUMI"}},
       .wanted = "lumi"},
      {.what = "variable",
       .host = "x",
       .environment = {{"HPC_SYSTEM", "Leonardo"}},
       .wanted = "leonardo"},
      {.what = "override",
       .host = "x",
       .environment = {{"ISOBAR_CLUSTER", "Vega"}},
       .wanted = "vega"},
  });
}

TEST(DetectCluster, TakesTheUsersWord) {
  expect_all({
      {.what = "against everything",
       .host = "lrdn0001.leonardo.local",
       .environment = {{"ISOBAR_CLUSTER", "karolina"}, {"HPC_SYSTEM", "leonardo"}},
       .wanted = "karolina",
       .words = "ISOBAR_CLUSTER=karolina"},
      {.what = "where two look alike",
       .host = "nid001234",
       .environment = {{"ISOBAR_CLUSTER", "alps_santis"}},
       .wanted = "alps_santis"},
      {.what = "empty",
       .host = "lrdn0001",
       .environment = {{"ISOBAR_CLUSTER", ""}},
       .wanted = "leonardo"},
  });
}

TEST(DetectCluster, RefusesANameThatIsNone) {
  const Case wrong{.host = "lrdn0001", .environment = {{"ISOBAR_CLUSTER", "leonrado"}}};
  const auto text = error_of<UsageError>([&] { detect_cluster(read_profiles(), facts_of(wrong)); });
  expect_contains(text, "ISOBAR_CLUSTER=leonrado");
  expect_contains(text, "'leonardo'");
}

TEST(DetectCluster, AnswersForProfilesWithoutRules) {
  ClusterProfile empty;
  empty.name = "empty";
  const Case somewhere{.host = "x"};
  EXPECT_EQ(answer(detect_cluster({empty}, facts_of(somewhere))), "unknown");
  EXPECT_EQ(answer(detect_cluster({}, facts_of(somewhere))), "unknown");
}

TEST(ProfileHere, IsTheOneThatWasNamed) {
  const auto profiles = read_profiles();
  EXPECT_EQ(profile_here(profiles, "lumi").name, "lumi");
  expect_contains(error_of<UsageError>([&] { profile_here(profiles, "lumo"); }), "lumi");
}

/// A variable has this value, and ISOBAR_CLUSTER none, while it lives.
class ScopedVariable {
 public:
  ScopedVariable(const char* name, const char* value) : name_(name) {
    unsetenv("ISOBAR_CLUSTER");
    setenv(name, value, 1);
  }
  ~ScopedVariable() { unsetenv(name_); }
  ScopedVariable(const ScopedVariable&) = delete;
  ScopedVariable& operator=(const ScopedVariable&) = delete;

 private:
  const char* name_;
};

TEST(ProfileHere, IsThatOfTheEnvironment) {
  const ScopedVariable vega("ISOBAR_CLUSTER", "vega");
  EXPECT_EQ(profile_here(read_profiles(), "").name, "vega");
}

ClusterProfile known_by(const std::string& name, const std::string& variable) {
  ClusterProfile profile;
  profile.name = name;
  profile.detection.environment = {{variable, "here"}};
  return profile;
}

TEST(ProfileHere, RefusesSeveralThatLookAlike) {
  const ScopedVariable here("ISOBAR_DETECT_TEST", "here");
  const auto text = error_of<UsageError>([] {
    profile_here({known_by("one", "ISOBAR_DETECT_TEST"), known_by("two", "ISOBAR_DETECT_TEST")},
                 "");
  });
  expect_contains(text, "this may be one or two (ISOBAR_DETECT_TEST=here");
  expect_contains(text, "set ISOBAR_CLUSTER");
}

TEST(ProfileHere, RefusesAMachineThatIsNotKnown) {
  const ScopedVariable job("SLURM_JOB_ID", "7");
  const auto text =
      error_of<UsageError>([] { profile_here({known_by("one", "ISOBAR_DETECT_TEST")}, ""); });
  expect_contains(text, "this machine is not known (host name " + host_name());
  expect_contains(text, "set ISOBAR_CLUSTER to one of one");
}

TEST(MachineFacts, AreThoseOfThisProcess) {
  const ScopedVariable vega("ISOBAR_CLUSTER", "vega");
  const auto begin = std::chrono::steady_clock::now();
  const auto facts = read_machine_facts();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(4));
  EXPECT_EQ(facts.environment.at("ISOBAR_CLUSTER"), "vega");
  EXPECT_TRUE(facts.host_name.starts_with(host_name())) << facts.host_name;
  EXPECT_TRUE(facts.exists("/etc"));
  EXPECT_FALSE(facts.exists("/no/such/folder"));
  EXPECT_EQ(facts.text_of("/no/such/file"), "");
  EXPECT_NE(facts.text_of("/proc/sys/kernel/ostype"), "");
}

}  // namespace
}  // namespace isobar::test::detect_test
