#include "train/shared_state.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

#include "base/check.h"
#include "train/saving.h"

namespace flagscale::train {

namespace {

using Bytes = std::span<const std::byte>;

constexpr int64_t kGatheredAtOnce = 4 << 20;  // bytes

Bytes bytes_in(Bytes all, Range range) {
  if (range.size() == 0) return {};
  return all.subspan(static_cast<size_t>(range.begin), static_cast<size_t>(range.size()));
}

// Sends [r] of `send` to every rank r; every rank r's to this one goes to [r] of `receive`.
class Exchange {
 public:
  explicit Exchange(comm::ProcessGroup& group)
      : send(static_cast<size_t>(group.size())), receive(send.size()), group_(group) {}
  void run() { group_.exchange(send, receive); }
  std::vector<Bytes> send;
  std::vector<std::span<std::byte>> receive;

 private:
  comm::ProcessGroup& group_;
};

// A tensor of which the ranks have consecutive bytes.
class SharedTensor {
 public:
  SharedTensor(comm::ProcessGroup& group, const std::vector<Range>& of_rank, std::span<std::byte> own)
      : group_(group), of_rank_(of_rank), own_(own) {
    for (const Range& range : of_rank) size_ += range.size();
  }

  std::span<std::byte> own() const { return own_; }
  // Rank 0 has all of it in memory already.
  bool is_firsts() const { return of_rank_[0].size() == size_; }

  void take(Bytes whole) const {
    Exchange exchange(group_);
    const auto self = static_cast<size_t>(group_.rank());
    for (size_t r = 1; r < of_rank_.size() && self == 0; ++r) exchange.send[r] = bytes_in(whole, of_rank_[r]);
    if (self > 0)
      exchange.receive[0] = own_;
    else if (!own_.empty())
      std::memcpy(own_.data(), bytes_in(whole, of_rank_[0]).data(), own_.size());
    exchange.run();
  }

  // To rank 0, in order.
  void gather(std::vector<std::byte>& room, io::AsideFile* to) const {
    for (int64_t at = 0; at < size_; at += kGatheredAtOnce) {
      const Range piece{at, std::min(at + kGatheredAtOnce, size_)};
      const std::span<std::byte> pieces(room.data(), static_cast<size_t>(piece.size()));
      const bool others = common(piece, of_rank_[0]).size() < piece.size();
      if (others) gather_piece(piece, pieces);
      if (group_.rank() != 0) continue;
      if (const Bytes own = own_in(piece, 0); !own.empty())
        std::memcpy(pieces.data() + common(piece, of_rank_[0]).begin - at, own.data(), own.size());
      to->write(pieces);
    }
  }

 private:
  Bytes own_in(Range piece, size_t rank) const {
    const Range here = common(piece, of_rank_[rank]), mine = of_rank_[rank];
    return bytes_in(own_, here.size() == 0 ? Range{} : Range{here.begin - mine.begin, here.end - mine.begin});
  }
  void gather_piece(Range piece, std::span<std::byte> to) const {
    Exchange exchange(group_);
    const auto self = static_cast<size_t>(group_.rank());
    for (size_t r = 1; r < of_rank_.size() && self == 0; ++r) {
      const Range here = common(piece, of_rank_[r]);
      if (here.size() > 0)
        exchange.receive[r] =
            to.subspan(static_cast<size_t>(here.begin - piece.begin), static_cast<size_t>(here.size()));
    }
    if (self > 0) exchange.send[0] = own_in(piece, self);
    exchange.run();
  }

  comm::ProcessGroup& group_;
  const std::vector<Range>& of_rank_;
  std::span<std::byte> own_;
  int64_t size_ = 0;
};

// The slices of a checkpoint, on rank 0.
class Gathering {
 public:
  Gathering(comm::ProcessGroup& group, const TrainStep& step, const std::string& folder)
      : first_(group.rank() == 0),
        copies_(step.copies_fit()),
        mirrors_(step.mirrors()),
        room_(static_cast<size_t>(kGatheredAtOnce)) {
    if (first_) aside_ = std::make_unique<io::AsideFile>(folder);
  }

  // One tensor under each name, whole in this rank's memory.
  void add_whole(const std::vector<std::string>& names, DType dtype, const std::vector<int64_t>& shape,
                 std::span<std::byte> bytes) {
    if (!first_) return;
    if (copies_) mirrors_.fetch(bytes);
    const MirrorReader reader = copies_ ? MirrorReader() : mirrors_.reader(bytes);
    for (const std::string& name : names)
      slices_.push_back({name, dtype, shape, std::vector<int64_t>(shape.size(), 0), shape, bytes, reader});
  }

