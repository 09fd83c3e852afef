// SPDX-License-Identifier: Apache-2.0
// Called by the thread that uses the communicator, which blocks here. Which collectives follow each
// other depends only on what all ranks have been told by the ones before (lengths, hashes, who
// failed), never on this rank's own text: so all ranks issue the same ones, and a rank that differs
// is named instead of waited for. Hashes go first, since texts that agree need not travel.
#include <isobar/comm/agreement.hpp>
#include <isobar/comm/census.hpp>
#include <isobar/core/error.hpp>
#include <isobar/core/hash.hpp>
#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cstring>
#include <string_view>

namespace isobar {
namespace {

/// Who asks, unless the caller has said so.
constexpr const char* kAsker = "agreement";

std::vector<int64_t> gather_numbers(Communicator& comm, int64_t number) {
  auto mine = at::empty({1}, at::kLong);
  *mine.data_ptr<int64_t>() = number;
  auto all = at::empty({comm.size()}, at::kLong);
  comm.all_gather(all, mine).synchronize();
  const auto* first = all.const_data_ptr<int64_t>();
  return {first, first + comm.size()};
}

/// `text` of rank `from`, on every rank. Where ranks are many, their texts together are not small:
/// only numbers are gathered, and the texts that are wanted are sent one by one.
std::string broadcast_text(Communicator& comm, const std::string& text, int from) {
  auto length = at::empty({1}, at::kLong);
  *length.mutable_data_ptr<int64_t>() = static_cast<int64_t>(text.size());
  comm.broadcast(length, from).synchronize();
  auto bytes = at::empty({*length.const_data_ptr<int64_t>()}, at::kByte);
  if (bytes.numel() == 0) return {};
  auto* const first = static_cast<char*>(bytes.mutable_data_ptr());
  if (comm.rank() == from) std::memcpy(first, text.data(), text.size());
  comm.broadcast(bytes, from).synchronize();
  return {first, static_cast<size_t>(bytes.numel())};
}

/// Zero for an empty text, and for no other.
int64_t number_of(const std::string& text) {
  return text.empty() ? 0 : std::max<int64_t>(1, static_cast<int64_t>(fnv1a(text) >> 1));
}

bool are_equal(const std::vector<int64_t>& numbers) {
  return std::all_of(numbers.begin(), numbers.end(), [&](auto n) { return n == numbers[0]; });
}

/// How a rank's stage ended: a letter for the type of the error, then its text.
/// Empty: well.
std::string outcome_of(const std::function<void()>& stage) {
  try {
    stage();
    return {};
  } catch (const UsageError& error) {
    return std::string("U") + error.what();
  } catch (const CommError& error) {
    return std::string("C") + error.what();
  } catch (const DataError& error) {
    return std::string("D") + error.what();
  } catch (const c10::Error& error) {
    return std::string("E") + error.what_without_backtrace();
  } catch (const std::exception& error) {
    return std::string("E") + error.what();
  } catch (...) {
    return "Ean exception of unknown type";
  }
}

template <typename E>
[[noreturn]] void throw_known_to_all(const std::string& message) {
  E error(message);
  error.set_known_to_all();
  throw error;
}

[[noreturn]] void throw_outcome(char type, const std::string& message) {
  switch (type) {
    case 'U':
      throw_known_to_all<UsageError>(message);
    case 'C':
      throw_known_to_all<CommError>(message);
    case 'D':
      throw_known_to_all<DataError>(message);
    default:
      throw_known_to_all<Error>(message);
  }
}

/// One text of many lines, and back. Every line ends with a zero byte, so that
/// no line and one empty line differ.
std::string pack(const std::vector<std::string>& lines) {
  std::string text;
  for (const auto& line : lines) text.append(line).push_back('\0');
  return text;
}

std::vector<std::string> unpack(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const auto end = text.find('\0');
    lines.emplace_back(text.substr(0, end));
    text.remove_prefix(end + 1);
  }
  return lines;
}

std::string key_of(const std::string& line) { return line.substr(0, line.find('=')); }

bool has_key(const std::vector<std::string>& lines, const std::string& key) {
  return std::any_of(lines.begin(), lines.end(),
                     [&](const auto& line) { return key_of(line) == key; });
}

std::string quoted(const std::string& text) { return "'" + text + "'"; }

/// "rank 2 has 'a=1', rank 0 has 'a=2'", at the first line that differs.
std::string difference(int rank, const std::vector<std::string>& theirs,
                       const std::vector<std::string>& ours) {
  const auto [they, we] = std::mismatch(theirs.begin(), theirs.end(), ours.begin(), ours.end());
  std::string they_have = they == theirs.end() ? "no more" : quoted(*they);
  std::string we_have = we == ours.end() ? "no more" : quoted(*we);
  // Where a line was added or left out, name it, and not the one that now stands in its place.
  if (they != theirs.end() && !has_key(ours, key_of(*they))) {
    we_have = "no " + quoted(key_of(*they));
  } else if (we != ours.end() && !has_key(theirs, key_of(*we))) {
    they_have = "no " + quoted(key_of(*we));
  }
  return detail::join("rank ", rank, " has ", they_have, ", rank 0 has ", we_have);
}

}  // namespace

