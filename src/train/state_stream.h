#pragma once
// What an optimizer keeps in the host's memory (optimizer_cpu_offload), on its way through the device's: its
// buckets are cut into pieces, alike in all of them, and of three pieces one comes, one is updated by the
// kernels that would update it at home, so with the same bits, and one goes back. No piece waits for the one
// before it to be back; only its room in the device's memory, the third's before it, must be free.

#include <vector>

#include "device/lanes.h"
#include "tensor/tensor.h"
#include "train/optimizer/share.h"

namespace flagscale::train {

class StateStream {
 public:
  // Buckets of fp32 numbers, one for each of `elements`, which begin and end at whole cache lines.
  explicit StateStream(Range elements);

  size_t pieces() const { return pieces_.size(); }
  const Range& piece(size_t i) const { return pieces_[i]; }
  size_t rooms() const;              // pieces that are in the device's memory at once
  int64_t staging_elements() const;  // what each bucket needs there
  size_t marks() const { return 3 * rooms(); }

  // A bucket, and where its pieces pass: staging_elements() long.
  void add(Tensor away, Tensor staging);
  size_t buckets() const { return buckets_.size(); }
  // The bucket that lies in this memory.
  size_t bucket_of(const Storage& away) const;
  // Some elements of a piece, where they pass and where they stay.
  Tensor staged(size_t bucket, size_t piece, Range elements) const;
  Tensor away(size_t bucket, Range elements) const;

  // Launches [begin, end) of the update are those of the next piece; called for each, in order.
  void set_launches(size_t begin, size_t end);

  // Once the memory is there, for each update: at its start, and after each launch how many there were. All
  // pieces are back when the lanes have done what they were asked.
  void start(Lanes& lanes);
  void launched(Lanes& lanes, size_t launches);

 private:
  size_t room(size_t piece) const { return piece % rooms(); }
  size_t came(size_t piece) const { return room(piece); }
  size_t updated(size_t piece) const { return rooms() + room(piece); }
  size_t gone(size_t piece) const { return 2 * rooms() + room(piece); }
  void fetch(Lanes& lanes, size_t piece) const;
  void put_back(Lanes& lanes, size_t piece) const;

  struct Bucket {
    Tensor away, staging;
  };
  struct Launches {
    size_t begin, end;
  };
  Range elements_;
  int64_t piece_elements_;
  std::vector<Range> pieces_;
  std::vector<Bucket> buckets_;
  std::vector<Launches> launches_;  // of each piece
  size_t next_ = 0;                 // the piece whose launches are next or under way
};

}  // namespace flagscale::train