  void add(const std::vector<std::string>& names, DType dtype, const std::vector<int64_t>& shape,
           const SharedTensor& shared) {
    if (shared.is_firsts()) return add_whole(names, dtype, shape, shared.own());
    const int64_t begin = written();
    mirrors_.fetch(shared.own());
    shared.gather(room_, aside_.get());
    mirrors_.drop(shared.own());
    const size_t before = slices_.size();
    add_whole(names, dtype, shape, {});
    for (size_t i = before; i < slices_.size(); ++i) put_aside_.push_back({i, {begin, written()}});
  }

  std::vector<io::TensorSlice> finish(std::unique_ptr<io::AsideFile>& aside) {
    if (!first_) return {};
    const Bytes all = aside_->bytes();
    for (const auto& [slice, range] : put_aside_) slices_[slice].data = bytes_in(all, range);
    aside = std::move(aside_);
    return std::move(slices_);
  }

 private:
  int64_t written() const { return aside_ ? static_cast<int64_t>(aside_->written()) : 0; }

  bool first_, copies_;
  const HostMirrors& mirrors_;
  std::unique_ptr<io::AsideFile> aside_;
  std::vector<std::byte> room_;
  std::vector<io::TensorSlice> slices_;
  std::vector<std::pair<size_t, Range>> put_aside_;  // which slices, and where
};

std::span<std::byte> weight_of(const TrainStep::State& state) {
  if (!state.weight.defined()) return {};
  return {static_cast<std::byte*>(state.weight.raw()), state.weight.bytes()};
}

}  // namespace

void take_kept(comm::ProcessGroup& group, TrainStep& step, const io::Checkpoint* checkpoint) {
  std::optional<SavedTensors> saved;
  if (group.rank() == 0) {
    FLAGSCALE_CHECK(checkpoint != nullptr);
    saved.emplace(*checkpoint);
  }
  for (const TrainStep::State& state : step.uncopied())
    for (const TrainStep::Kept& kept : state.kept) {
      Bytes whole;
      if (saved) whole = saved->bytes(kept.role + ":" + state.name, kept.dtype, kept.shape);
      SharedTensor(group, kept.of_rank, kept.bytes).take(whole);
      step.mirrors().put(kept.bytes);
    }
  if (saved) saved->warn_if_rounded();
  step.weights_changed();
}

std::vector<io::TensorSlice> gather_snapshot(comm::ProcessGroup& group, const TrainStep& step, bool optimizer,
                                             const std::string& folder,
                                             std::unique_ptr<io::AsideFile>& aside) {
  Gathering gathering(group, step, folder);
  const std::vector<TrainStep::State> states = step.uncopied(), whole = step.loading();
  for (size_t i = 0; i < states.size(); ++i) {
    const TrainStep::State& state = states[i];
    std::vector<std::string> names{state.name};
    names.insert(names.end(), state.copies.begin(), state.copies.end());
    const DType dtype = whole[i].weight.dtype();
    if (step.shares_weights())
      gathering.add(names, dtype, state.shape, {group, state.of_rank, weight_of(state)});
    else
      gathering.add_whole(names, dtype, state.shape, weight_of(whole[i]));
    for (const TrainStep::Kept& kept : state.kept)
      if (optimizer)
        gathering.add({kept.role + ":" + state.name}, kept.dtype, kept.shape,
                      {group, kept.of_rank, kept.bytes});
  }
  return gathering.finish(aside);
}

double shared_norm(comm::ProcessGroup& group, const TrainStep& step) {
  const int self = group.rank(), ranks = group.size();
  double sum = 0;
  for (int r = 0; r < ranks; ++r) {
    if (r == self) sum = step.add_squares(sum);
    const int next = (r + 1) % ranks;
    Exchange exchange(group);
    if (self == r) exchange.send[static_cast<size_t>(next)] = std::as_bytes(std::span(&sum, 1));
    if (self == next) exchange.receive[static_cast<size_t>(r)] = std::as_writable_bytes(std::span(&sum, 1));
    exchange.run();
  }
  comm::broadcast(group, std::as_writable_bytes(std::span(&sum, 1)));
  return std::sqrt(sum);
}

}  // namespace flagscale::train
