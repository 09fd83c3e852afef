// SPDX-License-Identifier: Apache-2.0
#include <isobar/comm/census.hpp>
#include <isobar/core/error.hpp>
#include <isobar/graph/halo_exchange.hpp>
#include <ATen/ATen.h>

#include <numeric>
#include <utility>

namespace isobar {
namespace {

constexpr const char* kHalo = "halo";

int64_t sum(const std::vector<int64_t>& counts) {
  return std::accumulate(counts.begin(), counts.end(), int64_t{0});
}

/// [rows, B * C] of [B, rows, C]: a row travels with all samples.
at::Tensor rows_first(const at::Tensor& x) {
  return x.transpose(0, 1).reshape({x.size(1), x.size(0) * x.size(2)});
}

}  // namespace

void PendingHalo::wait() {
  work_.wait();
  if (const auto finish = std::exchange(finish_, nullptr)) finish();
}

HaloExchange::HaloExchange(HaloPlan plan, Communicator& model)
    : plan_(std::move(plan)), model_(model), send_rows_(plan_.send_rows) {
  const auto ranks = static_cast<size_t>(model.size());
  ISOBAR_CHECK(plan_.send_counts.size() == ranks && plan_.receive_counts.size() == ranks,
               "HaloExchange: the plan is for ", plan_.send_counts.size(),
               " ranks, the communicator has ", ranks);
}

at::Tensor HaloExchange::send_rows(const at::Tensor& like) {
  if (send_rows_.device() != like.device()) send_rows_ = send_rows_.to(like.device());
  return send_rows_;
}

void HaloExchange::check(const at::Tensor& rows) const {
  const int64_t wanted = plan_.owned + plan_.halo();
  ISOBAR_CHECK(rows.dim() == 3 && rows.size(1) == wanted && rows.is_contiguous(),
               "HaloExchange: rows must be contiguous, [batch, ", wanted, ", columns], got ",
               rows.sizes());
}

// Over all ranks start() is a matrix H of zeros and ones: it keeps a rank's own rows and copies
// those that others read into their halos. Its transpose, start_adjoint(), adds to an own row the
// gradients of all its copies: the same rows and counts, with senders and receivers exchanged. A
// test holds the two together by <H x, y> = <x, H' y>.
//
// Each call is one all_to_all, on a rank that sends and receives nothing too: so all ranks of the
// model issue the same collectives in the same order, which their passes fix (weather_gnn.cpp).
PendingHalo HaloExchange::start(const at::Tensor& rows) {
  check(rows);
  const int64_t halo = plan_.halo();
  if (model_.size() == 1) return {};
  const CollectiveAsker asker(kHalo);
  received_rows_ += halo;
  const at::Tensor sent = rows_first(rows.index_select(1, send_rows(rows)));
  const at::Tensor halo_rows = rows.narrow(1, plan_.owned, halo);
  if (rows.size(0) == 1) {
    return {model_.all_to_all(halo_rows[0], sent, plan_.receive_counts, plan_.send_counts),
            nullptr};
  }
  const at::Tensor received = at::empty({halo, sent.size(1)}, rows.options());
  return {model_.all_to_all(received, sent, plan_.receive_counts, plan_.send_counts),
          [halo_rows, received] {
            halo_rows.copy_(received.view({halo_rows.size(1), halo_rows.size(0), halo_rows.size(2)})
                                .transpose(0, 1));
          }};
}

PendingHalo HaloExchange::start_adjoint(const at::Tensor& gradients) {
  check(gradients);
  if (model_.size() == 1) return {};
  const CollectiveAsker asker(kHalo);
  const int64_t returned = sum(plan_.send_counts);
  received_rows_ += returned;
  // With one sample this is the halo itself, no copy: nobody may add to it before wait().
  const at::Tensor sent = rows_first(gradients.narrow(1, plan_.owned, plan_.halo()));
  const at::Tensor received = at::empty({returned, sent.size(1)}, gradients.options());
  const at::Tensor rows = send_rows(gradients);
  return {model_.all_to_all(received, sent, plan_.send_counts, plan_.receive_counts),
          [gradients, received, rows, counts = plan_.send_counts] {
            const at::Tensor by_sample =
                received.view({-1, gradients.size(0), gradients.size(2)}).transpose(0, 1);
            int64_t begin = 0;
            for (const int64_t count : counts) {
              if (count == 0) continue;
              // No row comes twice from one peer, so this adds in a fixed order.
              at::Tensor(gradients).index_add_(1, rows.narrow(0, begin, count),
                                               by_sample.narrow(1, begin, count));
              begin += count;
            }
          }};
}

}  // namespace isobar
