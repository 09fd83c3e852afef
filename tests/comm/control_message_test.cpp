// SPDX-License-Identifier: Apache-2.0
#include "comm/control/message.hpp"

#include <ATen/ops/empty.h>

#include <gtest/gtest.h>

#include <numeric>
#include <random>

namespace isobar::control::control_message_test {
namespace {

/// Who may send `message`, so that it is heard.
Hears hears(const ControlMessage& message) {
  if (std::holds_alternative<Response>(message)) return Hears::newcomer;
  if (std::holds_alternative<Hello>(message)) return Hears::known;
  for (const auto from : {Hears::member, Hears::unproven}) {
    FrameReader reader(from);
    reader.append(encode(message));
    if (reader.next()) return from;
  }
  return Hears::rank_0;
}

/// Every message of the protocol, with fields that are not zero.
std::vector<ControlMessage> all_messages() {
  const Call call{
      .count = int64_t{1} << 40,
      .peer = 3,
      .mark = {.bucket = 70'000, .reducer = 3, .frozen = 2, .set = 815, .step = int64_t{1} << 33},
      .kind = 4,
      .reduce = 1,
      .type = 6};
  const Process process{"n3", 123};
  Digest digest{};
  std::iota(digest.begin(), digest.end(), 100);
  return {Challenge{digest},
          Response{2, 4, digest, digest},
          Accepted{digest},
          Unknown{},
          Hello{7, 2, 4, process},
          Welcome{1, 3, process, "session"},
          Refused{1, "twice"},
          Alive{},
          Probe{},
          Report{{{~uint64_t{0}, 1, 3}},
                 {{5, -1, {call, call}, {~uint64_t{0}}}},
                 {{5, "an exception ended it"}}},
          Suspicion{"broken pipe"},
          Verdict{"rank 2 is gone"},
          Goodbye{"", {{5, 41}}},
          Contribution{2, 1, std::string("\0\n", 2)},
          Gathered{2, 1, {"a", "", "c"}, {{0, 3}, {1, 1}}}};
}

std::vector<ControlMessage> read_all(FrameReader& reader) {
  std::vector<ControlMessage> messages;
  while (auto message = reader.next()) messages.push_back(*message);
  return messages;
}

TEST(ControlMessage, ComesBackAsItWas) {
  for (const auto& message : all_messages()) {
    FrameReader reader(hears(message));
    reader.append(encode(message));
    const auto back = reader.next();
    ASSERT_TRUE(back) << message.index();
    EXPECT_EQ(back->index(), message.index());
    EXPECT_EQ(encode(*back), encode(message));
  }
}

TEST(ControlMessage, MayComeByteByByte) {
  size_t count = 0;
  for (const auto& message : all_messages()) {
    FrameReader reader(hears(message));
    for (int i = 0; i < 2; ++i) {
      for (const char byte : encode(message)) {
        reader.append(std::string_view(&byte, 1));
        count += read_all(reader).size();
      }
    }
    EXPECT_FALSE(reader.is_broken());
  }
  EXPECT_EQ(count, 2 * all_messages().size());
}

TEST(ControlMessage, MayComeOnlyFromWhomItIsDue) {
  for (const auto& message : all_messages()) {
    int heard = 0;
    for (const auto from :
         {Hears::newcomer, Hears::known, Hears::member, Hears::unproven, Hears::rank_0}) {
      FrameReader reader(from);
      reader.append(encode(message));
      heard += reader.next() ? 1 : 0;
    }
    EXPECT_GE(heard, 1) << message.index();
    EXPECT_LE(heard, 2) << message.index();
  }
}

/// Whoever is not known cannot make rank 0 keep more than a few hundred bytes.
TEST(ControlMessage, OfANewcomerIsShort) {
  for (const auto from : {Hears::newcomer, Hears::unproven}) {
    for (uint8_t kind = 0; kind < std::variant_size_v<ControlMessage>; ++kind) {
      auto frame = encode(Alive{});
      frame[8] = static_cast<char>(kind);
      frame[4] = 0;
      frame[5] = 1;  // 256 bytes
      FrameReader reader(from);
      reader.append(frame);
      EXPECT_FALSE(reader.next());
      EXPECT_TRUE(reader.is_broken());
    }
  }
}

TEST(ControlMessage, OfAnotherVersionIsKnownAsSuch) {
  auto frame = encode(Alive{});
  frame[3] = 9;
  FrameReader reader(Hears::member);
  reader.append(frame);
  EXPECT_FALSE(reader.next());
  EXPECT_EQ(reader.other_version(), 9);
  FrameReader other(Hears::member);
  other.append("GET / HTTP/1.1\r\n");
  EXPECT_FALSE(other.next());
  EXPECT_EQ(other.other_version(), 0);
}

TEST(ControlMessage, OfAStrangerBreaksTheStream) {
  FrameReader reader(Hears::member);
  reader.append("GET / HTTP/1.1\r\nHost: n1\r\n\r\n");
  EXPECT_FALSE(reader.next());
  EXPECT_TRUE(reader.is_broken());
  reader.append(encode(Alive{}));
  EXPECT_FALSE(reader.next());
}

TEST(ControlMessage, LongerThanTheLimitIsRefusedBeforeItHasCome) {
  const auto frame = encode(Suspicion{std::string(1 << 20, 'x')});
  FrameReader reader(Hears::member);
  reader.append(frame.substr(0, 9));
  EXPECT_FALSE(reader.next());
  EXPECT_TRUE(reader.is_broken());
}

TEST(ControlMessage, WithACountThatIsALieIsRefused) {
  auto frame = encode(Gathered{1, 0, {"a"}, {}});
  frame[8 + 1 + 5] = '\xff';  // the number of texts, after header, kind, round and is_equal
  frame[8 + 1 + 8] = '\x7f';
  FrameReader reader(Hears::rank_0);
  reader.append(frame);
  EXPECT_FALSE(reader.next());
  EXPECT_TRUE(reader.is_broken());
}

TEST(ControlMessage, WithAnUnknownOperationIsRefused) {
  FrameReader reader(Hears::member);
  reader.append(encode(Report{{}, {{5, 0, {Call{.kind = 99}}}}, {}}));
  EXPECT_FALSE(reader.next());
  EXPECT_TRUE(reader.is_broken());
}

TEST(ControlMessage, DamagedAnywhereNeverCrashes) {
  std::mt19937 random(1);
  const auto messages = all_messages();
  for (int i = 0; i < 20'000; ++i) {
    const auto& message = messages[random() % messages.size()];
    auto frame = encode(message);
    for (int flips = 1 + static_cast<int>(random() % 3); flips > 0; --flips) {
      frame[random() % frame.size()] = static_cast<char>(random());
    }
    FrameReader reader(hears(message));
    reader.append(frame.substr(0, random() % (frame.size() + 1)));
    EXPECT_LE(read_all(reader).size(), 1u);
  }
}

TEST(ControlMessage, CarriesCallsOfAnyNumbers) {
  std::mt19937_64 random(3);
  Calls calls{.id = 1, .first = 0, .calls = {}};
  for (int i = 0; i < 2000; ++i) {
    auto& call = calls.calls.emplace_back();
    call.count = static_cast<int64_t>(random() >> (1 + random() % 63));
    call.mark.step = static_cast<int64_t>(random()) >> (random() % 64);
    call.mark.set = static_cast<uint32_t>(random());
    call.mark.bucket = static_cast<int32_t>(random() % 100) - 3;
    call.peer = i % 7;
  }
  FrameReader reader(Hears::member);
  reader.append(encode(Report{{}, {calls}, {}}));
  const auto back = reader.next();
  ASSERT_TRUE(back);
  EXPECT_EQ(std::get<Report>(*back).calls[0].calls, calls.calls);
}

/// A rank reports hundreds in a second.
TEST(ControlMessage, IsShortOfCallsThatRepeat) {
  Calls calls{.id = 1, .first = 0, .calls = {}};
  for (int i = 0; i < 1000; ++i) {
    calls.calls.push_back({.count = 6 << 20, .mark = {.bucket = i % 8, .step = 70'000 + i / 8}});
  }
  EXPECT_LT(encode(Report{{}, {calls}, {}}).size(), 1000 * sizeof(Call) / 8);
}

TEST(ControlMessage, IsLongerByTheRowBalancesOfAllToAllsAlone) {
  Calls calls{.id = 1, .first = 0, .calls = {}};
  for (int i = 0; i < 1000; ++i) {
    const auto kind = i % 4 == 3 ? OperationKind::all_to_all : OperationKind::allreduce;
    calls.calls.push_back({.count = 6 << 20, .kind = static_cast<uint8_t>(kind)});
  }
  const auto without = encode(Report{{}, {calls}, {}}).size();
  for (uint64_t i = 0; i < 250; ++i) calls.row_balances.push_back(i << 40);
  const auto frame = encode(Report{{}, {calls}, {}});
  EXPECT_EQ(frame.size(), without + 250 * sizeof(uint64_t));
  FrameReader reader(Hears::member);
  reader.append(frame);
  const auto back = reader.next();
  ASSERT_TRUE(back);
  EXPECT_EQ(std::get<Report>(*back).calls[0].row_balances, calls.row_balances);
}

Operation operation(OperationKind kind) {
  Operation made;
  made.kind = kind;
  made.reduce = ReduceOp::maximum;
  made.peer = 1;
  made.input = at::empty({4, 3}, at::kDouble);
  made.output = at::empty({8, 3}, at::kDouble);
  return made;
}

TEST(ControlCall, SaysTheSignatureOfItsOperation) {
  using enum OperationKind;
  for (const auto kind : {allreduce, reduce_scatter, all_gather, broadcast}) {
    const auto made = operation(kind);
    EXPECT_EQ(signature(call_of(made)), made.signature());
  }
  auto bucket = operation(allreduce);
  bucket.mark.bucket = 2;
  EXPECT_EQ(signature(call_of(bucket)), "allreduce maximum float64[24] of bucket 2");
  EXPECT_EQ(bucket.signature(), "allreduce maximum float64[24] of bucket 2");
  EXPECT_EQ(signature(call_of(operation(all_to_all))), "all_to_all float64 rows of 3");
  EXPECT_EQ(signature(call_of(Operation{})), "barrier");
}

TEST(ControlCall, DiffersWhereTheRanksMustAgree) {
  const auto call = call_of(operation(OperationKind::allreduce));
  auto other = operation(OperationKind::allreduce);
  other.reduce = ReduceOp::minimum;
  EXPECT_NE(call_of(other), call);
  other = operation(OperationKind::allreduce);
  other.output = at::empty({8, 3}, at::kFloat);
  EXPECT_NE(call_of(other), call);
  other.output = at::empty({8, 4}, at::kDouble);
  EXPECT_NE(call_of(other), call);
  auto mean = operation(OperationKind::allreduce);
  mean.divisor = 1.5;
  EXPECT_NE(call_of(mean), call);
  EXPECT_EQ(signature(call_of(mean)), "allreduce maximum/1.5 float64[24]");
  EXPECT_EQ(signature(call_of(mean)), mean.signature());
  auto bucket = operation(OperationKind::allreduce);
  bucket.mark.bucket = 0;
  EXPECT_NE(call_of(bucket), call);
  for (const BucketMark& mark :
       {BucketMark{.bucket = 0, .reducer = 1}, BucketMark{.bucket = 0, .frozen = 1},
        BucketMark{.bucket = 0, .set = 1}, BucketMark{.bucket = BucketMark::kReplan},
        BucketMark{.bucket = BucketMark::kBuffers}, BucketMark{.bucket = 0, .step = 1}}) {
    auto marked = operation(OperationKind::allreduce);
    marked.mark = mark;
    EXPECT_NE(call_of(marked), call_of(bucket));
    EXPECT_EQ(signature(call_of(marked)), marked.signature());
  }
  auto root = operation(OperationKind::broadcast);
  root.peer = 0;
  EXPECT_NE(call_of(root), call_of(operation(OperationKind::broadcast)));
}

TEST(ControlCall, IsTheSameForUnequalPartsOfAnAllToAll) {
  auto one = operation(OperationKind::all_to_all);
  auto other = one;
  other.input = at::empty({9, 3}, at::kDouble);
  EXPECT_EQ(call_of(one), call_of(other));
}

}  // namespace
}  // namespace isobar::control::control_message_test
