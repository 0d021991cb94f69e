// What the ranks of a TrainStep do together: gradients are added up, their norm is that of all, and where
// each updates a share the others are told.
#include <algorithm>

#include "train/step.h"

namespace flagscale::train {

namespace {

Tensor part_of(const Tensor& of, Range range) {
  return {of.storage(),
          of.offset() + static_cast<size_t>(range.begin) * size_of(of.dtype()),
          of.dtype(),
          {range.size()}};
}

std::span<std::byte> memory_of(const Tensor& tensor) {
  return {tensor.view().ptr<std::byte>(), tensor.bytes()};
}

// What of a share lies in a block of the norm that another share begins.
Range head_of(Range share) {
  const int64_t block = (share.begin + op::kNormBlock - 1) / op::kNormBlock * op::kNormBlock;
  return common(share, {share.begin, block});
}

}  // namespace

void TrainStep::sum_on(cuda::RankGpus& ranks, Range elements) {
  if (!shares())
    return ranks.sum(stretch(grads_, elements).view().ptr<float>(), static_cast<size_t>(elements.size()));
  std::vector<std::span<float>> of_rank;
  for (const Range& share : shares_) {
    const Range some = common(elements, share);
    of_rank.emplace_back(part_of(grads_, some).view().ptr<float>(), static_cast<size_t>(some.size()));
  }
  ranks.sum_to_each(of_rank);
}

std::vector<std::span<std::byte>> TrainStep::exchanged() const {
  std::vector<std::span<std::byte>> memory{memory_of(exchange_room_), memory_of(grads_)};
  if (!shares()) return memory;
  memory.push_back(memory_of(block_squares_));
  memory.push_back(memory_of(shares_weights() ? working_ : master_));
  return memory;
}

void TrainStep::reduce_gradients(comm::Reducer& reducer) {
  to_host({&grads_});
  float* const grads = host(grads_).data<float>();
  if (!shares()) {
    reducer.sum({grads, static_cast<size_t>(bucket_size_)});
    return to_device({&grads_});
  }
  std::vector<std::span<float>> of_rank;
  for (const Range& share : shares_)
    of_rank.emplace_back(grads + share.begin, static_cast<size_t>(share.size()));
  reducer.sum_to_each(of_rank);
  if (!on_host() && own().size() > 0)
    copy_from_host(stretch(host(grads_), own()).raw(), stretch(grads_, own()));
}

// The blocks that begin in a share.
Range TrainStep::blocks_of(Range share) {
  return {(share.begin + op::kNormBlock - 1) / op::kNormBlock,
          (share.end + op::kNormBlock - 1) / op::kNormBlock};
}

// A block's squares are added by the rank whose share it begins in, so the sums are those of one rank alone.
float TrainStep::gradient_norm(const RankLink* link) {
  if (shares()) {
    std::vector<Range> heads, blocks;
    for (const Range& share : shares_) {
      heads.push_back(head_of(share));
      blocks.push_back(blocks_of(share));
    }
    gather(*link, grads_, heads);
    squares_.run(team_);
    gather(*link, block_squares_, blocks);
    norm_.run(team_);
  } else {
    const auto launches = [&] {
      squares_.start(team_);
      norm_.start(team_);
    };
    replays() ? replayed_norm_.run(launches) : launches();
  }
  float norm = 0;
  copy_to_host(norm_value_, &norm);
  return norm;
}

void TrainStep::gather_weights(const RankLink& link) {
  gather(link, shares_weights() ? working_ : master_, shares_);
  rounded_ = 0;
}

// What each rank has of a tensor, on all of them.
void TrainStep::gather(const RankLink& link, const Tensor& of, const std::vector<Range>& of_rank) {
  if (std::all_of(of_rank.begin(), of_rank.end(), [](const Range& range) { return range.size() == 0; }))
    return;
  if (!link.gpus) return gather_through_hosts(*link.group, of, of_rank);
  std::vector<std::span<std::byte>> bytes;
  for (const Range& range : of_rank) bytes.push_back(memory_of(part_of(of, range)));
  link.gpus->share(bytes);
  link.gpus->wait();
}

void TrainStep::gather_through_hosts(comm::ProcessGroup& group, const Tensor& of,
                                     const std::vector<Range>& of_rank) {
  const Tensor here = host(of);
  const auto self = static_cast<size_t>(group.rank());
  const auto copied = [&](size_t r) { return !on_host() && of_rank[r].size() > 0; };
  if (copied(self)) copy_to_host(part_of(of, of_rank[self]), part_of(here, of_rank[self]).raw());
  std::vector<std::span<const std::byte>> send(of_rank.size());
  std::vector<std::span<std::byte>> receive(of_rank.size());
  for (size_t r = 0; r < of_rank.size(); ++r) {
    if (r == self) continue;
    send[r] = memory_of(part_of(here, of_rank[self]));
    receive[r] = memory_of(part_of(here, of_rank[r]));
  }
  group.exchange(send, receive);
  for (size_t r = 0; r < of_rank.size(); ++r)
    if (r != self && copied(r)) copy_from_host(part_of(here, of_rank[r]).raw(), part_of(of, of_rank[r]));
}

}  // namespace flagscale::train
