// SPDX-License-Identifier: Apache-2.0
// Called by whoever holds a connection: the control thread, and before it the thread that makes the
// world. Nothing here is shared. Bytes of a stranger may claim anything: no length is believed
// further than the bytes that have come, and a frame must be used up exactly.
#include "comm/control/message.hpp"

#include <algorithm>
#include <array>
#include <concepts>
#include <type_traits>
#include <utility>

namespace isobar::control {
namespace {

/// "isb", and the version above it.
constexpr uint32_t kName = 0x00627369;
constexpr uint32_t kMagic = kName | uint32_t{kVersion} << 24;
constexpr size_t kHeaderBytes = 8;

template <typename M, size_t I = 0>
constexpr size_t kind_of() {
  if constexpr (std::is_same_v<M, std::variant_alternative_t<I, ControlMessage>>) {
    return I;
  } else {
    return kind_of<M, I + 1>();
  }
}

/// How many bytes a message of a kind may have from whom one hears; what is not listed may not
/// come.
struct Allowed {
  Hears from;
  size_t kind;
  size_t bytes;
};

constexpr size_t kNoFields = 1;
/// Who is not known sends fields of fixed length.
constexpr size_t kResponse = 128;
/// A name of a host, and the beginning of a command line.
constexpr size_t kHello = 1024;
constexpr size_t kText = 256 << 10;
constexpr size_t kValue = 1 << 20;

constexpr Allowed kAllowed[] = {
    {Hears::newcomer, kind_of<Response>(), kResponse},
    {Hears::known, kind_of<Hello>(), kHello},
    {Hears::member, kind_of<Alive>(), kNoFields},
    {Hears::member, kind_of<Report>(), kValue},
    {Hears::member, kind_of<Suspicion>(), kText},
    {Hears::member, kind_of<Verdict>(), kText},
    {Hears::member, kind_of<Goodbye>(), kText},
    {Hears::member, kind_of<Contribution>(), kRoundBytes + kResponse},
    {Hears::member, kind_of<Stored>(), kValue},
    {Hears::member, kind_of<Wanted>(), kHello},
    {Hears::unproven, kind_of<Challenge>(), kResponse},
    {Hears::unproven, kind_of<Accepted>(), kResponse},
    {Hears::unproven, kind_of<Unknown>(), kNoFields},
    {Hears::rank_0, kind_of<Welcome>(), kHello},
    {Hears::rank_0, kind_of<Refused>(), kText},
    {Hears::rank_0, kind_of<Alive>(), kNoFields},
    {Hears::rank_0, kind_of<Probe>(), kNoFields},
    {Hears::rank_0, kind_of<Verdict>(), kText},
    {Hears::rank_0, kind_of<Goodbye>(), kText},
    {Hears::rank_0, kind_of<Gathered>(), kMessageBytes},
    {Hears::rank_0, kind_of<Found>(), kValue},
};

size_t allowed_bytes(Hears from, size_t kind) {
  for (const auto& allowed : kAllowed) {
    if (allowed.from == from && allowed.kind == kind) return allowed.bytes;
  }
  return 0;
}

/// A call's fields in their order.
constexpr size_t kCallFields = 11;
using CallNumbers = std::array<int64_t, kCallFields>;

CallNumbers numbers_of(const Call& call) {
  CallNumbers numbers{};
  Call::fields(call, [&](const auto&... fields) {
    static_assert(sizeof...(fields) == kCallFields);
    size_t i = 0;
    ((numbers[i++] = static_cast<int64_t>(fields)), ...);
  });
  return numbers;
}

/// False where they are no call's.
bool set_numbers(Call& call, const CallNumbers& numbers) {
  bool fits = true;
  size_t i = 0;
  const auto set = [&](auto& field) {
    field = static_cast<std::remove_reference_t<decltype(field)>>(numbers[i]);
    fits = fits && static_cast<int64_t>(field) == numbers[i++];
  };
  Call::fields(call, [&](auto&... fields) { (set(fields), ...); });
  return fits && is_valid(call);
}

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

