// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/atomic_file.hpp>
#include <isobar/core/error.hpp>
#include <isobar/train/safetensors.hpp>

#include <ATen/ATen.h>

#include <nlohmann/json.hpp>
#include <algorithm>
#include <bit>
#include <cstring>
#include <set>

#include "train/safetensors_dtype.hpp"
#include "train/safetensors_write.hpp"

namespace isobar {
namespace {

static_assert(std::endian::native == std::endian::little,
              "values are written as they lie in memory, which must be little-endian");

using Named = std::pair<std::string, at::Tensor>;

void check_tensors(const NamedTensors& tensors, const std::string& file) {
  std::set<std::string> names{"__metadata__"};
  for (const auto& [name, tensor] : tensors) {
    ISOBAR_CHECK(names.insert(name).second, "write ", file, ": name '", name,
                 "' is given twice or reserved");
    ISOBAR_CHECK(tensor.defined() && tensor.layout() == at::kStrided, "write ", file, ": tensor '",
                 name, "' is undefined or sparse");
    ISOBAR_CHECK(find_dtype(tensor.scalar_type()) != nullptr, "write ", file, ": tensor '", name,
                 "' has type ", c10::toString(tensor.scalar_type()),
                 ", which safetensors does not know");
  }
}

/// Every length is a multiple of its type's width, so wider types first leaves
/// each tensor aligned.
std::vector<const Named*> body_order(const NamedTensors& tensors) {
  std::vector<const Named*> order;
  for (const Named& named : tensors) order.push_back(&named);
  std::stable_sort(order.begin(), order.end(), [](const Named* a, const Named* b) {
    return a->second.element_size() > b->second.element_size();
  });
  return order;
}

std::string header(const std::vector<const Named*>& order,
                   const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  if (!metadata.empty()) json["__metadata__"] = metadata;
  std::int64_t begin = 0;
  for (const Named* named : order) {
    const at::Tensor& tensor = named->second;
    const std::int64_t end = begin + tensor.numel() * tensor.element_size();
    json[named->first] = {{"dtype", find_dtype(tensor.scalar_type())->name},
                          {"shape", tensor.sizes().vec()},
                          {"data_offsets", {begin, end}}};
    begin = end;
  }
  std::string text = json.dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  return text;
}

std::string header_length(std::uint64_t length) {
  std::string bytes(sizeof length, '\0');
  std::memcpy(bytes.data(), &length, sizeof length);
  return bytes;
}

}  // namespace

FileHash write_and_hash_safetensors(const std::filesystem::path& path, const NamedTensors& tensors,
                                    const std::map<std::string, std::string>& metadata) {
  check_tensors(tensors, path.string());
  const std::vector<const Named*> order = body_order(tensors);
  const std::string text = header(order, metadata);
  AtomicFile file(path);
  RunningHash hash;
  const auto write = [&](std::string_view bytes) {
    file.write(bytes);
    hash.add(bytes);
  };
  write(header_length(text.size()));
  write(text);
  for (const Named* named : order) {
    const at::Tensor values = named->second.detach().cpu().contiguous();
    write({static_cast<const char*>(values.const_data_ptr()), values.nbytes()});
  }
  file.commit();
  return hash.result();
}

void write_safetensors(const std::filesystem::path& path, const NamedTensors& tensors,
                       const std::map<std::string, std::string>& metadata) {
  write_and_hash_safetensors(path, tensors, metadata);
}

}  // namespace isobar
