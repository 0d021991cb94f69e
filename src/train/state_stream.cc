#include "train/state_stream.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace flagscale::train {

namespace {

constexpr size_t kRooms = 3;
// Large enough for the speed of the bus (16 MiB a copy), and few enough of what there is to be worth it.
constexpr int64_t kMostElements = 4 << 20, kLeastPieces = 8;

int64_t elements_of_a_piece(int64_t all) {
  const int64_t lines = (all / kLeastPieces + kLineElements - 1) / kLineElements;
  return std::clamp(lines * kLineElements, kLineElements, kMostElements);
}

}  // namespace

StateStream::StateStream(Range elements)
    : elements_(elements), piece_elements_(elements_of_a_piece(elements.size())) {
  for (int64_t at = elements.begin; at < elements.end; at += piece_elements_)
    pieces_.push_back({at, std::min(at + piece_elements_, elements.end)});
}

size_t StateStream::rooms() const { return std::min(kRooms, pieces_.size()); }

int64_t StateStream::staging_elements() const { return static_cast<int64_t>(rooms()) * piece_elements_; }

void StateStream::add(Tensor away, Tensor staging) {
  FLAGSCALE_CHECK(away.dtype() == DType::kF32 && away.shape().numel() == elements_.size());
  FLAGSCALE_CHECK(staging.dtype() == DType::kF32 && staging.shape().numel() == staging_elements());
  buckets_.push_back({std::move(away), std::move(staging)});
}

size_t StateStream::bucket_of(const Storage& away) const {
  const auto at = std::find_if(buckets_.begin(), buckets_.end(),
                               [&](const Bucket& bucket) { return bucket.away.storage().get() == &away; });
  FLAGSCALE_CHECK(at != buckets_.end());
  return static_cast<size_t>(at - buckets_.begin());
}

Tensor StateStream::staged(size_t bucket, size_t piece, Range elements) const {
  const int64_t first = static_cast<int64_t>(room(piece)) * piece_elements_;
  return buckets_[bucket].staging.rows(first + elements.begin - pieces_[piece].begin, elements.size());
}

Tensor StateStream::away(size_t bucket, Range elements) const {
  return buckets_[bucket].away.rows(elements.begin - elements_.begin, elements.size());
}

void StateStream::set_launches(size_t begin, size_t end) {
  FLAGSCALE_CHECK(begin < end && launches_.size() < pieces_.size());
  FLAGSCALE_CHECK(launches_.empty() || launches_.back().end <= begin);
  launches_.push_back({begin, end});
}

void StateStream::start(Lanes& lanes) {
  FLAGSCALE_CHECK(launches_.size() == pieces_.size());
  next_ = 0;
  for (size_t piece = 0; piece < rooms(); ++piece) fetch(lanes, piece);
  launched(lanes, 0);
}

void StateStream::launched(Lanes& lanes, size_t launches) {
  if (next_ < pieces_.size() && launches == launches_[next_].end) {
    put_back(lanes, next_);
    if (next_ + rooms() < pieces_.size()) fetch(lanes, next_ + rooms());
    ++next_;
  }
  if (next_ < pieces_.size() && launches == launches_[next_].begin) lanes.wait(Lane::kKernels, came(next_));
}

// Into the room of the piece that went before.
void StateStream::fetch(Lanes& lanes, size_t piece) const {
  lanes.wait(Lane::kIn, gone(piece));
  for (size_t i = 0; i < buckets_.size(); ++i) {
    const Tensor from = away(i, pieces_[piece]), to = staged(i, piece, pieces_[piece]);
    lanes.copy(Lane::kIn, to.place(), from.place(), from.bytes());
  }
  lanes.mark(Lane::kIn, came(piece));
}

void StateStream::put_back(Lanes& lanes, size_t piece) const {
  lanes.mark(Lane::kKernels, updated(piece));
  lanes.wait(Lane::kOut, updated(piece));
  for (size_t i = 0; i < buckets_.size(); ++i) {
    const Tensor from = staged(i, piece, pieces_[piece]), to = away(i, pieces_[piece]);
    lanes.copy(Lane::kOut, to.place(), from.place(), from.bytes());
  }
  lanes.mark(Lane::kOut, gone(piece));
}

}  // namespace flagscale::train
