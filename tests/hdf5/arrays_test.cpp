// SPDX-License-Identifier: Apache-2.0
#include <isobar/hdf5/arrays.hpp>

#include <isobar/core/error.hpp>
#include <isobar/hdf5/attribute.hpp>
#include <isobar/hdf5/file.hpp>
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <hdf5.h>

#include "core/message_of.hpp"
#include "core/temporary_folder.hpp"

namespace isobar::arrays_test {
namespace {

WantedArray wanted(at::ScalarType type, std::vector<int64_t> shape) {
  return {.type = type, .shape = std::move(shape), .owner = "a list", .remedy = "make it again"};
}

class Arrays : public ::testing::Test {
 protected:
  Arrays() {
    const Hdf5Session session;
    const auto file = create_file(path_);
    create_group(file.get(), "a");
    hash_ = write_array(file.get(), "a/values", values_);
    write_text(file.get(), "said", "words");
  }

  at::Tensor read(const WantedArray& array) const {
    const Hdf5Session session;
    const auto file = open_to_read(path_, "the list");
    auto [values, hash] = read_array(file.get(), path_, "a/values", array);
    EXPECT_EQ(hash, hash_);
    return values;
  }

  test::TemporaryFolder folder_;
  std::filesystem::path path_ = folder_.path() / "a.h5";
  at::Tensor values_ = at::arange(8, at::kInt).reshape({2, 4});
  std::string hash_;
};

TEST_F(Arrays, ComeBackWithTheirHash) {
  EXPECT_TRUE(read(wanted(at::kInt, {2, 4})).equal(values_));
  EXPECT_TRUE(read(wanted(at::kInt, {-1, 4})).equal(values_));
}

TEST_F(Arrays, AreRefusedInTheOwnersWords) {
  for (const auto& other : {wanted(at::kInt, {4, 2}), wanted(at::kFloat, {2, 4})}) {
    EXPECT_EQ(test::message_of<DataError>([&] { read(other); }),
              path_.string() + ": a/values has another shape or type than a list's");
  }
}

TEST_F(Arrays, AreDamagedWhereTheirBytesAreOthers) {
  {
    const Hdf5Session session;
    const Hdf5Handle file(H5Fopen(path_.c_str(), H5F_ACC_RDWR, H5P_DEFAULT), H5Fclose);
    const Hdf5Handle set(H5Dopen2(file.get(), "a/values", H5P_DEFAULT), H5Dclose);
    const auto others = values_ + 1;
    H5Dwrite(set.get(), H5T_NATIVE_INT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, others.const_data_ptr());
  }
  const auto text = test::message_of<DataError>([&] { read(wanted(at::kInt, {2, 4})); });
  EXPECT_NE(text.find("written were " + hash_ + "; make it again"), std::string::npos) << text;
}

TEST_F(Arrays, LieBesideTexts) {
  const Hdf5Session session;
  const auto file = open_to_read(path_, "the list");
  EXPECT_EQ(read_text(file.get(), "said", "it"), "words");
  EXPECT_THROW(read_text(file.get(), "unsaid", "it"), DataError);
}

}  // namespace
}  // namespace isobar::arrays_test
