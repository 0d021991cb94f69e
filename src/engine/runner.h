#pragma once
// The model with its serving weights and cache, behind one replayed plan: a mixed step of prompt chunks and
// single tokens, up to fixed capacities.

#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "engine/adapters.h"
#include "engine/gpu_room.h"
#include "engine/gpu_steps.h"
#include "engine/weights.h"
#include "io/weights.h"
#include "model/decoder/decoder.h"
#include "op/draw_rows/draw_rows.h"
#include "plan/program.h"

namespace flagscale::engine {

struct RunnerOptions {
  WeightOptions weights;                 // activations are fp32; on a GPU of the weights' type
  DeviceKind device = DeviceKind::kCpu;  // or kCuda
  double memory_share = 0.9;             // of a GPU's memory that all who use it may have taken
  std::optional<DType> cache;  // fp32, bf16, or int8 with a scale for each token and head; none: fp32,
                               // on a GPU the weights' type
  int64_t max_tokens = 256;    // a step
  int64_t max_sequences = 32;
  int64_t max_length = 2048;  // tokens of a sequence
  int64_t max_rows = 0;       // of logits in a step; 0: twice max_sequences, at least 64, at most max_tokens
  int32_t pages = 0;          // of 16 tokens; 0: room for max_sequences of max_length, in cache_bytes at most
  size_t cache_bytes = 0;     // 0: half of the memory that the weights leave free; of a GPU's share all
  int threads = 0;
  int max_adapters = 0;  // LoRA adapters that may be loaded at once
  int64_t max_adapter_rank = 16;
  std::string lower = "--max-model-len";  // GpuRoom::lower
};

// Consecutive tokens of one sequence in a step.
struct StepChunk {
  std::span<const int32_t> ids;
  std::span<const int32_t> drafts;              // guesses of what follows ids
  int32_t first = 0;                            // position of ids[0]; what is before it is in the cache
  const std::vector<int32_t>* pages = nullptr;  // of the sequence, in order of position
  int64_t first_row = 0, rows = 0;              // the logits of these of ids and drafts are wanted
  std::span<const op::Draw> draws{};  // empty, or how each of those rows is drawn from: then its token is
                                      // wanted, not its logits
  bool embed = false;                 // the hidden state of the last id is wanted
  int32_t adapter = -1;               // slot of its LoRA adapter; -1: none
  int32_t id_row = -1;  // not negative: its only id is what the step launched before drew from this row, and
                        // ids says nothing
};

// "fp32", "bf16", "int8", and PyTorch's names of them. Throws Error naming them.
DType parse_cache_dtype(std::string_view name);

// Where a step's inputs lie, as int32: in one tensor, so that one copy takes them to a GPU.
struct StepInputs {
  Tensor all;
  Tensor ids, positions, slots;     // [max_tokens]
  Tensor adapters;                  // [max_tokens], where there may be any
  Tensor id_rows;                   // [max_tokens], on a GPU: StepChunk::id_row
  Tensor rows, embedded_rows;       // [max_rows], [max_sequences]
  Tensor draws;                     // [max_rows, op::kDrawWords]
  Tensor cu_seqlens, context_lens;  // [max_sequences + 1], [max_sequences]
  Tensor block_tables;              // [max_sequences, pages of the longest], last: a step uses its front
};

class Runner {
 public:
  // Plans, checks the memory there is (Error{kResource} before anything is allocated), allocates and loads; a
  // GPU then shows that it computes (Error{kDevice}).
  Runner(model::DecoderConfig config, const io::WeightSet& weights, const RunnerOptions& options);
  virtual ~Runner();

  // What that would take, and throws where there is too little. Nothing is allocated.
  struct Plan {
    size_t bytes, available;
    int32_t pages;
  };
  static Plan plan(model::DecoderConfig config, const io::WeightSet& weights, const RunnerOptions& options);

  // At most max_sequences chunks of at most max_tokens tokens and max_rows rows in all.
  virtual void run(std::span<const StepChunk> chunks);

  // The same in two halves, where launches(): two steps may be under way, which take turns, 0 and 1, and are
  // computed in the order in which they were launched. Chunks are not needed once launch() returns; results
  // are there when finish() does, logits and embeddings only as long as no later step that has any is
  // launched.
  virtual bool launches() const { return on_gpu(); }
  virtual void launch(std::span<const StepChunk> chunks, int turn);
  virtual void finish(int turn);

