// SPDX-License-Identifier: Apache-2.0
// Which queue a job goes to. plan_job() calls it; everything here is a function of a profile and a
// wish. A machine's queues are in the order of preference, so the first that takes the wish is
// right; the rest of this file says why none does, and which of the others would.
#include "cluster/queue_choice.hpp"

#include <isobar/core/error.hpp>
#include <isobar/core/text.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

namespace isobar {
namespace {

using Queues = std::vector<const Queue*>;

/// What a queue has to take.
struct Wish {
  int nodes = 1;  ///< with spares
  int spares = 0;
  std::int64_t minutes = 0;  ///< 0: what it gives
};

/// How many nodes a wish is from what the queue takes; 0 where it takes them.
int nodes_off(const Queue& queue, const Wish& wish) {
  if (wish.nodes < queue.least_nodes) return queue.least_nodes - wish.nodes;
  return queue.most_nodes == 0 ? 0 : std::max(0, wish.nodes - queue.most_nodes);
}

bool takes_time(const Queue& queue, const Wish& wish) {
  return queue.most_minutes == 0 || wish.minutes <= queue.most_minutes;
}

bool takes(const Queue& queue, const Wish& wish) {
  return nodes_off(queue, wish) == 0 && takes_time(queue, wish);
}

bool is_called(const Queue& queue, const std::string& name) {
  return name.empty() || queue.name == name || queue.partition == name || queue.qos == name;
}

/// Whether its limits are known.
bool certain(const Queue& queue) { return queue.most_nodes > 0 && queue.most_minutes > 0; }

/// The first of `queues` for which `holds`, those on request last.
template <typename Holds>
const Queue* first_of(const std::vector<Queue>& queues, Holds holds) {
  for (const bool on_request : {false, true}) {
    for (const auto& queue : queues) {
      if (queue.on_request == on_request && holds(queue)) return &queue;
    }
  }
  return nullptr;
}

/// The option that asks for a queue. One that shares its partition and has no QoS is asked for by
/// its name.
std::string option_for(const ClusterProfile& profile, const Queue& queue) {
  if (!queue.qos.empty()) return "--qos " + queue.qos;
  const auto& queues = profile.slurm.queues;
  const auto sharing = std::count_if(queues.begin(), queues.end(), [&](const Queue& other) {
    return is_called(other, queue.partition);
  });
  return sharing == 1 ? "--partition " + queue.partition : "--qos " + queue.name;
}

std::string node_range(const Queue& queue) {
  if (queue.most_nodes == 0) return fmt::format("{} nodes or more", queue.least_nodes);
  if (queue.most_nodes == queue.least_nodes) return fmt::format("{} nodes", queue.most_nodes);
  return fmt::format("{} to {} nodes", queue.least_nodes, queue.most_nodes);
}

/// "; queue 'big' takes it: --qos qos_big", or nothing where no queue takes the wish.
std::string other_queue(const ClusterProfile& profile, const Wish& wish) {
  const auto* queue =
      first_of(profile.slurm.queues, [&](const Queue& each) { return takes(each, wish); });
  if (!queue) return {};
  return fmt::format("; queue '{}' {} it{}: {}", queue->name,
                     certain(*queue) ? "takes" : "may take",
                     queue->on_request ? ", on request" : "", option_for(profile, *queue));
}

std::string refused_nodes(const ClusterProfile& profile, const Queue& queue, const Wish& wish) {
  const bool too_few = wish.nodes < queue.least_nodes;
  const int limit = too_few ? queue.least_nodes : queue.most_nodes;
  auto advice = other_queue(profile, wish);
  if (advice.empty() && too_few) advice = fmt::format("; ask for {} nodes", limit);
  if (advice.empty()) {
    advice = fmt::format(
        "; ask for {} nodes, or for a reservation, which lifts that "
        "(--reservation NAME)",
        limit);
  }
  const auto spares = wish.spares ? fmt::format(" with {} spare", wish.spares) : "";
  return fmt::format("job on {}: queue '{}' {} at {} nodes, and {}{} are wanted{}", profile.name,
                     queue.name, too_few ? "begins" : "ends", limit, wish.nodes, spares, advice);
}

std::string refused_time(const ClusterProfile& profile, const Queue& queue, const Wish& wish) {
  const auto longest = minutes_text(queue.most_minutes);
  auto advice = other_queue(profile, wish);
  const auto* longer =
      first_of(profile.slurm.queues, [&](const Queue& each) { return takes_time(each, wish); });
  if (advice.empty() && longer) {
    advice = fmt::format("; queue '{}' {} longer, on {}: {}", longer->name,
                         certain(*longer) ? "is" : "may be", node_range(*longer),
                         option_for(profile, *longer));
  }
  if (advice.empty()) advice = fmt::format("; no queue is longer, ask for {}", longest);
  return fmt::format("job on {}: queue '{}' ends after {}, and {} is wanted{}", profile.name,
                     queue.name, longest, minutes_text(wish.minutes), advice);
}

const Queue* longest_of(const Queues& queues) {
  const auto limit = [](const Queue* queue) { return queue->most_minutes; };
  return *std::max_element(queues.begin(), queues.end(),
                           [&](const Queue* a, const Queue* b) { return limit(a) < limit(b); });
}

const Queue* nearest_of(const Queues& queues, const Wish& wish) {
  return *std::min_element(queues.begin(), queues.end(), [&](const Queue* a, const Queue* b) {
    return nodes_off(*a, wish) < nodes_off(*b, wish);
  });
}

/// "did you mean 'qos_big'?", by names, QoS and partitions; else the names.
std::string known_queues(const ClusterProfile& profile, const std::string& asked) {
  std::vector<std::string> names, words;
  for (const auto& queue : profile.slurm.queues) {
    names.push_back(queue.name);
    words.insert(words.end(), {queue.name, queue.qos, queue.partition});
  }
  std::erase(words, "");
  return did_you_mean(asked, nearest(asked, words) ? words : names);
}

/// Those among which the job may choose; at least one.
Queues asked_for(const ClusterProfile& profile, const JobRequest& request) {
  Queues named, open;
  for (const auto& queue : profile.slurm.queues) {
    // --partition is Slurm's; a queue without a QoS is asked for by its name here.
    const bool fits = request.partition.empty() || queue.partition == request.partition;
    if (!fits || !is_called(queue, request.qos)) continue;
    named.push_back(&queue);
    if (!queue.on_request) open.push_back(&queue);
  }
  const auto asked = request.qos.empty() ? request.partition : request.qos;
  const bool both = !request.qos.empty() && !request.partition.empty();
  ISOBAR_CHECK(!named.empty(), "job on ", profile.name, ": it has no queue '", asked, "'",
               both ? " in partition '" + request.partition + "'" : "", "; ",
               known_queues(profile, asked),
               " (the file that ISOBAR_CLUSTER_CONFIG names may add one)");
  ISOBAR_CHECK(!open.empty() || !asked.empty(), "job on ", profile.name,
               ": its queues are on request only; name one by --qos or --partition, ",
               known_queues(profile, asked));
  return open.empty() ? named : open;
}

}  // namespace

Queue choose_queue(const ClusterProfile& profile, const JobRequest& request) {
  const auto queues = asked_for(profile, request);
  const Wish wish{request.nodes + request.spares, request.spares, request.minutes};
  for (const auto* queue : queues) {
    if (takes(*queue, wish)) return *queue;
  }
  Queues of_size = queues;
  if (request.reservation.empty()) {
    std::erase_if(of_size, [&](const Queue* queue) { return nodes_off(*queue, wish) != 0; });
    if (of_size.empty()) {
      throw UsageError(refused_nodes(profile, *nearest_of(queues, wish), wish));
    }
  }
  Queues long_enough = of_size;
  std::erase_if(long_enough, [&](const Queue* queue) { return !takes_time(*queue, wish); });
  if (!long_enough.empty()) return *nearest_of(long_enough, wish);
  // A reservation decides about time as well.
  if (!request.reservation.empty()) return *nearest_of(of_size, wish);
  throw UsageError(refused_time(profile, *longest_of(of_size), wish));
}

}  // namespace isobar
