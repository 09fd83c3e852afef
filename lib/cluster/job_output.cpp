// SPDX-License-Identifier: Apache-2.0
#include <isobar/cluster/job_output.hpp>

#include <algorithm>
#include <fstream>
#include <utility>

namespace isobar {
namespace {

std::string bytes_between(std::ifstream& file, std::int64_t begin, std::int64_t end) {
  std::string bytes(static_cast<std::size_t>(end - begin), '\0');
  file.clear();
  file.seekg(begin).read(bytes.data(), end - begin);
  bytes.resize(static_cast<std::size_t>(file.gcount()));
  return bytes;
}

/// Where the last `count` lines begin; of an output of gigabytes little is read.
std::int64_t start_of_last(std::ifstream& file, std::int64_t size, int count) {
  constexpr std::int64_t kBlock = 1 << 16;
  int ends = 0;
  for (auto end = size; end > 0; end = std::max<std::int64_t>(end - kBlock, 0)) {
    const auto begin = std::max<std::int64_t>(end - kBlock, 0);
    const auto block = bytes_between(file, begin, end);
    for (auto at = static_cast<std::int64_t>(block.size()) - 1; at >= 0; --at) {
      const bool ends_line = block[static_cast<std::size_t>(at)] == '\n' && begin + at < size - 1;
      if (ends_line && ++ends == count) return begin + at + 1;
    }
  }
  return 0;
}

}  // namespace

JobOutput::JobOutput(std::filesystem::path file, int lines)
    : file_(std::move(file)), lines_(lines) {}

std::optional<std::string> JobOutput::read() {
  std::ifstream file(file_, std::ios::binary | std::ios::ate);
  if (!file) return {};
  const auto size = static_cast<std::int64_t>(file.tellg());
  if (place_ < 0) place_ = start_of_last(file, size, lines_);
  auto text = bytes_between(file, place_, std::max(place_, size));
  place_ += static_cast<std::int64_t>(text.size());
  return text;
}

}  // namespace isobar