void run_agreed(Communicator& comm, const std::function<void()>& stage) {
  const auto outcome = outcome_of(stage);
  const CollectiveAsker asker(kAsker);
  const auto numbers = gather_numbers(comm, number_of(outcome));
  const auto failed =
      std::find_if(numbers.begin(), numbers.end(), [](auto number) { return number != 0; });
  if (failed == numbers.end()) return;
  const auto rank = static_cast<int>(failed - numbers.begin());
  const auto text = broadcast_text(comm, outcome, rank);
  auto message = text.substr(1);
  if (!are_equal(numbers)) {
    message = detail::join("rank ", rank, " of ", comm.size(), ": ", message);
  }
  throw_outcome(text.front(), message);
}

void run_or_abort(Communicator& comm, const std::function<void()>& stage) {
  try {
    stage();
  } catch (const Error& error) {
    if (!error.known_to_all()) comm.abort(error.what());
    throw;
  } catch (const std::exception& error) {
    const std::string text = error.what();
    comm.abort(text.substr(0, text.find('\n')));
    throw;
  }
}

std::vector<std::string> gather_texts(Communicator& comm, const std::string& text) {
  const CollectiveAsker asker(kAsker);
  const auto lengths = gather_numbers(comm, static_cast<int64_t>(text.size()));
  const auto longest = *std::max_element(lengths.begin(), lengths.end());
  auto mine = at::empty({longest}, at::kByte);
  if (!text.empty()) std::memcpy(mine.data_ptr(), text.data(), text.size());
  auto all = at::empty({comm.size(), longest}, at::kByte);
  comm.all_gather(all, mine).synchronize();

  std::vector<std::string> texts;
  const auto* start = static_cast<const char*>(all.const_data_ptr());
  for (int r = 0; r < comm.size(); ++r) {
    texts.emplace_back(start ? start + r * longest : "", static_cast<size_t>(lengths[r]));
  }
  return texts;
}

// Texts grow with the model and with the world: only their hashes travel, and where they differ the
// two texts that are compared.
void require_equal(Communicator& comm, const std::string& subject,
                   const std::vector<std::string>& lines) {
  const CollectiveAsker asker(kAsker);
  const auto mine = pack(lines);
  const auto numbers = gather_numbers(comm, number_of(mine));
  if (are_equal(numbers)) return;
  const auto other =
      std::find_if(numbers.begin(), numbers.end(), [&](auto n) { return n != numbers[0]; });
  const auto rank = static_cast<int>(other - numbers.begin());
  const auto theirs = unpack(broadcast_text(comm, mine, rank));
  const auto first = unpack(broadcast_text(comm, mine, 0));
  throw_known_to_all<UsageError>(subject + " differs: " + difference(rank, theirs, first));
}

}  // namespace isobar
