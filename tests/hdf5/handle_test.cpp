// SPDX-License-Identifier: Apache-2.0
#include <isobar/hdf5/handle.hpp>

#include <isobar/core/error.hpp>
#include <gtest/gtest.h>
#include <hdf5.h>

#include <atomic>
#include <thread>

#include "core/message_of.hpp"

namespace isobar::handle_test {
namespace {

int closed = 0;

herr_t count_closing(hid_t) { return ++closed, 0; }

TEST(Hdf5Handle, IsClosedOnceByItsLastOwner) {
  closed = 0;
  {
    Hdf5Handle first(7, count_closing);
    Hdf5Handle second = std::move(first);
    EXPECT_FALSE(first);
    EXPECT_EQ(second.get(), 7);
    first = std::move(second);
    EXPECT_EQ(closed, 0);
  }
  EXPECT_EQ(closed, 1);
}

TEST(Hdf5Handle, SaysWhatFailedAndHdf5sCause) {
  const Hdf5Session session;
  const auto open = [] {
    checked(H5Fopen("no/such/file.h5", H5F_ACC_RDONLY, H5P_DEFAULT), H5Fclose, "the file");
  };
  const std::string text = test::message_of<DataError>(open);
  EXPECT_EQ(text.find("the file: "), 0U) << text;
  EXPECT_NE(text.find("No such file"), std::string::npos) << text;
  EXPECT_EQ(text.find('\n'), std::string::npos) << text;
}

herr_t report_nothing(hid_t, void*) { return 0; }

TEST(Hdf5Session, PutsTheReporterBack) {
  H5E_auto2_t before = nullptr;
  void* client = nullptr;
  H5Eget_auto2(H5E_DEFAULT, &before, &client);
  H5Eset_auto2(H5E_DEFAULT, report_nothing, nullptr);
  H5E_auto2_t found = report_nothing;
  {
    const Hdf5Session session;
    H5Eget_auto2(H5E_DEFAULT, &found, nullptr);
    EXPECT_EQ(found, nullptr);
  }
  H5Eget_auto2(H5E_DEFAULT, &found, nullptr);
  EXPECT_EQ(found, &report_nothing);
  H5Eset_auto2(H5E_DEFAULT, before, client);
}

TEST(Hdf5Session, LetsOneThreadInAtATime) {
  std::atomic<bool> entered{false};
  std::thread other;
  {
    const Hdf5Session session;
    other = std::thread([&] {
      const Hdf5Session own;
      entered = true;
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    EXPECT_FALSE(entered);
  }
  other.join();
  EXPECT_TRUE(entered);
}

}  // namespace
}  // namespace isobar::handle_test
