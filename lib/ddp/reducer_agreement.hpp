// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ddp/grad_hook.hpp"
#include "ddp/reducer_collectives.hpp"

#include <memory>
#include <vector>

namespace isobar {

/// Checks a reducer's arguments on this rank, then compares them over the ranks:
/// names, types, reductions and options over the world; shapes and memory layouts
/// where ranks hold the same rows. A compressor then belongs to `owner`. Collective; blocks.
/// Throws the same UsageError on every rank.
void check_agreement(const std::vector<NamedParameter>& parameters, const ReducerOptions& options,
                     const ReducerGroups& groups, const std::shared_ptr<GradOwner>& owner);

/// Throws the same UsageError on every rank unless all want these caps for their
/// plan number `version`. Where a rank has not asked at all, `mark` says what the others
/// do. Collective; blocks.
void check_replan(Communicator& world, const BucketCaps& caps, int64_t version,
                  const BucketMark& mark);

/// A number that no other reducer of the world has, the same on every rank. Collective;
/// blocks.
int32_t agree_on_number(Communicator& world);

/// The plan that rank 0 makes of its order, on every rank: shards of unequal size
/// have the same bucket boundaries. Collective; blocks.
BucketPlan agree_on_plan(Communicator& world, const std::vector<NamedParameter>& parameters,
                         const std::vector<int64_t>& order, const BucketCaps& caps);

}  // namespace isobar
