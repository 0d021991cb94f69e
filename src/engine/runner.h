#pragma once
// The model with its serving weights and cache, behind one replayed plan: a mixed step of prompt chunks and
// single tokens, up to fixed capacities.

#include <memory>
#include <span>
#include <vector>

#include "engine/weights.h"
#include "io/weights.h"
#include "model/decoder/decoder.h"
#include "plan/program.h"

namespace flagscale::engine {

struct RunnerOptions {
  WeightOptions weights;      // activations are fp32
  DType cache = DType::kF32;  // or kBF16
  int64_t max_tokens = 256;   // a step
  int64_t max_sequences = 32;
  int64_t max_length = 2048;  // tokens of a sequence
  int64_t max_rows = 0;       // of logits in a step; 0: twice max_sequences, at least 64, at most max_tokens
  int32_t pages = 0;          // of 16 tokens; 0: room for max_sequences of max_length
  int threads = 0;
};

// Consecutive tokens of one sequence in a step.
struct StepChunk {
  std::span<const int32_t> ids;
  std::span<const int32_t> drafts;              // guesses of what follows ids
  int32_t first = 0;                            // position of ids[0]; what is before it is in the cache
  const std::vector<int32_t>* pages = nullptr;  // of the sequence, in order of position
  int64_t first_row = 0, rows = 0;              // the logits of these of ids and drafts are wanted
  bool embed = false;                           // the hidden state of the last id is wanted
};

class Runner {
 public:
  // Plans, checks the memory there is (Error{kResource} before anything is allocated), allocates and loads.
  Runner(model::DecoderConfig config, const io::WeightSet& weights, const RunnerOptions& options);
  virtual ~Runner();

  // At most max_sequences chunks of at most max_tokens tokens and max_rows rows in all.
  virtual void run(std::span<const StepChunk> chunks);

  // The i-th of the rows that the last step wanted, in order, one after another in memory. The caller may
  // change them.
  virtual std::span<float> logits(int64_t i) const;
  // After the final norm, of the i-th chunk of the last step that wanted it.
  virtual std::span<const float> embedding(int64_t i) const;

  const Team& team() const { return team_; }
  const RunnerOptions& options() const { return options_; }
  int32_t pages() const { return options_.pages; }
  size_t bytes() const { return arena_.bytes(); }
  const model::DecoderConfig& config() const { return config_; }
  model::Decoder& decoder() { return *decoder_; }

 protected:
  // Without a model: a test stands in for it.
  Runner(model::DecoderConfig config, const RunnerOptions& options);

 private:
  class Attention;
  void place_cache();
  void place_inputs();
  void trace();
  void place_chunk(const StepChunk& chunk);
  void place_token(int32_t id, int32_t position, const std::vector<int32_t>& pages);

  RunnerOptions options_;
  model::DecoderConfig config_;
  Team team_;
  nn::Partition partition_;
  std::unique_ptr<model::Decoder> decoder_;
  std::unique_ptr<Attention> attention_;
  std::unique_ptr<Allocator> allocator_;
  Arena arena_;
  Program program_{"step"};
  Tensor ids_, positions_, slots_, rows_, embedded_rows_;
  Tensor logits_, embeddings_;
  int64_t num_tokens_ = 0, num_rows_ = 0, num_embedded_ = 0,
          num_sequences_ = 0;  // live counts, read by kernels
};

}  // namespace flagscale::engine
