// SPDX-License-Identifier: Apache-2.0
#include <isobar/cluster/job.hpp>

#include <isobar/core/error.hpp>
#include <isobar/core/text.hpp>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "cluster/example_cluster.hpp"
#include "comm/expect_error.hpp"

namespace isobar::test::job_test {
namespace {

std::string queue_of(const JobRequest& request) {
  return plan_job(example_cluster(), request).queue.name;
}

std::string refusal(const ClusterProfile& profile, const JobRequest& request) {
  const auto text = error_of<UsageError>([&] { plan_job(profile, request); });
  EXPECT_EQ(text.find('\n'), std::string::npos) << text;
  return text;
}

std::string refusal(const JobRequest& request) { return refusal(example_cluster(), request); }

void expect_warning(const JobPlan& plan, const std::string& part) {
  expect_contains(join_words(plan.warnings, "\n"), part);
}

TEST(Job, TakesTheFirstQueueThatTakesItsNodes) {
  EXPECT_EQ(queue_of(example_request(1)), "normal");
  EXPECT_EQ(queue_of(example_request(64)), "normal");
  EXPECT_EQ(queue_of(example_request(65)), "big");
  EXPECT_EQ(queue_of(example_request(256)), "big");
}

TEST(Job, TakesAQueueByItsNameItsQosOrItsPartition) {
  for (const char* name : {"long", "qos_long"}) {
    auto request = example_request(3);
    request.qos = name;
    EXPECT_EQ(queue_of(request), "long") << name;
  }
  auto request = example_request(2);
  request.partition = "dev";
  EXPECT_EQ(queue_of(request), "test");
}

TEST(Job, TakesWhatIsOnRequestOnlyWhereItIsNamed) {
  auto request = example_request(3);
  request.minutes = 96 * 60;
  expect_contains(refusal(request), "'normal' ends after 1-00:00:00, and 4-00:00:00 is wanted");
  expect_contains(refusal(request), "queue 'long' takes it, on request: --qos qos_long");
  request.partition = "prod";
  expect_contains(refusal(request), "queue 'long' takes it, on request: --qos qos_long");
  request.qos = "long";
  EXPECT_EQ(queue_of(request), "long");
}

TEST(Job, NamesTheQueueThatTakesMoreNodes) {
  auto request = example_request(65);
  request.qos = "normal";
  expect_contains(refusal(request),
                  "queue 'normal' ends at 64 nodes, and 65 are wanted; "
                  "queue 'big' takes it: --qos qos_big");
}

TEST(Job, NamesTheQueueThatTakesFewerNodes) {
  auto request = example_request(64);
  request.qos = "qos_big";
  expect_contains(refusal(request),
                  "queue 'big' begins at 65 nodes, and 64 are wanted; "
                  "queue 'normal' takes it: --qos normal");
}

TEST(Job, SaysThatAReservationLiftsTheNodesOfTheLargestQueue) {
  const auto text = refusal(example_request(257));
  expect_contains(text, "queue 'big' ends at 256 nodes, and 257 are wanted");
  expect_contains(text, "reservation, which lifts that (--reservation NAME)");
}

TEST(Job, GoesBeyondAQueuesNodesInAReservation) {
  auto request = example_request(300);
  request.reservation = "hero";
  const auto plan = plan_job(example_cluster(), request);
  EXPECT_EQ(plan.queue.name, "big");
  expect_warning(plan, "the reservation 'hero' decides");
  request.nodes = 4;
  EXPECT_EQ(queue_of(request), "normal");
}

TEST(Job, KeepsTheMachinesNodesInAReservation) {
  auto request = example_request(301);
  request.reservation = "hero";
  expect_contains(refusal(request),
                  "301 nodes are wanted, spares included, and the machine has 300");
  request = example_request(257);
  request.reservation = "hero";
  request.minutes = 24 * 60 + 1;  // a reservation decides about that, too
  EXPECT_EQ(plan_job(example_cluster(), request).minutes, request.minutes);
}

TEST(Job, SaysWhatItTakesUnasked) {
  auto request = example_request();
  request.minutes = 0;
  expect_warning(plan_job(example_cluster(), request), "no --time is given: the job asks for all");
  request.minutes = 60;
  request.spares = 1;
  expect_warning(plan_job(example_cluster(), request), "2 nodes with the spares");
  request.spares = 0;
  request.ranks_per_node = 1;
  expect_warning(plan_job(example_cluster(), request), "3 of the 4 GPUs of each node have no rank");
}

TEST(Job, TakesPartitionsForSlurmsOwn) {
  auto request = example_request();
  request.partition = "normal";  // a queue's name in the profile
  expect_contains(refusal(request), "it has no queue 'normal'");
}

TEST(Job, NamesAQueueThatIsLongerOnFewerNodes) {
  auto request = example_request(10);
  request.minutes = 48 * 60;
  expect_contains(refusal(request),
                  "queue 'normal' ends after 1-00:00:00, and 2-00:00:00 is wanted; "
                  "queue 'long' is longer, on 1 to 3 nodes: --qos qos_long");
}

TEST(Job, NamesTheLongestTimeWhereNoQueueIsLonger) {
  auto request = example_request(1);
  request.minutes = 97 * 60;
  expect_contains(refusal(request), "no queue is longer, ask for 1-00:00:00");
}

TEST(Job, CountsSparesIntoItsNodes) {
  auto request = example_request(63);
  request.spares = 1;
  EXPECT_EQ(queue_of(request), "normal");
  EXPECT_EQ(plan_job(example_cluster(), request).nodes, 64);
  request.spares = 2;
  EXPECT_EQ(queue_of(request), "big");
  request.qos = "normal";
  expect_contains(refusal(request), "and 65 with 2 spare are wanted");
  request.nodes = 299;
  expect_contains(refusal(request), "301 nodes are wanted, spares included");
}

TEST(Job, RefusesNodesSparesAndTimesThatAreNone) {
  expect_contains(refusal(example_request(0)), "--nodes is 0, wanted 1 or more");
  auto request = example_request(1);
  request.spares = -1;
  expect_contains(refusal(request), "--spares is -1, wanted 0 or more");
  request = example_request(2147483647);
  request.spares = 2147483647;
  expect_contains(refusal(request), "4294967294 nodes are wanted");
  request = example_request(1);
  request.minutes = -5;
  expect_contains(refusal(request), "--time is -5 minutes");
}

TEST(Job, RefusesAQueueThatTheMachineDoesNotHave) {
  auto request = example_request(1);
  request.qos = "qos_bigg";
  expect_contains(refusal(request), "it has no queue 'qos_bigg'");
  request.qos = "bgi";
  expect_contains(refusal(request), "did you mean 'big'?");
  request.qos = "long";
  request.partition = "dev";
  expect_contains(refusal(request), "it has no queue 'long' in partition 'dev'");
}

TEST(Job, NamesAQueueForEverybodyBeforeOneOnRequest) {
  auto profile = example_cluster();
  auto& queues = profile.slurm.queues;
  queues.insert(queues.begin(), example_queue("granted", "prod", 300, 24));
  queues[0].on_request = true;
  auto request = example_request(65);
  request.qos = "normal";
  expect_contains(refusal(profile, request), "queue 'big' takes it: --qos qos_big");
}

TEST(Job, PromisesNothingOfAQueueWhoseLimitsAreNotKnown) {
  auto profile = example_cluster();
  profile.slurm.queues[3].most_nodes = 0;
  expect_contains(refusal(profile, example_request(257)),
                  "queue 'test' may take it, on request: --partition dev");
}

TEST(Job, NamesAPartitionThatIsAQueuesAlone) {
  auto profile = example_cluster();
  profile.slurm.queues = {profile.slurm.queues[0], profile.slurm.queues[3]};
  auto request = example_request(2);
  request.partition = "dev";
  request.minutes = 90;
  expect_contains(refusal(profile, request), "queue 'normal' takes it: --partition prod");
}

TEST(Job, RefusesAnAccountThatIsMissingOrLooksWrong) {
  auto profile = example_cluster();
  profile.account.clear();
  expect_contains(refusal(profile, example_request()), "give --account such as 'p123'");
  auto request = example_request();
  request.account = "project1";
  expect_contains(refusal(profile, request),
                  "'project1' is no account of this machine, wanted one");
  expect_contains(refusal(profile, request), "such as 'p123'");
  profile.slurm.wants_account = false;
  EXPECT_EQ(plan_job(profile, example_request()).account, "");
}

TEST(Job, SaysWhatTheMachineRefusesBeforeItAsksForAnAccount) {
  auto profile = example_cluster();
  profile.account.clear();
  expect_contains(refusal(profile, example_request(257)), "ends at 256 nodes");
}

TEST(Job, TakesTheRequestsAccountBeforeTheProfiles) {
  auto request = example_request();
  EXPECT_EQ(plan_job(example_cluster(), request).account, "p1");
  request.account = "p2";
  EXPECT_EQ(plan_job(example_cluster(), request).account, "p2");
}

TEST(Job, HasARankForEachGpuAndNoMore) {
  auto request = example_request();
  EXPECT_EQ(plan_job(example_cluster(), request).ranks_per_node, 4);
  EXPECT_EQ(plan_job(example_cluster(), request).cpus_per_rank, 8);
  request.ranks_per_node = 2;
  EXPECT_EQ(plan_job(example_cluster(), request).ranks_per_node, 2);
  EXPECT_EQ(plan_job(example_cluster(), request).cpus_per_rank, 8);
  request.ranks_per_node = 5;
  expect_contains(refusal(request), "5 ranks a node are wanted, and a node has 4 GPUs");
  request.ranks_per_node = -1;
  expect_contains(refusal(request), "--ranks-per-node is -1");
}

TEST(Job, SharesTheCoresOfANodeWithoutGpus) {
  auto profile = example_cluster();
  profile.node.gpus = 0;
  auto request = example_request();
  EXPECT_EQ(plan_job(profile, request).ranks_per_node, 4);
  request.ranks_per_node = 16;
  EXPECT_EQ(plan_job(profile, request).cpus_per_rank, 2);
  request.ranks_per_node = 33;
  expect_contains(refusal(profile, request), "a node has 32 cores");
}

TEST(Job, HasTheQueuesTimeWhereNoneIsAskedFor) {
  auto request = example_request();
  EXPECT_EQ(plan_job(example_cluster(), request).minutes, 24 * 60);
  request.minutes = 90;
  EXPECT_EQ(plan_job(example_cluster(), request).minutes, 90);
}

TEST(Job, HasTheSignalAfterHalfOfAShortTime) {
  auto request = example_request();
  request.minutes = 10;
  EXPECT_EQ(plan_job(example_cluster(), request).signal_minutes, 5);
  EXPECT_TRUE(plan_job(example_cluster(), request).warnings.empty());
  request.minutes = 5;
  EXPECT_EQ(plan_job(example_cluster(), request).signal_minutes, 2);
  expect_warning(plan_job(example_cluster(), request), "comes 2 minutes before it, not 5");
  request.signal_minutes = 1093;
  expect_contains(refusal(request), "Slurm takes 0 to 1092");
}

TEST(Job, WarnsOfLimitsThatAreNotKnown) {
  auto profile = example_cluster();
  profile.slurm.queues = {example_queue("any", "any", 0, 0)};
  const auto plan = plan_job(profile, example_request());
  EXPECT_EQ(plan.minutes, 0);
  expect_warning(plan, "how many nodes queue 'any' takes is not known; Slurm may refuse 1");
  expect_warning(plan, "no --time is given: Slurm's default holds");
  auto request = example_request();
  request.minutes = 60;
  expect_warning(plan_job(profile, request), "Slurm may refuse 01:00:00");
  EXPECT_TRUE(plan_job(example_cluster(), request).warnings.empty());
}

TEST(Job, WarnsOnceOfEachUsedValueThatIsNotCertain) {
  auto profile = example_cluster();
  profile.environment = {{"NCCL_NET", "IB"}, {"UCX_TLS", "rc"}};
  profile.unverified = {{"queues.normal", "from a weak source"},
                        {"queues.long", "not used here"},
                        {"environment.NCCL_NET", "seen once"},
                        {"environment.UCX_TLS", "seen twice"},
                        {"network", "is nobody's business here"}};
  auto request = example_request();
  request.minutes = 60;
  request.environment = {{"UCX_TLS", "sm"}};
  EXPECT_EQ(plan_job(profile, request).warnings,
            (std::vector<std::string>{"not certain: queues.normal: from a weak source",
                                      "not certain: environment.NCCL_NET: seen once"}));
}

TEST(Job, HasTheRequestsEnvironmentAndModulesOverTheProfiles) {
  auto profile = example_cluster();
  profile.environment = {{"A", "1"}, {"B", "1"}};
  profile.modules = {"cuda"};
  auto request = example_request();
  EXPECT_EQ(plan_job(profile, request).modules, profile.modules);
  request.environment = {{"B", "2"}, {"C", "2"}};
  request.modules = {"nvhpc"};
  const auto plan = plan_job(profile, request);
  EXPECT_EQ(plan.modules, request.modules);
  EXPECT_EQ(plan.environment,
            (std::vector<std::pair<std::string, std::string>>{{"A", "1"}, {"B", "2"}, {"C", "2"}}));
}

TEST(Job, HasTheContainersModulesAndEnvironmentInAContainer) {
  auto profile = example_cluster();
  profile.modules = {"cuda"};
  auto request = example_request();
  request.container = "/images/isobar.sif";
  expect_contains(refusal(profile, request), "how programs run in a container is not known");
  profile.container.command = "singularity exec";
  profile.container.modules = {"singularity"};
  profile.container.environment = {{"A", "1"}};
  const auto plan = plan_job(profile, request);
  EXPECT_EQ(plan.modules, profile.container.modules);
  EXPECT_EQ(plan.environment.size(), 1U);
}

TEST(Job, AsksForNoQueueWhereThereIsNoSlurm) {
  auto profile = example_cluster();
  profile.slurm.launcher = "mpirun";
  const auto plan = plan_job(profile, example_request());
  EXPECT_EQ(plan.queue.name, "");
  EXPECT_EQ(plan.account, "");
  EXPECT_EQ(plan.ranks_per_node, 4);
}

}  // namespace
}  // namespace isobar::test::job_test