  // On a GPU: whether it times each step that is a graph, and what it took for a turn's last; 0: unknown.
  void time_gpu(bool on) {
    if (gpu_) gpu_->time_graphs(on);
  }
  double gpu_seconds(int turn) const { return gpu_ ? gpu_->seconds(turn) : 0; }

  // The i-th of the rows that the step finished last wanted, in order, one after another in memory. The
  // caller may change them.
  virtual std::span<float> logits(int64_t i) const;
  // What op::draw_rows drew from the same row and those after it, of chunks with draws.
  virtual const int32_t* drawn(int64_t i) const { return host_drawn_ + i; }
  virtual bool draws() const { return on_gpu(); }  // whether chunks may have them
  // After the final norm, of the i-th chunk of that step that wanted it.
  virtual std::span<const float> embedding(int64_t i) const;

  // When a step on the CPU last got on, in nanoseconds of the steady clock; any thread may ask.
  int64_t last_launch() const { return last_launch_.load(std::memory_order_relaxed); }
  const Team& team() const { return team_; }
  bool spares_a_core() const { return spares_a_core_; }  // while run() computes
  const RunnerOptions& options() const { return options_; }
  int32_t pages() const { return options_.pages; }
  size_t page_bytes() const;  // of one, in all layers
  size_t bytes() const { return arena_.bytes(); }
  const model::DecoderConfig& config() const { return config_; }
  model::Decoder& decoder() { return *decoder_; }
  Adapters* adapters() const { return adapters_.get(); }  // null: max_adapters is 0

 protected:
  // Without a model: a test stands in for it.
  Runner(model::DecoderConfig config, const RunnerOptions& options);

 private:
  class Attention;
  struct Results {
    Tensor logits, drawn, embeddings;  // drawn: on a GPU
  };
  bool on_gpu() const { return options_.device == DeviceKind::kCuda; }
  void place_all(const io::WeightSet& weights, bool fit);
  void place_model(const io::WeightSet& weights);
  void load_model(const io::WeightSet& weights, size_t graphs);
  void require_room() const;
  void fit_cache();
  size_t memory_for_cache() const;
  GpuRoom gpu_room(size_t model, size_t launches) const;
  size_t graphs_beside(bool given) const;
  struct StepUse {
    size_t bytes, launches;  // of transient tensors
  };
  StepUse step_use() const;
  void place_inputs();
  Results trace(Program& program, Attention& attention) const;
  void try_step();
  int32_t* host(const Tensor& input) const;
  void place(std::span<const StepChunk> chunks);
  void place_chunk(const StepChunk& chunk);
  void place_rows(const StepChunk& chunk);
  void place_token(int32_t id, int32_t position, const StepChunk& chunk);

  RunnerOptions options_;
  model::DecoderConfig config_;
  Team team_, alone_{1};
  std::atomic<int64_t> last_launch_{0};
  WeightUse use_;
  const bool spares_a_core_;
  nn::Partition partition_;
  std::unique_ptr<model::Decoder> decoder_;
  std::unique_ptr<Attention> attention_;
  std::unique_ptr<Adapters> adapters_;
  std::unique_ptr<Allocator> allocator_;
  Arena arena_;
  Program program_{"step"};
  StepInputs inputs_;
  Tensor drawn_;  // of the step launched last, on a GPU
  Results results_;
  int32_t* host_inputs_ = nullptr;  // the same in the host's reach
  float *host_logits_ = nullptr, *host_embeddings_ = nullptr;
  const int32_t* host_drawn_ = nullptr;
  int64_t num_tokens_ = 0, num_rows_ = 0, num_embedded_ = 0, num_sequences_ = 0, longest_chunk_ = 0,
          longest_context_ = 0;  // live counts, read by kernels
  int64_t num_adapted_ = 0;      // tokens of the step where one of them has an adapter, or 0
  int64_t attended_ = 0;         // by all tokens of the step
  DType activations_ = DType::kF32;
  std::unique_ptr<GpuSteps> gpu_;               // null: on the CPU
  std::vector<GpuSteps::RowRange> logit_rows_;  // of the step, that come back from it
  std::jthread keeping_;  // writes the packed weights for the next start, which this one need not wait for
};

}  // namespace flagscale::engine
