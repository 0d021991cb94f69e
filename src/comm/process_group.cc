#include "comm/process_group.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace flagscale::comm {

namespace {

constexpr size_t kPiece = size_t{4} << 20;  // bytes reduced at a time: large messages, a small room

template <class T>
std::span<const std::byte> to_send(const T* data, size_t count) {
  return {reinterpret_cast<const std::byte*>(data), count * sizeof(T)};
}

template <class T>
std::span<std::byte> to_fill(T* data, size_t count) {
  return {reinterpret_cast<std::byte*>(data), count * sizeof(T)};
}

}  // namespace

size_t Reducer::room(int ranks) {
  const auto n = static_cast<size_t>(ranks);
  return (kPiece / n / sizeof(double) + 1) * n * sizeof(double);
}

Reducer::Reducer(ProcessGroup& group) : group_(group), room_(room(group.size()) / sizeof(double)) {}

template <class T>
void Reducer::sum_piece(std::span<T> piece) {
  const auto ranks = static_cast<size_t>(group_.size()), self = static_cast<size_t>(group_.rank());
  const size_t shard = (piece.size() + ranks - 1) / ranks;
  const auto first = [&](size_t r) { return std::min(r * shard, piece.size()); };
  const auto count = [&](size_t r) { return first(r + 1) - first(r); };
  T* const from_all = reinterpret_cast<T*>(room_.data());
  std::vector<std::span<const std::byte>> send(ranks);
  std::vector<std::span<std::byte>> receive(ranks);
  const size_t own = count(self);
  for (size_t r = 0; r < ranks; ++r) {
    send[r] = to_send(piece.data() + first(r), count(r));
    receive[r] = to_fill(from_all + r * own, own);
  }
  group_.exchange(send, receive);
  for (size_t r = 1; r < ranks; ++r)
    for (size_t i = 0; i < own; ++i) from_all[i] += from_all[r * own + i];
  for (size_t r = 0; r < ranks; ++r) {
    send[r] = to_send(from_all, own);
    receive[r] = to_fill(piece.data() + first(r), count(r));
  }
  group_.exchange(send, receive);
}

void Reducer::sum(std::span<float> values) {
  constexpr size_t kAtATime = kPiece / sizeof(float);
  for (size_t at = 0; at < values.size(); at += kAtATime)
    sum_piece(values.subspan(at, std::min(kAtATime, values.size() - at)));
}

void Reducer::sum(std::span<double> values) {
  constexpr size_t kAtATime = kPiece / sizeof(double);
  for (size_t at = 0; at < values.size(); at += kAtATime)
    sum_piece(values.subspan(at, std::min(kAtATime, values.size() - at)));
}

void Reducer::sum_to_each(std::span<const std::span<float>> of_rank) {
  const auto ranks = static_cast<size_t>(group_.size()), self = static_cast<size_t>(group_.rank());
  const size_t at_a_time = kPiece / sizeof(float) / ranks;
  size_t longest = 0;
  for (const std::span<float> part : of_rank) longest = std::max(longest, part.size());
  float* const from_all = reinterpret_cast<float*>(room_.data());
  std::vector<std::span<const std::byte>> send(ranks);
  std::vector<std::span<std::byte>> receive(ranks);
  for (size_t at = 0; at < longest; at += at_a_time) {
    const auto piece_of = [&](size_t r) {
      const size_t first = std::min(at, of_rank[r].size());
      return of_rank[r].subspan(first, std::min(at_a_time, of_rank[r].size() - first));
    };
    const std::span<float> own = piece_of(self);
    for (size_t r = 0; r < ranks; ++r) {
      send[r] = std::as_bytes(piece_of(r));
      receive[r] = to_fill(from_all + r * own.size(), own.size());
    }
    group_.exchange(send, receive);
    for (size_t i = 0; i < own.size(); ++i) own[i] = from_all[i];
    for (size_t r = 1; r < ranks; ++r)
      for (size_t i = 0; i < own.size(); ++i) own[i] += from_all[r * own.size() + i];
  }
}

void broadcast(ProcessGroup& group, std::span<std::byte> bytes) {
  const auto ranks = static_cast<size_t>(group.size());
  std::vector<std::span<const std::byte>> send(ranks);
  std::vector<std::span<std::byte>> receive(ranks);
  if (group.rank() == 0)
    std::fill(send.begin() + 1, send.end(), bytes);
  else
    receive[0] = bytes;
  group.exchange(send, receive);
}

std::vector<std::string> gather(ProcessGroup& group, const std::string& text) {
  const auto ranks = static_cast<size_t>(group.size());
  const uint64_t size = text.size();
  std::vector<uint64_t> sizes(ranks);
  std::vector<std::span<const std::byte>> send(ranks, to_send(&size, 1));
  std::vector<std::span<std::byte>> receive(ranks);
  for (size_t r = 0; r < ranks; ++r) receive[r] = to_fill(&sizes[r], 1);
  group.exchange(send, receive);
  std::vector<std::string> texts(ranks);
  for (size_t r = 0; r < ranks; ++r) {
    texts[r].resize(sizes[r]);
    send[r] = to_send(text.data(), text.size());
    receive[r] = to_fill(texts[r].data(), texts[r].size());
  }
  group.exchange(send, receive);
  return texts;
}

}  // namespace flagscale::comm
