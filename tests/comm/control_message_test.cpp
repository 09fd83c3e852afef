// SPDX-License-Identifier: Apache-2.0
#include "comm/control/message.hpp"

#include <ATen/ops/empty.h>

#include <gtest/gtest.h>

#include <random>

namespace isobar::control::control_message_test {
namespace {

constexpr size_t kLimit = 1 << 16;

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
  return {Hello{"token", 7, 2, 4, process},
          Accepted{},
          Welcome{{process, {"n4", 9}}},
          Refused{1, "twice"},
          Alive{},
          Probe{},
          Watching{~uint64_t{0}, 1, 3},
          Calls{5, -1, {call, call}},
          Unwatched{5, "an exception ended it"},
          Suspicion{"broken pipe"},
          Verdict{"rank 2 is gone"},
          Goodbye{"", {{5, 41}}},
          Contribution{2, std::string("\0\n", 2)},
          Gathered{2, {"a", "", "c"}},
          Survivors{{0, 1, 3}}};
}

std::vector<ControlMessage> read_all(FrameReader& reader) {
  std::vector<ControlMessage> messages;
  while (auto message = reader.next()) messages.push_back(*message);
  return messages;
}

TEST(ControlMessage, ComesBackAsItWas) {
  for (const auto& message : all_messages()) {
    FrameReader reader(kLimit);
    reader.append(encode(message));
    const auto back = reader.next();
    ASSERT_TRUE(back) << message.index();
    EXPECT_EQ(back->index(), message.index());
    EXPECT_EQ(encode(*back), encode(message));
  }
}

TEST(ControlMessage, MayComeByteByByte) {
  std::string bytes;
  for (const auto& message : all_messages()) bytes += encode(message);
  FrameReader reader(kLimit);
  size_t count = 0;
  for (const char byte : bytes) {
    reader.append(std::string_view(&byte, 1));
    count += read_all(reader).size();
  }
  EXPECT_EQ(count, all_messages().size());
  EXPECT_FALSE(reader.is_broken());
}

TEST(ControlMessage, OfAStrangerBreaksTheStream) {
  FrameReader reader(kLimit);
  reader.append("GET / HTTP/1.1\r\nHost: n1\r\n\r\n");
  EXPECT_FALSE(reader.next());
  EXPECT_TRUE(reader.is_broken());
  reader.append(encode(Alive{}));
  EXPECT_FALSE(reader.next());
}

TEST(ControlMessage, LongerThanTheLimitIsRefusedBeforeItHasCome) {
  const auto frame = encode(Suspicion{std::string(1000, 'x')});
  FrameReader reader(100);
  reader.append(frame.substr(0, 8));
  EXPECT_FALSE(reader.next());
  EXPECT_TRUE(reader.is_broken());
}

TEST(ControlMessage, WithACountThatIsALieIsRefused) {
  auto frame = encode(Gathered{1, {"a"}});
  frame[8 + 1 + 4] = '\xff';  // the number of texts, after header, kind and round
  frame[8 + 1 + 7] = '\x7f';
  FrameReader reader(kLimit);
  reader.append(frame);
  EXPECT_FALSE(reader.next());
  EXPECT_TRUE(reader.is_broken());
}

TEST(ControlMessage, WithAnUnknownOperationIsRefused) {
  FrameReader reader(kLimit);
  reader.append(encode(Calls{5, 0, {Call{.kind = 99}}}));
  EXPECT_FALSE(reader.next());
  EXPECT_TRUE(reader.is_broken());
}

TEST(ControlMessage, DamagedAnywhereNeverCrashes) {
  std::mt19937 random(1);
  const auto messages = all_messages();
  for (int i = 0; i < 20'000; ++i) {
    auto frame = encode(messages[random() % messages.size()]);
    for (int flips = 1 + static_cast<int>(random() % 3); flips > 0; --flips) {
      frame[random() % frame.size()] = static_cast<char>(random());
    }
    FrameReader reader(kLimit);
    reader.append(frame.substr(0, random() % (frame.size() + 1)));
    EXPECT_LE(read_all(reader).size(), 1u);
  }
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
