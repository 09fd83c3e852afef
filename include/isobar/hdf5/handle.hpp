// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <H5Epublic.h>
#include <H5Ipublic.h>

#include <mutex>
#include <string>
#include <string_view>
#include <utility>

namespace isobar {

/// Held around every use of HDF5, the closing of its handles included.
///
/// Builds of HDF5 without thread safety (Debian's for MPI among them) corrupt
/// their own state when two threads enter, and thread-safe builds have one lock
/// inside anyway: with ours, both kinds behave alike. While held, HDF5's error
/// stack is not printed; the reporter that was set before is put back.
class Hdf5Session {
 public:
  Hdf5Session();
  ~Hdf5Session();
  Hdf5Session(const Hdf5Session&) = delete;
  Hdf5Session& operator=(const Hdf5Session&) = delete;

 private:
  std::unique_lock<std::mutex> lock_;
  H5E_auto2_t reporter_ = nullptr;
  void* client_ = nullptr;
};

/// The innermost entry of HDF5's error stack, on one line.
std::string hdf5_cause();

/// Owns an HDF5 identifier.
class Hdf5Handle {
 public:
  using Closer = herr_t (*)(hid_t);

  Hdf5Handle() = default;
  Hdf5Handle(hid_t id, Closer closer) : id_(id), closer_(closer) {}
  Hdf5Handle(Hdf5Handle&& other) noexcept
      : id_(std::exchange(other.id_, -1)), closer_(other.closer_) {}
  Hdf5Handle& operator=(Hdf5Handle&& other) noexcept {
    std::swap(id_, other.id_);
    std::swap(closer_, other.closer_);
    return *this;
  }
  ~Hdf5Handle() {
    if (id_ >= 0) closer_(id_);
  }

  explicit operator bool() const noexcept { return id_ >= 0; }
  hid_t get() const noexcept { return id_; }

 private:
  hid_t id_ = -1;
  Closer closer_ = nullptr;
};

/// The handle, or DataError "what: cause" if HDF5 gave none.
Hdf5Handle checked(hid_t id, Hdf5Handle::Closer closer, std::string_view what);

/// Throws DataError "what: cause" if HDF5 reported a failure.
void check_status(herr_t status, std::string_view what);

}  // namespace isobar
