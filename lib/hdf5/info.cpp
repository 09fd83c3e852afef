// SPDX-License-Identifier: Apache-2.0
#include <isobar/hdf5/info.hpp>

#include <isobar/hdf5/handle.hpp>
#include <hdf5.h>

#include <utility>

namespace isobar {

Hdf5Info hdf5_info() {
  const Hdf5Session session;
  unsigned major = 0, minor = 0, release = 0;
  H5get_libversion(&major, &minor, &release);
  Hdf5Info info;
  info.version =
      std::to_string(major) + "." + std::to_string(minor) + "." + std::to_string(release);
  const std::pair<const char*, H5Z_filter_t> filters[] = {{"deflate", H5Z_FILTER_DEFLATE},
                                                          {"shuffle", H5Z_FILTER_SHUFFLE},
                                                          {"fletcher32", H5Z_FILTER_FLETCHER32},
                                                          {"szip", H5Z_FILTER_SZIP}};
  for (const auto& [name, filter] : filters) info.filters[name] = H5Zfilter_avail(filter) > 0;
  return info;
}

}  // namespace isobar
