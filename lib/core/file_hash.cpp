// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/file_hash.hpp>

#include <isobar/core/error.hpp>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <vector>

// All of it in this file alone: no library to link, and the compiler's best
// instructions for the machine it builds for.
#define XXH_INLINE_ALL  // NOLINT(readability-identifier-naming): the name is xxHash's
#include <xxhash.h>

namespace isobar {
namespace {

constexpr std::size_t kBlockBytes = 1 << 20;

std::string hexadecimal(XXH128_hash_t hash) {
  static constexpr const char* kDigits = "0123456789abcdef";
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, hash);
  std::string text;
  for (const unsigned char byte : canonical.digest) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

}  // namespace

struct RunningHash::State {
  XXH3_state_t xxh3;
};

RunningHash::RunningHash() : state_(std::make_unique<State>()) {
  XXH3_128bits_reset(&state_->xxh3);
}

RunningHash::~RunningHash() = default;

void RunningHash::add(std::string_view bytes) {
  XXH3_128bits_update(&state_->xxh3, bytes.data(), bytes.size());
  bytes_ += bytes.size();
}

FileHash RunningHash::result() const {
  return {bytes_, hexadecimal(XXH3_128bits_digest(&state_->xxh3))};
}

FileHash hash_file(const std::filesystem::path& path) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  std::vector<char> block(kBlockBytes);
  RunningHash hash;
  while (file) {
    file.read(block.data(), static_cast<std::streamsize>(block.size()));
    hash.add({block.data(), static_cast<std::size_t>(file.gcount())});
  }
  if (!file.eof()) {
    throw DataError(detail::join("cannot read ", path.string(), ": ",
                                 errno != 0 ? std::strerror(errno) : "reading failed"));
  }
  return hash.result();
}

std::string hash_text(std::string_view text) {
  RunningHash hash;
  hash.add(text);
  return hash.result().xxh3_128;
}

std::uint64_t hash_bytes(std::string_view bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

}  // namespace isobar
