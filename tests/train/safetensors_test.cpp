// SPDX-License-Identifier: Apache-2.0
#include <isobar/train/safetensors.hpp>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <isobar/core/error.hpp>
#include <cstdint>
#include <cstring>

#include "core/message_of.hpp"
#include "core/temporary_folder.hpp"

namespace isobar::safetensors_test {
namespace {

using test::message_of;

/// Length, header and values of a file, joined.
std::string file_of(const std::string& header, const std::string& values) {
  const std::uint64_t length = header.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + header + values;
}

class SafetensorsTest : public testing::Test {
 protected:
  /// What the reader says of a file with these bytes, after the file's name.
  std::string error_of(const std::string& bytes) {
    test::write_file(path, bytes);
    const std::string message = message_of<DataError>([&] { read_safetensors(path); });
    const std::string start = "cannot read " + path.string() + ": ";
    return message.rfind(start, 0) == 0 ? message.substr(start.size()) : message;
  }

  test::TemporaryFolder folder;
  std::filesystem::path path = folder / "a.safetensors";
};

TEST_F(SafetensorsTest, WritesTheFormatByteForByte) {
  const at::Tensor bytes = at::tensor({1, 2, 3}, at::kByte);
  const at::Tensor floats = at::tensor({1.0F, -2.0F});
  write_safetensors(path, {{"b", bytes}, {"w", floats.view({2, 1})}}, {{"step", "7"}});
  const std::string header = R"({"__metadata__":{"step":"7"},)"
                             R"("w":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},)"
                             R"("b":{"dtype":"U8","shape":[3],"data_offsets":[8,11]}})";
  const std::string padded = header + std::string((8 - header.size() % 8) % 8, ' ');
  const std::string values("\x00\x00\x80\x3f\x00\x00\x00\xc0\x01\x02\x03", 11);
  EXPECT_EQ(test::read_file(path), file_of(padded, values));
}

TEST_F(SafetensorsTest, ReadsEveryTypeBackBitwise) {
  NamedTensors tensors;
  for (const auto type : {at::kDouble, at::kFloat, at::kHalf, at::kBFloat16, at::kLong, at::kInt,
                          at::kShort, at::kChar, at::kByte, at::kBool}) {
    tensors.emplace_back(c10::toString(type), at::arange(6).view({2, 3}).to(type));
  }
  write_safetensors(path, tensors);
  const SafetensorsContent content = read_safetensors(path);
  ASSERT_EQ(content.tensors.size(), tensors.size());
  for (const auto& [name, tensor] : content.tensors) {
    const at::Tensor wanted = at::arange(6).view({2, 3}).to(tensor.scalar_type());
    EXPECT_EQ(name, c10::toString(tensor.scalar_type()));
    EXPECT_TRUE(at::equal(tensor, wanted)) << name;
  }
}

TEST_F(SafetensorsTest, KeepsNotANumberBitwise) {
  const at::Tensor odd = at::tensor({0x7ff8000000000123, 0x7ff0000000000001}).view(at::kDouble);
  write_safetensors(path, {{"odd", odd}});
  const at::Tensor read = read_safetensors(path).tensors.at(0).second;
  EXPECT_TRUE(at::equal(read.view(at::kLong), odd.view(at::kLong)));
}

TEST_F(SafetensorsTest, WritesViewsScalarsAndEmptyTensors) {
  const at::Tensor matrix = at::arange(6, at::kFloat).view({2, 3});
  write_safetensors(path,
                    {{"t", matrix.t()}, {"s", at::scalar_tensor(5)}, {"e", at::empty({0, 4})}},
                    {{"note", "a \"b\"\n\xc3\xa9"}});
  const SafetensorsContent content = read_safetensors(path);
  EXPECT_EQ(content.metadata.at("note"), "a \"b\"\n\xc3\xa9");
  std::map<std::string, at::Tensor> tensors(content.tensors.begin(), content.tensors.end());
  EXPECT_TRUE(at::equal(tensors.at("t"), matrix.t()));
  EXPECT_EQ(tensors.at("s").dim(), 0);
  EXPECT_EQ(tensors.at("e").sizes(), (at::IntArrayRef{0, 4}));
}

TEST_F(SafetensorsTest, ReadsAndWritesAFileWithoutTensors) {
  write_safetensors(path, {});
  EXPECT_TRUE(read_safetensors(path).tensors.empty());
}

TEST_F(SafetensorsTest, RefusesToWriteWhatTheFormatCannotHold) {
  const at::Tensor a = at::zeros({1});
  EXPECT_THROW(write_safetensors(path, {{"a", a}, {"a", a}}), UsageError);
  EXPECT_THROW(write_safetensors(path, {{"__metadata__", a}}), UsageError);
  EXPECT_THROW(write_safetensors(path, {{"a", at::Tensor()}}), UsageError);
  EXPECT_THROW(write_safetensors(path, {{"a", a.to_sparse()}}), UsageError);
  EXPECT_THROW(write_safetensors(path, {{"a", a.to(at::kComplexFloat)}}), UsageError);
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST_F(SafetensorsTest, FindsEveryTruncation) {
  write_safetensors(path, {{"a", at::ones({2})}, {"b", at::ones({3}, at::kByte)}});
  const std::string whole = test::read_file(path);
  for (std::size_t length = 0; length < whole.size(); ++length) {
    EXPECT_NE(error_of(whole.substr(0, length)), "nothing thrown") << length;
  }
  EXPECT_EQ(error_of(whole.substr(0, whole.size() - 1)),
            "tensor 'b': data_offsets [8, 11] lie outside the file's 10 bytes of values "
            "(truncated?)");
}

TEST_F(SafetensorsTest, NamesWhatIsWrongWithTheWholeFile) {
  EXPECT_EQ(error_of("abc"), "3 bytes are no safetensors file");
  EXPECT_EQ(error_of("\x89HDF\r\n\x1a\n"),
            "a header of 727905341903489161 bytes: this is no safetensors file");
  EXPECT_EQ(error_of(file_of("{\"a\":", "")), "the header is not valid JSON");
  EXPECT_EQ(error_of(file_of("[]", "")), "the header is no JSON object");
  EXPECT_EQ(error_of(file_of("{}", "xy")), "2 bytes follow the last tensor");
  EXPECT_EQ(error_of(file_of(R"({"__metadata__":{"a":1}})", "")),
            "__metadata__ must map strings to strings");
}

TEST_F(SafetensorsTest, NamesATensorGivenTwice) {
  const std::string entry = R"("a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  EXPECT_EQ(error_of(file_of("{" + entry + "," + entry + "}", "")), "name 'a' is given twice");
}

TEST_F(SafetensorsTest, NamesTheTensorWhoseEntryIsWrong) {
  const auto error_of_entry = [&](const std::string& entry) {
    return error_of(file_of("{\"a\":{" + entry + "}}", "1234"));
  };
  EXPECT_EQ(error_of_entry(R"("dtype":"F8","shape":[4],"data_offsets":[0,4])"),
            "tensor 'a': unknown dtype 'F8'");
  EXPECT_EQ(error_of_entry(R"("dtype":"F32","shape":[2],"data_offsets":[0,4])"),
            "tensor 'a': data_offsets span 4 bytes, but F32 of this shape take 8");
  EXPECT_EQ(error_of_entry(R"("dtype":"U8","shape":[4],"data_offsets":[4,0])"),
            "tensor 'a': data_offsets [4, 0] lie outside the file's 4 bytes of values "
            "(truncated?)");
  EXPECT_EQ(error_of_entry(R"("dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0])"),
            "tensor 'a': its shape is too large");
  EXPECT_EQ(error_of_entry(R"("dtype":"BOOL","shape":[4],"data_offsets":[0,4])"),
            "tensor 'a': a BOOL is neither 0 nor 1");
}

TEST_F(SafetensorsTest, RefusesEntriesOfAnotherForm) {
  for (const char* entry :
       {R"("shape":[4],"data_offsets":[0,4])", R"("dtype":"U8","shape":4,"data_offsets":[0,4])",
        R"("dtype":"U8","shape":[-4],"data_offsets":[0,4])",
        R"("dtype":"U8","shape":[4.5],"data_offsets":[0,4])",
        R"("dtype":"U8","shape":[4],"data_offsets":["0","4"])",
        R"("dtype":"U8","shape":[4],"data_offsets":[0,18446744073709551615])"}) {
    EXPECT_EQ(error_of(file_of("{\"a\":{" + std::string(entry) + "}}", "1234")),
              "tensor 'a': dtype, shape and data_offsets must be a string and lists of whole "
              "numbers")
        << entry;
  }
}

TEST_F(SafetensorsTest, RefusesOverlapsAndGaps) {
  const auto error_of_offsets = [&](const std::string& a, const std::string& b) {
    const std::string entry = R"(":{"dtype":"U8","shape":[2],"data_offsets":)";
    return error_of(file_of("{\"a" + entry + a + "},\"b" + entry + b + "}}", "12345"));
  };
  EXPECT_EQ(error_of_offsets("[0,2]", "[1,3]"),
            "tensor 'b': its values begin at byte 1, those before end at 2");
  EXPECT_EQ(error_of_offsets("[3,5]", "[0,2]"),
            "tensor 'a': its values begin at byte 3, those before end at 2");
  EXPECT_EQ(error_of_offsets("[0,2]", "[2,4]"), "1 bytes follow the last tensor");
}

TEST_F(SafetensorsTest, NamesAFileThatIsMissing) {
  EXPECT_EQ(message_of<DataError>([&] { read_safetensors(path); }),
            "cannot read " + path.string() + ": No such file or directory");
  EXPECT_EQ(message_of<DataError>([&] { read_safetensors(folder.path()); }),
            "cannot read " + folder.path().string() + ": it is a folder");
}

}  // namespace
}  // namespace isobar::safetensors_test
