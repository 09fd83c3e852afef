// SPDX-License-Identifier: Apache-2.0
#include <isobar/launch/node.hpp>

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <vector>

namespace isobar::test::node_test {
namespace {

TEST(Node, PutsTheLoopbackAddressLast) {
  const auto addresses = own_addresses();
  ASSERT_FALSE(addresses.empty());
  const bool last_is_loopback = addresses.back() == "127.0.0.1" || addresses.back() == "::1";
  EXPECT_TRUE(last_is_loopback) << addresses.back();
}

TEST(Node, HasOneIdentityInAllItsProcesses) {
  const auto own = node_identity();
  const pid_t child = fork();
  if (child == 0) _exit(node_identity() == own ? 0 : 1);
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST(Node, TakesANumericAddressForAName) {
  EXPECT_EQ(addresses_of("127.0.0.1"), std::vector<std::string>{"127.0.0.1"});
  EXPECT_EQ(addresses_of("::1"), std::vector<std::string>{"::1"});
}

}  // namespace
}  // namespace isobar::test::node_test
