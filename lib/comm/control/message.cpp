// SPDX-License-Identifier: Apache-2.0
// Called by whoever holds a connection: the control thread, and before it the thread that makes the
// world. Nothing here is shared. Bytes of a stranger may claim anything: no length is believed
// further than the bytes that have come, and a frame must be used up exactly.
#include "comm/control/message.hpp"

#include <concepts>
#include <type_traits>
#include <utility>

namespace isobar::control {
namespace {

/// "isb" and the version.
constexpr uint32_t kMagic = 0x04627369;
constexpr size_t kHeaderBytes = 8;

class Writer {
 public:
  template <typename... Fields>
  void operator()(const Fields&... fields) {
    (put(fields), ...);
  }

  template <std::integral T>
  void put(T value) {
    for (size_t i = 0; i < sizeof(T); ++i) {
      bytes.push_back(static_cast<char>(static_cast<std::make_unsigned_t<T>>(value) >> (8 * i)));
    }
  }

  void put(const std::string& text) {
    put(static_cast<uint32_t>(text.size()));
    bytes += text;
  }

  template <typename T>
  void put(const std::vector<T>& values) {
    put(static_cast<uint32_t>(values.size()));
    for (const auto& value : values) put(value);
  }

  template <typename T>
  requires std::is_class_v<T>
  void put(const T& value) { T::fields(value, *this); }

  std::string bytes;
};

/// Reads what Writer wrote; false in `good` once something does not fit.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}

  template <typename... Fields>
  void operator()(Fields&... fields) {
    (get(fields), ...);
  }

  template <std::integral T>
  void get(T& value) {
    std::make_unsigned_t<T> bits = 0;
    const auto from = take(sizeof(T));
    for (size_t i = from.size(); i-- > 0;) {
      bits = static_cast<std::make_unsigned_t<T>>(bits << 8 | static_cast<unsigned char>(from[i]));
    }
    value = static_cast<T>(bits);
  }

  void get(std::string& text) {
    uint32_t size = 0;
    get(size);
    text = take(size);
  }

  /// Grows entry by entry: a count that is a lie ends with the bytes.
  template <typename T>
  void get(std::vector<T>& values) {
    uint32_t size = 0;
    get(size);
    for (uint32_t i = 0; i < size && good; ++i) get(values.emplace_back());
  }

  void get(Call& call) {
    Call::fields(call, *this);
    good = good && is_valid(call);
  }

  template <typename T>
  requires std::is_class_v<T>
  void get(T& value) { T::fields(value, *this); }

  bool is_finished() const { return good && bytes_.empty(); }

  bool good = true;

 private:
  std::string_view take(size_t size) {
    good = good && size <= bytes_.size();
    if (!good) return {};
    const auto taken = bytes_.substr(0, size);
    bytes_.remove_prefix(size);
    return taken;
  }

  std::string_view bytes_;
};

template <size_t I = 0>
std::optional<ControlMessage> decode(size_t kind, Reader& reader) {
  if constexpr (I < std::variant_size_v<ControlMessage>) {
    if (kind != I) return decode<I + 1>(kind, reader);
    std::variant_alternative_t<I, ControlMessage> message;
    reader.get(message);
    if (reader.is_finished()) return message;
  }
  return std::nullopt;
}

}  // namespace

std::string encode(const ControlMessage& message) {
  Writer body;
  body.put(static_cast<uint8_t>(message.index()));
  std::visit([&](const auto& m) { body.put(m); }, message);
  Writer frame;
  frame(kMagic, static_cast<uint32_t>(body.bytes.size()));
  return std::move(frame.bytes) + body.bytes;
}

// What has been read goes before more is kept: one frame that has come in part is all that stays.
void FrameReader::append(std::string_view bytes) {
  bytes_.erase(0, std::exchange(read_, 0));
  bytes_ += bytes;
}

std::optional<ControlMessage> FrameReader::next() {
  const auto rest = std::string_view(bytes_).substr(read_);
  if (broken_ || rest.size() < kHeaderBytes) return std::nullopt;
  uint32_t magic = 0;
  uint32_t size = 0;
  uint8_t kind = 0;
  Reader(rest.substr(0, kHeaderBytes))(magic, size);
  // Before its bytes are waited for: a stranger cannot make this end collect what it announces.
  broken_ = magic != kMagic || size > limit_;
  if (broken_ || rest.size() - kHeaderBytes < size) return std::nullopt;
  Reader body(rest.substr(kHeaderBytes, size));
  body.get(kind);
  auto message = decode(kind, body);
  broken_ = !message;
  read_ += kHeaderBytes + size;
  return message;
}

}  // namespace isobar::control
