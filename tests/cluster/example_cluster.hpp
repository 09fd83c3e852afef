// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/cluster/job.hpp>
#include <isobar/cluster/profile.hpp>

#include <cstdint>
#include <string>

namespace isobar::test {

inline Queue example_queue(const std::string& name, const std::string& partition, int most_nodes,
                           std::int64_t most_hours) {
  Queue queue;
  queue.name = name;
  queue.partition = partition;
  queue.most_nodes = most_nodes;
  queue.most_minutes = 60 * most_hours;
  return queue;
}

/// A machine of 300 nodes that has each kind of queue.
inline ClusterProfile example_cluster() {
  ClusterProfile profile;
  profile.name = "example";
  profile.title = "Example (a centre)";
  profile.gpu_platform = "cuda";
  profile.slurm.account_pattern = "p[0-9]+";
  profile.slurm.account_example = "p123";
  profile.slurm.gpu_request = "--gres=gpu:4";
  auto& queues = profile.slurm.queues;
  queues = {example_queue("normal", "prod", 64, 24), example_queue("big", "prod", 256, 24),
            example_queue("long", "prod", 3, 96), example_queue("test", "dev", 2, 1)};
  queues[1].qos = "qos_big";
  queues[1].least_nodes = 65;
  queues[2].qos = "qos_long";
  queues[2].on_request = queues[3].on_request = true;
  profile.node.count = 300;
  profile.node.gpus = 4;
  profile.node.cores = 32;
  profile.binding.cpus_per_rank = 8;
  profile.account = "p1";
  return profile;
}

inline JobRequest example_request(int nodes = 1) {
  JobRequest request;
  request.name = "weather";
  request.command = {"isobar", "train", "weather.yaml"};
  request.folder = "/scratch/runs/weather";
  request.output = "/scratch/runs/weather/jobs/%j.out";
  request.nodes = nodes;
  return request;
}

}  // namespace isobar::test
