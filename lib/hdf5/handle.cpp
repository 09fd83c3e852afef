// SPDX-License-Identifier: Apache-2.0
#include <isobar/hdf5/handle.hpp>

#include <isobar/core/error.hpp>

#include <algorithm>

namespace isobar {
namespace {

std::mutex& hdf5_mutex() {
  static std::mutex mutex;
  return mutex;
}

herr_t keep_first(unsigned position, const H5E_error2_t* entry, void* text) {
  if (position == 0 && entry->desc != nullptr) *static_cast<std::string*>(text) = entry->desc;
  return 0;
}

}  // namespace

Hdf5Session::Hdf5Session() : lock_(hdf5_mutex()) {
  H5Eget_auto2(H5E_DEFAULT, &reporter_, &client_);
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}

Hdf5Session::~Hdf5Session() { H5Eset_auto2(H5E_DEFAULT, reporter_, client_); }

std::string hdf5_cause() {
  std::string text;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_first, &text);
  // Failed reads carry a date with a line break in it.
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text.empty() ? "HDF5 gives no cause" : text;
}

Hdf5Handle checked(hid_t id, Hdf5Handle::Closer closer, std::string_view what) {
  if (id < 0) throw DataError(detail::join(what, ": ", hdf5_cause()));
  return {id, closer};
}

void check_status(herr_t status, std::string_view what) {
  if (status < 0) throw DataError(detail::join(what, ": ", hdf5_cause()));
}

}  // namespace isobar
