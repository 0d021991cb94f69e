#pragma once
// The ranks that work on one model, and what they do together. A back end (comm/local, comm/tcp) only moves
// bytes; every sum is ours and in rank order, so the same ranks give the same bits whatever carries them.
//
// All ranks call the same collectives in the same order, from one thread each. The first error ends the
// group: its rank tells the others, and they throw Error{kResource} with *that* rank's words, at once and at
// every later call. A rank that says nothing for the group's deadline, or whose connection closes, is named.

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace flagscale::comm {

class ProcessGroup {
 public:
  virtual ~ProcessGroup() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;

  // Sends send[r] to every rank r and fills receive[r] with what r sent to this one, itself included. Sizes
  // are agreed beforehand: another size is an error, since the ranks then run different programs. The spans
  // of one call do not overlap.
  virtual void exchange(std::span<const std::span<const std::byte>> send,
                        std::span<const std::span<std::byte>> receive) = 0;

  // Between collectives: throws as they do if another rank is known to have ended. Does not wait.
  virtual void check_others() = 0;

  // This rank ends because of `what`; the others are told as far as they can be reached.
  virtual void abort(const std::string& what) noexcept = 0;
};

// The sum over all ranks, the same bits on each: piece by piece, every rank adds one shard in rank order and
// hands it to the others. Moves 2 (size - 1) / size of the data each way. It has room of its own, taken once.
class Reducer {
 public:
  explicit Reducer(ProcessGroup& group);
  void sum(std::span<float> values);
  void sum(std::span<double> values);
  // Every rank's part of the values, [rank], becomes the sum there, with the same bits; the others stay as
  // they are. Half as much is moved.
  void sum_to_each(std::span<const std::span<float>> of_rank);

  // Bytes of the room that reducing in a group of this size takes.
  static size_t room(int ranks);

 private:
  template <class T>
  void sum_piece(std::span<T> piece);
  ProcessGroup& group_;
  std::vector<double> room_;  // of doubles for their alignment
};

// Rank 0's bytes, on every rank.
void broadcast(ProcessGroup& group, std::span<std::byte> bytes);

// Every rank's text, by rank.
std::vector<std::string> gather(ProcessGroup& group, const std::string& text);

}  // namespace flagscale::comm
