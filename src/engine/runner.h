#pragma once
// The model with its serving weights and cache, behind one replayed plan: a mixed step of prompt chunks and single tokens,
// up to fixed capacities.

#include <memory>
#include <span>
#include <vector>

#include "io/weights.h"
#include "model/decoder/decoder.h"
#include "plan/program.h"

namespace flagscale::engine {

struct RunnerOptions {
  DType weights = DType::kF32;  // or kBF16; activations are fp32
  DType cache = DType::kF32;    // or kBF16
  int64_t max_tokens = 256;     // a step
  int64_t max_sequences = 32;
  int64_t max_length = 2048;    // tokens of a sequence
  int32_t pages = 0;            // of 16 tokens; 0: room for max_sequences of max_length
  int threads = 0;
};

// Consecutive tokens of one sequence in a step.
struct StepChunk {
  std::span<const int32_t> ids;
  int32_t first = 0;                  // position of ids[0]; what is before it is in the cache
  const std::vector<int32_t>* pages;  // of the sequence, in order of position
  std::span<const int32_t> labels;    // what follows each of the first labels.size() ids: log-probability wanted
  bool sample = false;                // the last token's logits are wanted
};

class Runner {
 public:
  // Plans, checks the memory there is (Error{kResource} before anything is allocated), allocates and loads.
  Runner(model::DecoderConfig config, const io::WeightSet& weights, const RunnerOptions& options);
  ~Runner();

  // At most max_sequences chunks of at most max_tokens tokens in all.
  void run(std::span<const StepChunk> chunks);

  // Of the i-th token of the last step that wanted something, in order.
  std::span<const float> logits(int64_t i) const;
  float logprob(int64_t i) const;  // of its label

  const RunnerOptions& options() const { return options_; }
  int32_t pages() const { return options_.pages; }
  size_t bytes() const { return arena_.bytes(); }
  const model::DecoderConfig& config() const { return decoder_->config(); }

 private:
  class Attention;
  void place_cache();
  void place_inputs();
  void trace();
  void place_token(const StepChunk& chunk, size_t i);

  RunnerOptions options_;
  Team team_;
  nn::Partition partition_;
  std::unique_ptr<model::Decoder> decoder_;
  std::unique_ptr<Attention> attention_;
  std::unique_ptr<Allocator> allocator_;
  Arena arena_;
  Program program_{"step"};
  Tensor ids_, positions_, slots_, rows_, labels_, mask_;
  Tensor logits_, losses_;
  int64_t num_tokens_ = 0, num_rows_ = 0, num_sequences_ = 0;  // live counts, read by kernels
};

}  // namespace flagscale::engine