  void put(const Digest& digest) { bytes.append(digest.begin(), digest.end()); }

  /// Of each what differs from the one before: a step's calls are the last one's but for a number
  /// or two, and a rank reports hundreds.
  void put(const std::vector<Call>& calls) {
    put(static_cast<uint32_t>(calls.size()));
    auto last = numbers_of({});
    for (const auto& call : calls) {
      const auto numbers = numbers_of(call);
      uint16_t changed = 0;
      for (size_t i = 0; i < kCallFields; ++i) {
        changed = static_cast<uint16_t>(changed | (numbers[i] != last[i]) << i);
      }
      put(changed);
      for (size_t i = 0; i < kCallFields; ++i) {
        if (changed >> i & 1)
          put_difference(static_cast<uint64_t>(numbers[i]) - static_cast<uint64_t>(last[i]));
      }
      last = numbers;
    }
  }

  /// Small ones of either sign in one byte.
  void put_difference(uint64_t difference) {
    auto rest = difference << 1 ^ (difference >> 63 ? ~uint64_t{0} : 0);
    for (; rest >= 0x80; rest >>= 7) bytes.push_back(static_cast<char>(rest | 0x80));
    bytes.push_back(static_cast<char>(rest));
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

  void get(Digest& digest) {
    const auto from = take(digest.size());
    std::copy(from.begin(), from.end(), digest.begin());
  }

  /// Grows entry by entry: a count that is a lie ends with the bytes.
  template <typename T>
  void get(std::vector<T>& values) {
    uint32_t size = 0;
    get(size);
    for (uint32_t i = 0; i < size && good; ++i) get(values.emplace_back());
  }

  void get(std::vector<Call>& calls) {
    uint32_t size = 0;
    get(size);
    auto numbers = numbers_of({});
    for (uint32_t i = 0; i < size && good; ++i) {
      uint16_t changed = 0;
      get(changed);
      good = good && changed >> kCallFields == 0;
      for (size_t field = 0; field < kCallFields; ++field) {
        if (changed >> field & 1) {
          numbers[field] =
              static_cast<int64_t>(static_cast<uint64_t>(numbers[field]) + difference());
        }
      }
      good = good && set_numbers(calls.emplace_back(), numbers);
    }
  }

  uint64_t difference() {
    uint64_t rest = 0;
    for (int shift = 0; shift < 70; shift += 7) {
      const auto byte = take(1);
      if (!good) return 0;
      const auto bits = static_cast<uint64_t>(static_cast<unsigned char>(byte[0]));
      rest |= (bits & 0x7f) << std::min(shift, 63);
      if (bits < 0x80) return rest >> 1 ^ (rest & 1 ? ~uint64_t{0} : 0);
    }
    good = false;
    return 0;
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

std::string shortened(const std::string& text) {
  constexpr size_t kMost = kText / 2;
  return text.size() <= kMost ? text : text.substr(0, kMost) + "...";
}

std::optional<ControlMessage> FrameReader::next() {
  const auto rest = std::string_view(bytes_).substr(read_);
  if (broken_ || rest.size() <= kHeaderBytes) return std::nullopt;
  uint32_t magic = 0;
  uint32_t size = 0;
  uint8_t kind = 0;
  Reader(rest.substr(0, kHeaderBytes + 1))(magic, size, kind);
  // Before its bytes are waited for: a stranger cannot make this end collect what it announces.
  broken_ = magic != kMagic || size == 0 || size > allowed_bytes(hears_, kind);
  if ((magic & 0xffffff) == kName && magic != kMagic)
    other_version_ = static_cast<int>(magic >> 24);
  if (broken_ || rest.size() - kHeaderBytes < size) return std::nullopt;
  Reader body(rest.substr(kHeaderBytes + 1, size - 1));
  auto message = decode(kind, body);
  broken_ = !message;
  read_ += kHeaderBytes + size;
  return message;
}

}  // namespace isobar::control
