// SPDX-License-Identifier: Apache-2.0
#include "comm/scenarios.hpp"

#include <isobar/comm/thread_world.hpp>
#include <gtest/gtest.h>

#include <string>

namespace isobar::test::scenarios_test {
namespace {

class Backends : public testing::TestWithParam<Scenario> {};

TEST_P(Backends, Behave) {
  GetParam().run(*make_self_communicator());
  for (const int size : {1, 2, 3, 4}) {
    SCOPED_TRACE("threads, world of " + std::to_string(size));
    run_ranks(size, GetParam().run, std::chrono::seconds(20));
  }
}

INSTANTIATE_TEST_SUITE_P(SelfAndThreads, Backends, testing::ValuesIn(scenarios()),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace isobar::test::scenarios_test
