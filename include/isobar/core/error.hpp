// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace isobar {

/// Base of every exception that isobar throws. LibTorch's own pass through.
///
/// The message is one line: operation, rank, object, what was got, what was
/// wanted, what to do.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;

  /// True where every rank throws this same error at this same point, so that
  /// nobody waits for anybody and one rank may speak for all.
  bool known_to_all() const noexcept { return known_to_all_; }
  void set_known_to_all() noexcept { known_to_all_ = true; }

 private:
  bool known_to_all_ = false;
};

/// The caller broke a contract: an argument, an option, an order of calls.
class UsageError : public Error {
 public:
  using Error::Error;
};

/// A peer or the wire failed, or ranks disagree. The communicator that threw
/// is unusable afterwards.
class CommError : public Error {
 public:
  using Error::Error;
};

/// A file, a shape or a variable in it is not what was asked for.
class DataError : public Error {
 public:
  using Error::Error;
};

namespace detail {

/// Joins the parts of a message, in the order given, with nothing between.
template <typename... Parts>
std::string join(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

}  // namespace detail
}  // namespace isobar

/// Throws UsageError with the joined message unless `condition` holds.
#define ISOBAR_CHECK(condition, ...)                                   \
  do {                                                                 \
    if (!(condition)) {                                                \
      throw ::isobar::UsageError(::isobar::detail::join(__VA_ARGS__)); \
    }                                                                  \
  } while (false)
