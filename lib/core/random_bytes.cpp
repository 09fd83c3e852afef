// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/random_bytes.hpp>

#include <isobar/core/error.hpp>
#include <sys/random.h>

#include <cerrno>
#include <system_error>

namespace isobar {

std::string random_bytes(std::size_t count) {
  std::string bytes(count, '\0');
  for (std::size_t done = 0; done < count;) {
    const auto got = getrandom(bytes.data() + done, count - done, 0);
    if (got < 0 && errno != EINTR) {
      throw Error("no random bytes: " + std::generic_category().message(errno));
    }
    if (got > 0) done += static_cast<std::size_t>(got);
  }
  return bytes;
}

}  // namespace isobar
