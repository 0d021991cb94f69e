#pragma once
// A model that says what its prompt tells it to, for tests of everything around a model. It reads the text
// between the last << and >> of the prompt, and writes it after the prompt, then ends the sequence. Where it
// would write the byte 1, and where an embedded prompt has it, it gives NaN; where it would write the byte 2,
// its GPU is lost. Its tokenizer has a token a byte, and a few of several.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "engine/engine.h"
#include "engine/load.h"
#include "text/bpe_encoder.h"
#include "text/byte_alphabet.h"

namespace flagscale::serve::testing {

constexpr int64_t kPageTokens = 16;          // of the engine's cache
constexpr int32_t kEnd = 256, kStart = 257;  // <|im_end|>, <|im_start|>

// ChatML, as Qwen's models have it.
inline const char* kTemplate =
    "{%- if tools %}<|im_start|>system\n{% for tool in tools %}{{ tool | tojson }}\n{% endfor "
    "%}<tool_call><|im_end|>\n{% endif %}"
    "{%- for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% "
    "endfor %}"
    "{%- if add_generation_prompt %}<|im_start|>assistant\n{% if think %}<think>\n{% endif %}{% endif %}{# "
    "</think> #}";

// special: one more special token, 263.
inline std::unique_ptr<text::Tokenizer> make_tokenizer(const std::string& special = {}) {
  text::TokenTable::Builder table;
  for (int byte = 0; byte < 256; ++byte)
    table.add(static_cast<uint64_t>(byte), text::bytes_to_alphabet(std::string(1, static_cast<char>(byte))),
              "test");
  text::BpeSpec spec;
  spec.tokens = table.build();
  spec.added = {
      {kEnd, "<|im_end|>", true}, {kStart, "<|im_start|>", true}, {258, "<think>"}, {259, "</think>"},
      {260, "<tool_call>"},       {261, "</tool_call>"},          {262, " the"}};
  if (!special.empty()) spec.added.push_back({263, special, true});
  text::TokenizerInfo info;
  info.source = "scripted";
  info.eos = kEnd;
  info.chat_template = kTemplate;
  return std::make_unique<text::Tokenizer>(text::make_bpe_encoder(std::move(spec)), std::move(info));
}

class ScriptedRunner final : public engine::Runner {
 public:
  static constexpr int64_t kVocab = 264;
  static constexpr int32_t kBroken = 1, kLost = 2;
  static constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

  static model::DecoderConfig config_of() {
    model::DecoderConfig config;
    config.vocab_size = kVocab;
    config.hidden_size = 4;
    config.max_positions = 1 << 16;
    return config;
  }
  static engine::RunnerOptions options_of(int64_t max_length, int64_t max_sequences) {
    engine::RunnerOptions options;
    options.max_length = max_length;
    options.max_sequences = max_sequences;
    return options;
  }
  ScriptedRunner(int64_t max_length, int64_t max_sequences, std::shared_ptr<std::atomic<int>> step_ms)
      : Runner(config_of(), options_of(max_length, max_sequences)),
        step_ms_(std::move(step_ms)),
        cache_(static_cast<size_t>(pages()) * kPageTokens) {}

  void run(std::span<const engine::StepChunk> chunks) override {
    std::this_thread::sleep_for(std::chrono::milliseconds(*step_ms_));
    rows_.clear(), embeddings_.clear();
    for (const engine::StepChunk& chunk : chunks) run_chunk(chunk);
  }
  std::span<float> logits(int64_t i) const override {
    return std::span(rows_).subspan(static_cast<size_t>(i * kVocab), static_cast<size_t>(kVocab));
  }
  std::span<const float> embedding(int64_t i) const override {
    return std::span(embeddings_).subspan(static_cast<size_t>(i) * 4, 4);
  }

 private:
  void run_chunk(const engine::StepChunk& chunk) {
    const auto slot = [&](int64_t position) -> int32_t& {
      const int64_t page = (*chunk.pages)[static_cast<size_t>(position / kPageTokens)];
      return cache_[static_cast<size_t>(page * kPageTokens + position % kPageTokens)];
    };
    const auto count = static_cast<int64_t>(chunk.ids.size() + chunk.drafts.size());
    std::vector<int32_t> history;
    for (int64_t at = 0; at < chunk.first; ++at) history.push_back(slot(at));
    for (int64_t i = 0; i < count; ++i) {
      const auto at = static_cast<size_t>(i);
      history.push_back(slot(chunk.first + i) =
                            at < chunk.ids.size() ? chunk.ids[at] : chunk.drafts[at - chunk.ids.size()]);
      if (i < chunk.first_row || i >= chunk.first_row + chunk.rows) continue;
      rows_.resize(rows_.size() + static_cast<size_t>(kVocab), 0.f);
      const auto row = rows_.end() - static_cast<std::ptrdiff_t>(kVocab);
      const int32_t token = next(history);
      if (token == kLost) fail(ErrorKind::kDevice, "[cuda] a kernel failed: CUDA_ERROR_UNKNOWN");
      if (token == kBroken)
        std::fill(row, rows_.end(), kNaN);
      else
        row[token] = 30;
    }
    if (chunk.embed && std::ranges::find(history, kBroken) != history.end())
      embeddings_.insert(embeddings_.end(), 4, kNaN);
    else if (chunk.embed)
      embeddings_.insert(embeddings_.end(), {3, 0, static_cast<float>(history.size()), 4});
  }
  static int32_t next(const std::vector<int32_t>& history) {
    const auto find_last = [&](char c, size_t end) {
      for (size_t i = end; i-- > 1;)
        if (history[i] == c && history[i - 1] == c) return i - 1;
      return std::string::npos;
    };
    const size_t close = find_last('>', history.size()),
                 open = close == std::string::npos ? close : find_last('<', close);
    if (open == std::string::npos) return kEnd;
    size_t begin = close + 2;  // of the output: after the script, or after the line "<|im_start|>assistant"
    for (size_t i = begin; i < history.size(); ++i)
      if (history[i] == kStart) begin = i + 1 + std::string_view("assistant\n").size();
    const size_t done = history.size() - std::min(begin, history.size());
    const size_t length = close - open - 2;
    return done < length ? history[open + 2 + done] : kEnd;
  }

  std::shared_ptr<std::atomic<int>> step_ms_;
  std::vector<int32_t> cache_;
  mutable std::vector<float> rows_;
  std::vector<float> embeddings_;
};

inline engine::LoadedModel scripted_model() {
  engine::LoadedModel model;
  model.path = "scripted";
  model.config = ScriptedRunner::config_of();
  model.tokenizer = make_tokenizer();
  model.stop_ids = {kEnd};
  return model;
}

}  // namespace flagscale::serve::testing
