// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/atomic_file.hpp>

#include <gtest/gtest.h>

#include <sys/stat.h>
#include <fcntl.h>
#include <unistd.h>

#include <isobar/core/error.hpp>
#include <algorithm>
#include <iterator>

#include "core/message_of.hpp"
#include "core/temporary_folder.hpp"

namespace isobar::atomic_file_test {
namespace {

using test::read_file;
using test::TemporaryFolder;

std::ptrdiff_t files_in(const TemporaryFolder& folder) {
  return std::distance(std::filesystem::directory_iterator(folder.path()), {});
}

TEST(AtomicFile, ReplacesAFileWithTheWholeOfTheNewOne) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "a", "old and long");
  write_file_atomically(folder / "a", std::string_view("new\0x", 5));
  EXPECT_EQ(read_file(folder / "a"), std::string("new\0x", 5));
  EXPECT_EQ(files_in(folder), 1);
}

TEST(AtomicFile, LeavesLinksAndReplacesWhatTheyName) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "a", "old");
  std::filesystem::create_symlink("a", folder / "link");
  write_file_atomically(folder / "link", "new");
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "link"));
  EXPECT_EQ(read_file(folder / "a"), "new");
}

TEST(AtomicFile, WritesToAPipeAndLeavesItOne) {
  const TemporaryFolder folder;
  const auto path = folder / "pipe";
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  const int reader = ::open(path.c_str(), O_RDONLY | O_NONBLOCK);
  write_file_atomically(path, "new");
  std::string read(8, ' ');
  read.resize(std::max<ssize_t>(0, ::read(reader, read.data(), read.size())));
  ::close(reader);
  EXPECT_EQ(read, "new");
  EXPECT_TRUE(std::filesystem::is_fifo(path));
  EXPECT_NE(test::message_of<UsageError>([&] { AtomicFile file(path); }).find("name a file"),
            std::string::npos);
}

TEST(AtomicFile, SaysThatADeviceIsFull) {
  EXPECT_NE(test::message_of<Error>([] {
              write_file_atomically("/dev/full", "new");
            }).find("No space left"),
            std::string::npos);
  EXPECT_TRUE(std::filesystem::is_character_file("/dev/full"));
}

TEST(AtomicFile, LeavesTheOldFileUntilItIsCommitted) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "a", "old");
  AtomicFile file(folder / "a");
  file.write("ne");
  file.write("w");
  EXPECT_EQ(read_file(folder / "a"), "old");
  file.commit();
  EXPECT_EQ(read_file(folder / "a"), "new");
}

TEST(AtomicFile, LeavesNothingBehindWhenItIsNotCommitted) {
  const TemporaryFolder folder;
  { AtomicFile(folder / "a").write("half"); }
  EXPECT_EQ(files_in(folder), 0);
}

TEST(AtomicFile, LetsTwoWritersOfOneNameLiveAtOnce) {
  const TemporaryFolder folder;
  AtomicFile first(folder / "a"), second(folder / "a");
  first.write("first");
  second.write("second");
  second.commit();
  first.commit();
  EXPECT_EQ(read_file(folder / "a"), "first");
  EXPECT_EQ(files_in(folder), 1);
}

TEST(AtomicFile, RefusesToWriteAfterTheCommit) {
  const TemporaryFolder folder;
  AtomicFile file(folder / "a");
  file.commit();
  EXPECT_THROW(file.write("x"), UsageError);
  EXPECT_THROW(file.commit(), UsageError);
}

TEST(AtomicFile, NamesPathAndCauseOfAFailure) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "b");
  EXPECT_EQ(test::message_of<Error>([&] { write_file_atomically(folder / "no/a", "x"); }),
            "cannot write " + (folder / "no/a").string() + ": No such file or directory");
  EXPECT_EQ(test::message_of<Error>([&] { write_file_atomically(folder / "b", "x"); }),
            "cannot write " + (folder / "b").string() + ": Is a directory");
  EXPECT_EQ(files_in(folder), 1);
}

}  // namespace
}  // namespace isobar::atomic_file_test
