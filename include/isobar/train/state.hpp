// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/train/safetensors.hpp>

#include <cstdint>
#include <map>
#include <string>
#include <variant>

namespace isobar {

/// A value of a state that is no tensor; reals keep every bit, NaN and
/// infinities too.
using StateScalar = std::variant<std::int64_t, double, std::string>;

/// What one part of a run has to remember: tensors and scalars under keys.
///
/// Tensors are shared, not copied: whoever puts one in leaves it unchanged until
/// the state is saved, whoever takes one out copies it into place.
class StateDict {
 public:
  /// Throws UsageError where the key is taken, by a tensor or a scalar.
  void put(const std::string& key, at::Tensor value);
  void put_scalar(const std::string& key, StateScalar value);

  bool has(const std::string& key) const;

  /// These throw DataError where the key is missing or holds another kind.
  at::Tensor tensor(const std::string& key) const;
  std::int64_t integer(const std::string& key) const;
  double real(const std::string& key) const;
  std::string text(const std::string& key) const;

  /// In the order in which they were put.
  const NamedTensors& tensors() const noexcept { return tensors_; }
  const std::map<std::string, StateScalar>& scalars() const noexcept { return scalars_; }

 private:
  template <typename T>
  T scalar(const std::string& key, const char* kind) const;

  NamedTensors tensors_;
  std::map<std::string, StateScalar> scalars_;
};

/// A part of a run that a checkpoint holds: model, optimizer, sampler, ...
///
/// The version counts the layouts of the part's state. Code reads the states of
/// its own version and of all before it; a newer one is refused before load() is
/// called.
class Stateful {
 public:
  virtual ~Stateful() = default;

  /// Names the part in the checkpoint and its file: small letters, digits and
  /// '_', the same for the life of the object.
  virtual std::string name() const = 0;
  /// From 1.
  virtual int version() const = 0;
  virtual void save(StateDict& state) const = 0;
  /// Takes over a state that was saved at `version`, at most version(). Throws
  /// DataError, having changed nothing, where it does not fit.
  virtual void load(const StateDict& state, int version) = 0;
};

}  // namespace isobar
