#pragma once
// The options that generate and score share, and the engine that they give.

#include <memory>
#include <string>

#include "engine/answer.h"
#include "engine/engine.h"
#include "engine/load.h"

namespace CLI {
class App;
}

namespace flagscale {

struct EngineOptions {
  std::string model, tokenizer, dtype = "auto", quantization, compute = "exact", cache = "auto", prompts;
  std::string device = "auto";
  std::string lora;           // folder of a PEFT adapter; a request names it by that
  double gpu_memory = 0.9;    // share of a GPU's memory
  int64_t max_model_len = 0;  // 0: as long as the longest request
  int threads = 0;
  bool quantize_lm_head = false;
  bool json = false, weight_cache = true;
};

void add_engine_options(CLI::App& app, EngineOptions& options);

// What an engine takes where nothing is said: sequences at once, tokens of a step.
inline int64_t usual_sequences(DeviceKind device) { return device == DeviceKind::kCuda ? 256 : 32; }
inline int64_t usual_step_tokens(DeviceKind device) { return device == DeviceKind::kCuda ? 2048 : 256; }

// Weights, cache and device of a runner; its capacities are the caller's.
engine::RunnerOptions runner_options(const EngineOptions& options);

// The model with its tokenizer; throws Error when it brings none.
engine::LoadedModel open_model(const EngineOptions& options);

// An engine whose sequences hold `longest` tokens (or --max-model-len). score: the logits of every token are
// wanted.
std::unique_ptr<engine::Engine> make_engine(const engine::LoadedModel& model, const EngineOptions& options,
                                            int64_t longest, int64_t sequences, bool score = false);

// Engine::add(); an error names the prompt's place.
void add_request(engine::Engine& engine, engine::Request request, engine::Sink sink,
                 const std::string& where);

// Throws Error{kCorrupt} naming the model and the prompt's place where the engine ended it with an error.
void require_answer(const engine::Answer& answer, const engine::LoadedModel& model, const std::string& where);

// Steps until nothing is left or the user interrupts (Error{kInterrupted}).
void run_engine(engine::Engine& engine);

}  // namespace flagscale
