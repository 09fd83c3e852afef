// SPDX-License-Identifier: Apache-2.0
#include <isobar/hdf5/filters.hpp>

#include <isobar/core/error.hpp>
#include <isobar/hdf5/handle.hpp>
#include <hdf5.h>

#include <array>
#include <utility>

namespace isobar {
namespace {

/// Of the registry at
/// https://github.com/HDFGroup/hdf5_plugins/blob/master/docs/RegisteredFilterPlugins.md
constexpr std::array<std::pair<H5Z_filter_t, const char*>, 9> kFilters = {{
    {H5Z_FILTER_DEFLATE, "deflate"},
    {H5Z_FILTER_SZIP, "szip"},
    {307, "bzip2"},
    {32001, "Blosc"},
    {32004, "LZ4"},
    {32008, "bitshuffle"},
    {32013, "ZFP"},
    {32015, "Zstandard"},
    {32026, "Blosc2"},
}};

std::string filter_name(H5Z_filter_t filter) {
  for (const auto& [number, name] : kFilters) {
    if (number == filter) return detail::join(name, " (filter ", number, ")");
  }
  return detail::join("filter ", filter);
}

}  // namespace

std::string missing_filter(hid_t dataset) {
  const Hdf5Handle layout{H5Dget_create_plist(dataset), H5Pclose};
  const int count = layout ? H5Pget_nfilters(layout.get()) : 0;
  for (int i = 0; i < count; ++i) {
    unsigned flags = 0;
    unsigned config = 0;
    std::size_t values = 0;
    const H5Z_filter_t filter = H5Pget_filter2(layout.get(), static_cast<unsigned>(i), &flags,
                                               &values, nullptr, 0, nullptr, &config);
    if (filter >= 0 && H5Zfilter_avail(filter) <= 0) {
      return "is compressed by " + filter_name(filter) +
             ", which this HDF5 lacks; install its plugin (HDF5_PLUGIN_PATH) or rewrite the file "
             "with nccopy -d 1 -s";
    }
  }
  return {};
}

}  // namespace isobar
