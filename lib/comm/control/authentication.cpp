// SPDX-License-Identifier: Apache-2.0
// HMAC-SHA256 of OpenSSL's libcrypto. What is hashed has fields of fixed length but for the last,
// so no two sets of them have one encoding.
#include "comm/control/authentication.hpp"

#include <isobar/core/error.hpp>
#include <isobar/core/random_bytes.hpp>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <utility>
#include <variant>

namespace isobar::control {
namespace {

/// Neither a key nor a proof of this protocol is one of another's.
constexpr auto kKeyOf = "isobar job ";
constexpr auto kProofOf = "isobar control connection ";

Digest hash(const std::string& key, const std::string& text) {
  Digest digest{};
  unsigned int size = 0;
  const auto* bytes = reinterpret_cast<const unsigned char*>(text.data());
  const bool is_made = HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), bytes,
                            text.size(), digest.data(), &size) != nullptr;
  if (!is_made || size != digest.size()) throw Error("HMAC-SHA256: libcrypto has none");
  return digest;
}

void append(std::string& text, const Digest& bytes) { text.append(bytes.begin(), bytes.end()); }

void append(std::string& text, int number) {
  for (int shift = 0; shift < 32; shift += 8) {
    text += static_cast<char>(static_cast<uint32_t>(number) >> shift);
  }
}

}  // namespace

Credentials credentials_of(const ControlOptions& options, int port) {
  const auto key = hash(options.secret, kKeyOf + options.token);
  return {.key = {key.begin(), key.end()},
          .token = options.token,
          .rank = options.rank,
          .size = options.size,
          .port = port};
}

Digest make_challenge() {
  Digest challenge{};
  const auto bytes = random_bytes(challenge.size());
  std::copy(bytes.begin(), bytes.end(), challenge.begin());
  return challenge;
}

Digest prove(const Credentials& credentials, Role role, const Digest& rank_0s_challenge,
             const Digest& members_challenge) {
  std::string text = kProofOf;
  text += static_cast<char>(role);
  append(text, rank_0s_challenge);
  append(text, members_challenge);
  append(text, credentials.rank);
  append(text, credentials.size);
  append(text, credentials.port);
  return hash(credentials.key, text + credentials.token);
}

bool is_equal(const Digest& a, const Digest& b) noexcept {
  return CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

Introduction::Introduction(Credentials credentials, Hello hello)
    : credentials_(std::move(credentials)), hello_(std::move(hello)) {}

Introduction::State Introduction::take(const ControlMessage& message, Connection& connection) {
  const auto* challenge = std::get_if<Challenge>(&message);
  const auto* accepted = std::get_if<Accepted>(&message);
  if (challenge && !has_answered_) {
    answer(*challenge, connection);
  } else if (accepted && has_answered_ && state_ == State::waits) {
    check(*accepted, connection);
  } else {
    state_ = State::stranger;
  }
  return state_;
}

void Introduction::answer(const Challenge& challenge, Connection& connection) {
  has_answered_ = true;
  rank_0s_challenge_ = challenge.challenge;
  connection.send(Response{
      .rank = credentials_.rank,
      .size = credentials_.size,
      .challenge = challenge_,
      .proof = prove(credentials_, Role::member, rank_0s_challenge_, challenge_),
  });
}

void Introduction::check(const Accepted& accepted, Connection& connection) {
  const auto expected = prove(credentials_, Role::rank_0, rank_0s_challenge_, challenge_);
  state_ = is_equal(accepted.proof, expected) ? State::accepted : State::stranger;
  if (state_ == State::stranger) return;
  connection.hear(Hears::rank_0);
  connection.send(hello_);
}

}  // namespace isobar::control
