// SPDX-License-Identifier: Apache-2.0
// Called by load_checkpoint() on every rank, and by whoever reads such a file; on one thread.
//
// The file may come from anywhere, so nothing in it is believed before it is checked: no product of
// lengths may overflow, no memory is asked for that the file does not fill, and the tensors have to
// cover its body without gap or overlap, so that no byte goes unread. Names are given once, and a
// BOOL is 0 or 1.
#include <isobar/core/error.hpp>
#include <isobar/train/safetensors.hpp>

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <limits>
#include <set>
#include <tuple>

#include "train/safetensors_dtype.hpp"

namespace isobar {
namespace {

using nlohmann::json;

// The reference implementation's limit.
constexpr std::uint64_t kLongestHeader = 100'000'000;

struct Entry {
  std::string name;
  const SafetensorsDtype* dtype = nullptr;
  std::vector<std::int64_t> shape;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

class Reader {
 public:
  explicit Reader(const std::filesystem::path& path) : path_(path) {
    errno = 0;
    file_.open(path, std::ios::binary | std::ios::ate);
    if (!file_ || std::filesystem::is_directory(path)) {
      fail(errno != 0 ? std::strerror(errno) : "it is a folder");
    }
    size_ = static_cast<std::uint64_t>(file_.tellg());
    file_.seekg(0);
  }

  SafetensorsContent read() {
    const json header = parse_header(read_header());
    SafetensorsContent content;
    std::vector<Entry> entries;
    for (const auto& [name, value] : header.items()) {
      if (name == "__metadata__") {
        content.metadata = parse_metadata(value);
      } else {
        entries.push_back(parse_entry(name, value));
      }
    }
    check_offsets(entries);
    for (const Entry& entry : entries) content.tensors.emplace_back(entry.name, load(entry));
    return content;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw DataError(fmt::format("cannot read {}: {}", path_.string(), what));
  }

  [[noreturn]] void fail(const std::string& name, const std::string& what) const {
    fail(fmt::format("tensor '{}': {}", name, what));
  }

  void read_bytes(void* to, std::uint64_t bytes) {
    if (!file_.read(static_cast<char*>(to), static_cast<std::streamsize>(bytes))) {
      fail("the file ends or fails while it is read");
    }
  }

  std::string read_header() {
    std::uint64_t length = 0;
    if (size_ < sizeof length) fail(fmt::format("{} bytes are no safetensors file", size_));
    read_bytes(&length, sizeof length);
    if (length > kLongestHeader) {
      fail(fmt::format("a header of {} bytes: this is no safetensors file", length));
    }
    if (length > size_ - sizeof length) {
      fail(fmt::format("truncated: the header has {} bytes, the file {}", length, size_));
    }
    std::string text(length, '\0');
    read_bytes(text.data(), length);
    body_bytes_ = size_ - sizeof length - length;
    return text;
  }

  json parse_header(const std::string& text) const {
    // The parser itself would silently keep the last of two equal names.
    std::vector<std::set<std::string>> names;
    const auto check_names = [&](int, json::parse_event_t event, json& parsed) {
      if (event == json::parse_event_t::object_start) names.emplace_back();
      if (event == json::parse_event_t::object_end) names.pop_back();
      if (event == json::parse_event_t::key && !names.back().insert(parsed).second) {
        fail(fmt::format("name '{}' is given twice", parsed.get<std::string>()));
      }
      return true;
    };
    try {
      json header = json::parse(text, check_names);
      if (!header.is_object()) fail("the header is no JSON object");
      return header;
    } catch (const json::exception&) {
      fail("the header is not valid JSON");
    }
  }

  std::map<std::string, std::string> parse_metadata(const json& value) const {
    try {
      return value.get<std::map<std::string, std::string>>();
    } catch (const json::exception&) {
      fail("__metadata__ must map strings to strings");
    }
  }

  Entry parse_entry(const std::string& name, const json& value) const {
    Entry entry{.name = name, .shape = {}};
    try {
      const auto dtype = value.at("dtype").get<std::string>();
      entry.dtype = find_dtype(dtype);
      if (entry.dtype == nullptr) fail(name, fmt::format("unknown dtype '{}'", dtype));
      for (const json& length : list(value.at("shape"))) {
        entry.shape.push_back(whole_number(length));
      }
      const json& offsets = list(value.at("data_offsets"));
      if (offsets.size() != 2) fail(name, "data_offsets must be two numbers");
      entry.begin = static_cast<std::uint64_t>(whole_number(offsets.at(0)));
      entry.end = static_cast<std::uint64_t>(whole_number(offsets.at(1)));
    } catch (const json::exception&) {
      fail(name, "dtype, shape and data_offsets must be a string and lists of whole numbers");
    }
    check_length(entry);
    return entry;
  }

  // get() would convert strings, signs and fractions; these throw as get() does.
  static const json& list(const json& value) {
    if (!value.is_array()) throw json::type_error::create(302, "not a list", &value);
    return value;
  }

  static std::int64_t whole_number(const json& value) {
    constexpr std::uint64_t kLargest = std::numeric_limits<std::int64_t>::max();
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() > kLargest) {
      throw json::type_error::create(302, "not a whole number", &value);
    }
    return value.get<std::int64_t>();
  }

  void check_length(const Entry& entry) const {
    std::int64_t bytes = entry.dtype->bytes;
    for (const std::int64_t length : entry.shape) {
      if (__builtin_mul_overflow(bytes, length, &bytes)) fail(entry.name, "its shape is too large");
    }
    if (entry.begin > entry.end || entry.end > body_bytes_) {
      fail(entry.name,
           fmt::format("data_offsets [{}, {}] lie outside the file's {} bytes of values "
                       "(truncated?)",
                       entry.begin, entry.end, body_bytes_));
    }
    if (entry.end - entry.begin != static_cast<std::uint64_t>(bytes)) {
      fail(entry.name, fmt::format("data_offsets span {} bytes, but {} of this shape take {}",
                                   entry.end - entry.begin, entry.dtype->name, bytes));
    }
  }

  /// Puts the entries in the order of their values.
  void check_offsets(std::vector<Entry>& entries) const {
    std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
      return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
    });
    std::uint64_t expected = 0;
    for (const Entry& entry : entries) {
      if (entry.begin != expected) {
        fail(entry.name, fmt::format("its values begin at byte {}, those before end at {}",
                                     entry.begin, expected));
      }
      expected = entry.end;
    }
    if (expected != body_bytes_) {
      fail(fmt::format("{} bytes follow the last tensor", body_bytes_ - expected));
    }
  }

  at::Tensor load(const Entry& entry) {
    const bool is_bool = entry.dtype->type == at::kBool;
    at::Tensor tensor = at::empty(entry.shape, is_bool ? at::kByte : entry.dtype->type);
    read_bytes(tensor.data_ptr(), entry.end - entry.begin);
    if (!is_bool) return tensor;
    // A C++ bool that holds anything else is undefined behaviour.
    if (tensor.gt(1).any().item<bool>()) fail(entry.name, "a BOOL is neither 0 nor 1");
    return tensor.view(at::kBool);
  }

  std::filesystem::path path_;
  std::ifstream file_;
  std::uint64_t size_ = 0;
  std::uint64_t body_bytes_ = 0;
};

}  // namespace

SafetensorsContent read_safetensors(const std::filesystem::path& path) {
  return Reader(path).read();
}

}  // namespace isobar
