#pragma once
// Our training checkpoints. DIR/latest_checkpointed_iteration.txt names the newest; DIR/iter_0000100/ holds
//   manifest.json         format version, training state, and for every tensor its shards: slice, file,
//   offset, checksum rank_00000_00000.safetensors, ...   the bytes, readable by any safetensors reader
//
// A checkpoint is written into iter_0000100.tmp, flushed to disk, renamed, and only then named by the tracker
// file: a kill at any moment leaves the old checkpoint or the new one. Checksums are XXH64 of a shard's bytes
// in the file; the manifest carries one of itself. Readers accept every older format version and refuse a
// newer one by name.
//
// Tensors go by logical name and role, never by bucket or rank: role "weight" has the plain name
// ("model.norm.weight"), others are "role:name" ("exp_avg:model.norm.weight"). Role and name are the
// trainer's choice.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/weights.h"
#include "tensor/dtype.h"

namespace flagscale::io {

constexpr int kCheckpointVersion = 1;
constexpr const char* kTrackerFile = "latest_checkpointed_iteration.txt";

// What a run needs beside tensors to go on bit for bit.
struct TrainingState {
  int64_t iteration = 0;
  int64_t consumed_samples = 0;
  int threads = 0;
  std::string instruction_set;  // "avx512"
  std::string config;           // the resolved configuration, YAML
  // RNG, schedule and loss state; exact_text() for numbers. "config.json" (the model, as Hugging Face writes
  // it) and "tokenizer" (a path) let export and generation know the model.
  std::map<std::string, std::string> extra;
};
std::string exact_text(
    double value);  // hexadecimal, so that parse_exact() gives the same bits (NaN and inf too)
double parse_exact(const std::string& text);

// A contiguous block of memory that is a slice of a logical tensor. The slice is [start, start + size) in
// each dimension.
struct TensorSlice {
  std::string name;  // with its role
  DType dtype = DType::kF32;
  std::vector<int64_t> global_shape, start, size;
  std::span<const std::byte> data;
  // Instead of data: reads what lies `at` bytes into the block, which must stay until the save is over.
  std::function<void(size_t at, std::span<std::byte> to)> read = {};

  size_t bytes() const;
};
TensorSlice whole_tensor(std::string name, DType dtype, std::vector<int64_t> shape,
                         std::span<const std::byte> data);

struct SaveOptions {
  int keep_last = 0;                            // older checkpoints are removed after a save; 0 keeps all
  uint64_t max_file_bytes = uint64_t{4} << 30;  // shards are cut into files of about this size
};

// Saves on a thread of its own: memory of the snapshot must stay as it is until wait() returns. One save at a
// time.
class CheckpointWriter {
 public:
  // Makes the folder and locks it while the writer lives. Errors: kResource where it cannot be written to,
  // kBusy where another process's writer has it.
  explicit CheckpointWriter(std::string dir, SaveOptions options = {});
  ~CheckpointWriter();  // waits; an error not yet seen is printed to stderr
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  // Waits for a save in flight first; where slices are read, for this one too.
  void start(TrainingState state, std::vector<TensorSlice> snapshot);
  void wait();                                                        // rethrows what went wrong
  bool busy() const;                                                  // a save is in flight
  void save(TrainingState state, std::vector<TensorSlice> snapshot);  // start and wait

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// One checkpoint, opened. The manifest is checked in full, and each shard's checksum when it is first read.
class Checkpoint {
 public:
  // `path`: an iter_* folder, or the folder above it (then the tracker's, or the newest if there is no
  // tracker). A damaged one is refused, naming the file; the message then offers the newest whole checkpoint
  // beside it.
  explicit Checkpoint(const std::string& path);
  ~Checkpoint();

  const std::string& folder() const;  // the iter_* folder
  const TrainingState& state() const;
  int version() const;
  const std::vector<TensorInfo>& tensors() const;  // sorted by name, every role
  const TensorInfo* find(std::string_view name) const;

  // Reads the slice [start, start + size) of a tensor; out holds exactly its bytes, in the tensor's dtype.
  void read(std::string_view name, std::span<const int64_t> start, std::span<const int64_t> size,
            std::span<std::byte> out) const;
  void read(std::string_view name, std::span<std::byte> out) const;  // the whole tensor

  // The whole tensor where it is mapped, when one shard holds it; else empty.
  std::span<const std::byte> mapped(std::string_view name) const;

  void verify() const;  // every shard's checksum; throws kCorrupt naming the file

 private:
  struct State;
  std::unique_ptr<State> state_;
};

bool is_checkpoint(const std::string& path);  // what Checkpoint() would take
std::vector<std::string> list_checkpoints(
    const std::string& dir);  // iter_* folders that have a manifest, oldest first
std::string newest_whole_checkpoint(const std::string& dir);  // fully verified; empty when there is none

}  // namespace flagscale::io
