// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "comm/control/message.hpp"
#include "comm/control/process_table.hpp"

namespace isobar::control {

/// What every rank has issued on every communicator, as far as it is known.
///
/// Calls are kept until all members have reported theirs, so that each is compared
/// with the first report of its number. Only the latest kWindow are: of a rank that
/// lags farther behind, older calls are counted and not compared, and the texts say so.
class CallLog {
 public:
  static constexpr size_t kWindow = 1 << 16;

  /// `processes` must outlive this.
  explicit CallLog(const ProcessTable& processes);

  void watch(int rank, const Watching& watching);
  void issued(int rank, const Calls& calls);
  void unwatch(int rank, const Unwatched& unwatched);

  /// The process ended: all that it watched is over.
  void left(int rank, const std::string& reason);

  bool has_mismatch() const noexcept { return !dissenting_.empty() || row_mismatch_; }

  /// The first calls that differ: "collective #41: rank 0 of 4 calls ..."; or the first all_to_all
  /// in which a rank sends another than that expects.
  std::optional<std::string> mismatch() const;

  /// That there is a mismatch to which no rank can add anything.
  bool is_mismatch_complete() const;

  /// "rank 2 of 4 on n3 (pid 9) left before allreduce #41 (...)".
  std::optional<std::string> left_before() const;

  /// "allreduce #41 not called by rank 2 (its last: allreduce #40)", for each
  /// communicator whose members have not all come as far; empty without one.
  std::string behind() const;

  /// "allreduce #41 (allreduce sum float32[8])" or "none".
  std::string last_of(int rank) const;

  std::vector<Progress> progress_of(int rank) const;

 private:
  struct Member {
    int rank = -1;  // in the world; unknown until it watches
    int64_t count = 0;
    std::optional<Call> last;
    std::optional<std::string> left;
  };

  /// The first report of a call, and the sum of all members' row_balance().
  struct Entry {
    Call call;
    uint64_t rows = 0;
  };

  struct Group {
    std::vector<Member> members;
    /// Where in `members` a rank of the world is.
    std::unordered_map<int, size_t> places;
    /// How many members have issued so many calls: a turn of the judge looks at no member.
    std::map<int64_t, size_t> counts;
    size_t left = 0;
    /// Calls `base`, `base` + 1, ...
    std::deque<Entry> window;
    int64_t base = 0;
    /// Of calls before it a report is missing, so that row counts cannot be compared.
    int64_t rows_from = 0;
    bool has_dropped = false;
    /// Whose call `dissent_at` is not `agreed`, the first report of it.
    std::map<int, Call> dissenters;
    int64_t dissent_at = 0;
    Call agreed;
  };

  struct Last {
    uint64_t id = 0;
    int64_t sequence = 0;
    Call call;
  };

  /// The ranks that have issued the same number of calls.
  struct Laggards {
    int64_t count = 0;
    std::optional<Call> last;
    std::vector<int> ranks;
  };

  static Member* find_member(Group& group, int rank);
  static void compare(Group& group, const Member& by, int64_t sequence, const Entry& reported);
  static void correct(Group& group, const Member& by, int64_t sequence, const Call& call);
  void trim(Group& group);
  void check_rows(const Group& group, const Entry& entry, int64_t sequence);
  static int64_t farthest(const Group& group) { return group.counts.rbegin()->first; }
  static std::vector<int> ranks_of(const Group& group);

  bool is_world(const Group& group) const;
  std::vector<int> absent_from(const Group& group) const;
  std::string where(const Group& group) const;
  std::string name_at(const Group& group, int64_t sequence) const;
  std::string mismatch_of(const Group& group) const;
  std::string row_mismatch_of(const Group& group, const Entry& entry, int64_t sequence) const;
  std::vector<Laggards> laggards_of(const Group& group) const;
  std::string behind_of(const Group& group) const;
  std::optional<std::string> left_before_of(const Group& group) const;
  bool is_over(const Group& group) const;
  void forget(uint64_t id);
  void suspect(uint64_t id, const Group& group);

  const ProcessTable& processes_;
  std::map<uint64_t, Group> groups_;
  /// The ones that a rank has watched.
  std::vector<std::vector<uint64_t>> groups_of_;
  /// Of those of all ranks, of which it is known who should be there.
  std::set<uint64_t> worlds_;
  /// Where calls differ, and where a rank may have left before a call.
  std::set<uint64_t> dissenting_;
  std::set<uint64_t> suspect_;
  std::optional<std::string> row_mismatch_;
  std::map<int, Last> last_;
  /// Processes that have ended, and why.
  std::map<int, std::string> left_;
};

}  // namespace isobar::control
