// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>

namespace isobar {

/// Whole data sets of an HDF5 file as tensors on the CPU.
///
/// Any thread may call any function: each takes the one lock around HDF5 while it reads.
class Hdf5Tensors {
 public:
  /// Opens a file to read. Throws DataError.
  explicit Hdf5Tensors(const std::string& path);
  ~Hdf5Tensors();

  /// Whether there is a data set or a group of that path, such as "graph/edges".
  bool has(const std::string& name) const;

  /// float32, float64, int32 or int64 as they are in the file. Throws DataError naming file and
  /// data set where it is missing or of another type.
  at::Tensor read(const std::string& name) const;

  /// A text attribute of the file, empty where it is absent.
  std::string text(const std::string& attribute) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Writes a new HDF5 file of whole data sets, over an older one of that name. It is complete once
/// this has ended.
class Hdf5TensorWriter {
 public:
  /// Throws DataError.
  explicit Hdf5TensorWriter(const std::string& path);
  ~Hdf5TensorWriter();

  /// A data set, and the groups on its path that are not there yet. Types as for Hdf5Tensors;
  /// from any device, strides as they may be. Throws DataError.
  void write(const std::string& name, const at::Tensor& values);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace isobar
