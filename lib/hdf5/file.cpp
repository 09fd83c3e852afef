// SPDX-License-Identifier: Apache-2.0
#include <isobar/hdf5/file.hpp>

#include <hdf5.h>

namespace isobar {
namespace {

/// Nobody else has the file, and parallel file systems mounted without flock refuse to lock.
Hdf5Handle unlocked_access(const std::filesystem::path& path) {
  Hdf5Handle access = checked(H5Pcreate(H5P_FILE_ACCESS), H5Pclose, path.string());
  check_status(H5Pset_file_locking(access.get(), false, true), path.string());
  return access;
}

}  // namespace

Hdf5Handle undated(hid_t kind) {
  Hdf5Handle creation = checked(H5Pcreate(kind), H5Pclose, "creation");
  check_status(H5Pset_obj_track_times(creation.get(), false), "creation");
  return creation;
}

Hdf5Handle create_file(const std::filesystem::path& path) {
  const Hdf5Handle access = unlocked_access(path);
  // The latest format has checksums in its metadata.
  check_status(H5Pset_libver_bounds(access.get(), H5F_LIBVER_LATEST, H5F_LIBVER_LATEST),
               path.string());
  const Hdf5Handle creation = undated(H5P_FILE_CREATE);
  return checked(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, creation.get(), access.get()), H5Fclose,
                 path.string() + ": cannot be written as HDF5");
}

void create_group(hid_t file, const std::string& name) {
  const Hdf5Handle creation = undated(H5P_GROUP_CREATE);
  checked(H5Gcreate2(file, name.c_str(), H5P_DEFAULT, creation.get(), H5P_DEFAULT), H5Gclose, name);
}

Hdf5Handle open_to_read(const std::filesystem::path& path, std::string_view what) {
  const Hdf5Handle access = unlocked_access(path);
  return checked(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.get()), H5Fclose, what);
}

}  // namespace isobar
