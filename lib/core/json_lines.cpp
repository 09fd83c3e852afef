// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/record.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "core/file_error.hpp"

namespace isobar {
namespace {

/// Of the first `end` bytes those up to and with the last line end.
off_t end_of_lines(int descriptor, off_t end, const std::filesystem::path& path) {
  std::array<char, 4096> block{};
  while (end > 0) {
    const off_t begin = std::max<off_t>(end - static_cast<off_t>(block.size()), 0);
    const ssize_t read =
        ::pread(descriptor, block.data(), static_cast<std::size_t>(end - begin), begin);
    if (read < 0) detail::throw_file_error("read", path);
    for (ssize_t i = read; i > 0; --i) {
      if (block[static_cast<std::size_t>(i - 1)] == '\n') return begin + i;
    }
    end = begin;
  }
  return 0;
}

void cut_incomplete_line(int descriptor, const std::filesystem::path& path) {
  const off_t size = ::lseek(descriptor, 0, SEEK_END);
  const off_t end = end_of_lines(descriptor, size, path);
  if (end < size && ::ftruncate(descriptor, end) != 0) detail::throw_file_error("write", path);
}

}  // namespace

JsonLines::JsonLines(const std::filesystem::path& path)
    : path_(path),
      descriptor_(::open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666)) {
  if (descriptor_ < 0) detail::throw_file_error("open", path_);
  try {
    cut_incomplete_line(descriptor_, path_);
  } catch (...) {
    ::close(descriptor_);
    throw;
  }
}

JsonLines::~JsonLines() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void JsonLines::append(const nlohmann::json& value) {
  ISOBAR_CHECK(value.is_object(), "JsonLines: a line of ", path_.string(),
               " must be an object, got ", value.type_name());
  const std::string line =
      value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  const off_t begin = ::lseek(descriptor_, 0, SEEK_END);
  const ssize_t written = ::write(descriptor_, line.data(), line.size());
  if (written == static_cast<ssize_t>(line.size())) return;
  if (written >= 0) errno = ENOSPC;
  const int cause = errno;
  // Half a line must not stay: the next one would be glued to it.
  if (written > 0 && ::ftruncate(descriptor_, begin) != 0)
    detail::throw_file_error("restore", path_);
  errno = cause;
  detail::throw_file_error("write", path_);
}

}  // namespace isobar
