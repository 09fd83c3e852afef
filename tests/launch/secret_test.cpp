// SPDX-License-Identifier: Apache-2.0
#include <isobar/launch/secret.hpp>

#include <isobar/core/error.hpp>

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <future>
#include <set>
#include <string>
#include <vector>

#include "launch/scoped_environment.hpp"

namespace isobar::secret_test {
namespace {

namespace fs = std::filesystem;
using test::ScopedEnvironment;
using test::Variables;

/// A folder of its own for each test, gone with it.
class Secret : public testing::Test {
 protected:
  Secret() {
    std::string name = (fs::temp_directory_path() / "isobar-secret-XXXXXX").string();
    folder_ = mkdtemp(name.data());
  }
  ~Secret() override { fs::remove_all(folder_); }

  fs::path file(const std::string& text, mode_t mode) {
    const auto path = folder_ / "own";
    std::ofstream(path) << text;
    chmod(path.c_str(), mode);
    return path;
  }

  Variables at_home() const {
    return {{"XDG_STATE_HOME", (folder_ / "state").string()}, {"TMPDIR", folder_.string()}};
  }

  fs::path folder_;
};

const std::string kLong = "a secret of more than sixteen bytes";

std::string error_of_secret(const LaunchEnvironment& launch = {}) {
  try {
    user_secret(launch);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "none";
}

void expect_contains(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << text;
}

mode_t mode_of(const fs::path& path) {
  struct stat found {};
  return stat(path.c_str(), &found) == 0 ? found.st_mode & 07777 : 0;
}

TEST_F(Secret, IsTheUsersWhereTheEnvironmentSays) {
  const auto path = file("another one in a file\n", 0600);
  {
    const ScopedEnvironment both(
        Variables{{"ISOBAR_SECRET", kLong}, {"ISOBAR_SECRET_FILE", path.string()}});
    EXPECT_EQ(user_secret({}), kLong);
  }
  const ScopedEnvironment by_file(Variables{{"ISOBAR_SECRET_FILE", path.string()}});
  EXPECT_EQ(user_secret({}), "another one in a file");
  EXPECT_EQ(configured_secret(), "another one in a file");
}

TEST_F(Secret, IsRefusedWhereItIsShort) {
  {
    const ScopedEnvironment environment(Variables{{"ISOBAR_SECRET", "hunter2"}});
    const auto text = error_of_secret();
    expect_contains(text, "ISOBAR_SECRET holds 7 bytes, wanted at least 16");
    EXPECT_EQ(text.find("hunter2"), std::string::npos);
  }
  const auto path = file("hunter2", 0600);
  const ScopedEnvironment environment(Variables{{"ISOBAR_SECRET_FILE", path.string()}});
  expect_contains(error_of_secret(), path.string() + " holds 7 bytes");
}

TEST_F(Secret, IsRefusedWhereOthersMayReadItsFile) {
  for (const mode_t mode : {0640, 0604, 0660}) {
    const auto path = file(kLong, mode);
    const ScopedEnvironment environment(Variables{{"ISOBAR_SECRET_FILE", path.string()}});
    expect_contains(error_of_secret(), "others may use file " + path.string());
    expect_contains(error_of_secret(), "run chmod 600 " + path.string());
  }
}

TEST_F(Secret, IsRefusedWhereItsFileIsNone) {
  const ScopedEnvironment environment(
      Variables{{"ISOBAR_SECRET_FILE", (folder_ / "none").string()}});
  expect_contains(error_of_secret(), "none, which is not there");
  setenv("ISOBAR_SECRET_FILE", folder_.c_str(), 1);
  expect_contains(error_of_secret(), folder_.string() + " is no file");
}

TEST_F(Secret, IsMadeOnceAndKept) {
  const ScopedEnvironment environment(at_home());
  const auto secret = user_secret({});
  EXPECT_EQ(secret.size(), 32U);
  EXPECT_EQ(user_secret({}), secret);
  EXPECT_EQ(mode_of(folder_ / "state/isobar"), 0700U);
  EXPECT_EQ(mode_of(folder_ / "state/isobar/secret"), 0600U);
  EXPECT_EQ(configured_secret(), std::nullopt);
}

TEST_F(Secret, IsOneForAllWhoComeAtOnce) {
  for (int round = 0; round < 20; ++round) {
    auto variables = at_home();
    variables["XDG_STATE_HOME"] = (folder_ / std::to_string(round)).string();
    const ScopedEnvironment environment(variables);
    std::vector<std::future<std::string>> ranks;
    for (int r = 0; r < 8; ++r) {
      ranks.push_back(std::async(std::launch::async, [] { return user_secret({}); }));
    }
    std::set<std::string> secrets;
    for (auto& rank : ranks) secrets.insert(rank.get());
    EXPECT_EQ(secrets.size(), 1U);
    const fs::directory_iterator left(folder_ / std::to_string(round) / "isobar");
    EXPECT_EQ(std::distance(begin(left), end(left)), 1);
  }
}

TEST_F(Secret, DiffersFromAnotherUsers) {
  const ScopedEnvironment environment(at_home());
  const auto secret = user_secret({});
  setenv("XDG_STATE_HOME", (folder_ / "other").c_str(), 1);
  EXPECT_NE(user_secret({}), secret);
}

TEST_F(Secret, IsRefusedWhereOthersMayUseItsPlace) {
  const ScopedEnvironment environment(at_home());
  user_secret({});
  const auto folder = folder_ / "state/isobar";
  chmod((folder / "secret").c_str(), 0644);
  expect_contains(error_of_secret(), "others may use file " + (folder / "secret").string());
  chmod(folder.c_str(), 0755);
  expect_contains(error_of_secret(), "run chmod 700 " + folder.string());
}

TEST_F(Secret, IsRefusedWhereItIsAnotherUsers) {
  if (geteuid() != 0) return;  // only root can give a file away
  const auto path = file(kLong, 0600);
  ASSERT_EQ(chown(path.c_str(), 12345, 12345), 0);
  const ScopedEnvironment environment(Variables{{"ISOBAR_SECRET_FILE", path.string()}});
  expect_contains(error_of_secret(), "belongs to user 12345, wanted 0");
}

TEST_F(Secret, OfADamagedFileSaysWhatToDo) {
  const ScopedEnvironment environment(at_home());
  user_secret({});
  std::ofstream(folder_ / "state/isobar/secret") << "short";
  expect_contains(error_of_secret(), "does not hold 32 bytes; remove it");
}

TEST_F(Secret, WithoutAHomeLiesInATemporaryFolderOfOneNode) {
  const ScopedEnvironment environment(
      Variables{{"XDG_STATE_HOME", "/proc"}, {"TMPDIR", folder_.string()}});
  const LaunchEnvironment one_node{.size = 4, .local_size = 4};
  EXPECT_EQ(user_secret(one_node), user_secret(one_node));
  EXPECT_EQ(mode_of(folder_ / ("isobar-" + std::to_string(geteuid()))), 0700U);
  const auto text = error_of_secret({.rank = 1, .size = 4, .local_size = 2});
  expect_contains(text, "secret on rank 1 of 4: no place for what the ranks know each other by");
  expect_contains(text, "set ISOBAR_SECRET_FILE");
  // By hand without LOCAL_WORLD_SIZE the last rank alone takes the node for its world's.
  expect_contains(error_of_secret({.launcher = "torchrun", .rank = 1, .size = 2, .local_size = 2}),
                  "no place for what the ranks know each other by");
}

}  // namespace
}  // namespace isobar::secret_test
