// SPDX-License-Identifier: Apache-2.0
#include <isobar/hdf5/tensors.hpp>

#include <isobar/core/error.hpp>
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/message_of.hpp"
#include "core/temporary_folder.hpp"

namespace isobar::tensors_test {
namespace {

class Tensors : public ::testing::Test {
 protected:
  test::TemporaryFolder folder_;
  std::string path_ = (folder_.path() / "a.h5").string();
};

TEST_F(Tensors, ComeBackInTheirTypesAndShapes) {
  const auto table = at::arange(6, at::kDouble).reshape({2, 3});
  {
    Hdf5TensorWriter file(path_);
    for (const auto type : {at::kFloat, at::kDouble, at::kInt, at::kLong}) {
      file.write(std::string("of/") + at::toString(type), table.to(type));
    }
    file.write("turned", table.t());
    file.write("one", at::scalar_tensor(5, at::kLong));
  }
  const Hdf5Tensors file(path_);
  for (const auto type : {at::kFloat, at::kDouble, at::kInt, at::kLong}) {
    EXPECT_TRUE(file.read(std::string("of/") + at::toString(type)).equal(table.to(type)));
  }
  EXPECT_TRUE(file.read("turned").equal(table.t()));
  EXPECT_EQ(file.read("one").dim(), 0);
  EXPECT_EQ(file.text("format"), "");
}

TEST_F(Tensors, AreFoundByPath) {
  { Hdf5TensorWriter(path_).write("graph/edges", at::ones(2)); }
  const Hdf5Tensors file(path_);
  EXPECT_TRUE(file.has("graph"));
  EXPECT_TRUE(file.has("graph/edges"));
  EXPECT_FALSE(file.has("graph/nodes"));
  EXPECT_FALSE(file.has("mesh/nodes"));
}

TEST_F(Tensors, NameFileAndDataSetOfAnError) {
  {
    Hdf5TensorWriter file(path_);
    EXPECT_NE(test::message_of<DataError>([&] {
                file.write("a", at::ones(2, at::kBool));
              }).find("data set 'a': Bool is not written"),
              std::string::npos);
  }
  const Hdf5Tensors file(path_);
  const auto text = test::message_of<DataError>([&] { file.read("b"); });
  EXPECT_EQ(text.find("'" + path_ + "': data set 'b': "), 0U) << text;
  EXPECT_THROW(Hdf5Tensors(path_ + ".none"), DataError);
}

}  // namespace
}  // namespace isobar::tensors_test
