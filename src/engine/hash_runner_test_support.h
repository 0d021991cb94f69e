#pragma once
// A stand-in for the model in tests of the engine. Its cache holds, for each slot, a hash of the tokens up to
// there; the next token is a function of that hash. So a page that is wrong, stale or in the wrong place
// changes the answer, and expected() says without any cache what the answer must be. With `launching` it
// stands in for a GPU: two steps may be under way, and tokens are drawn where they are computed.

#include <array>
#include <cmath>
#include <functional>
#include <vector>

#include "base/check.h"
#include "base/error.h"
#include "engine/runner.h"
#include "op/paged_attention/paged_attention.h"

namespace flagscale::engine::testing {

class HashRunner final : public Runner {
 public:
  static model::DecoderConfig config_of(int64_t vocab) {
    model::DecoderConfig config;
    config.vocab_size = vocab;
    config.hidden_size = 4;
    config.max_positions = 1 << 20;
    return config;
  }

  HashRunner(int64_t vocab, const RunnerOptions& options)
      : Runner(config_of(vocab), options), cache_(static_cast<size_t>(pages() * op::kPageTokens)) {}

  static uint64_t next_hash(uint64_t hash, int32_t token) {
    hash = (hash ^ static_cast<uint64_t>(token + 1)) * 0x9E3779B97F4A7C15ull;
    return hash ^ (hash >> 31);
  }
  // Repeats itself often enough that guesses from the text so far come true.
  static int32_t next_token(uint64_t hash, int32_t last, int64_t vocab) {
    const auto choice = static_cast<int64_t>(hash >> 40);
    return static_cast<int32_t>(choice % 8 == 0 ? choice / 8 % vocab : (last * 7 + 3) % vocab);
  }

  static std::vector<int32_t> expected(std::vector<int32_t> tokens, int count, int64_t vocab) {
    uint64_t hash = 0;
    for (const int32_t token : tokens) hash = next_hash(hash, token);
    std::vector<int32_t> output;
    for (int i = 0; i < count; ++i) {
      output.push_back(next_token(hash, tokens.back(), vocab));
      tokens.push_back(output.back());
      hash = next_hash(hash, output.back());
    }
    return output;
  }

  bool launches() const override { return launching; }
  bool draws() const override { return launching; }
  // At once, which is as early as can be: what the caller changes afterwards does not count.
  void launch(std::span<const StepChunk> chunks, int turn) override {
    run(chunks);
    drawn_of_[static_cast<size_t>(turn)] = drawn_;
  }
  void finish(int turn) override {
    if (finishes_left-- == 0) fail(ErrorKind::kDevice, "the GPU is lost");
    finished_ = turn;
  }
  const int32_t* drawn(int64_t i) const override {
    return drawn_of_[static_cast<size_t>(finished_)].data() + i;
  }

  void run(std::span<const StepChunk> chunks) override {
    drawn_before_ = drawn_;
    drawn_.clear();
    rows_.clear();
    int64_t tokens = 0;
    FLAGSCALE_CHECK(static_cast<int64_t>(chunks.size()) <= options().max_sequences);
    for (const StepChunk& chunk : chunks) tokens += run_chunk(chunk);
    FLAGSCALE_CHECK(tokens <= options().max_tokens &&
                    static_cast<int64_t>(rows_.size()) <= options().max_rows * config().vocab_size);
    if (observe) observe(chunks);
  }
  std::span<float> logits(int64_t i) const override {
    const auto vocab = static_cast<size_t>(config().vocab_size);
    return std::span(rows_).subspan(static_cast<size_t>(i) * vocab, vocab);
  }
  std::span<const float> embedding(int64_t) const override { return std::span(rows_).first(0); }

  std::function<void(std::span<const StepChunk>)> observe;
  bool launching = false;
  int finishes_left = -1;  // until one fails; negative: none does

 private:
  uint64_t& slot(const StepChunk& chunk, int64_t position) {
    const int64_t page = (*chunk.pages)[static_cast<size_t>(position / op::kPageTokens)];
    return cache_[static_cast<size_t>(page * op::kPageTokens + position % op::kPageTokens)];
  }

  int64_t run_chunk(const StepChunk& chunk) {
    const auto count = static_cast<int64_t>(chunk.ids.size() + chunk.drafts.size());
    for (int64_t i = 0; i < count; ++i) {
      const auto at = static_cast<size_t>(i);
      const int32_t id = chunk.id_row >= 0       ? drawn_before_.at(static_cast<size_t>(chunk.id_row))
                         : at < chunk.ids.size() ? chunk.ids[at]
                                                 : chunk.drafts[at - chunk.ids.size()];
      const int64_t position = chunk.first + i;
      slot(chunk, position) = next_hash(position == 0 ? 0 : slot(chunk, position - 1), id);
      if (i < chunk.first_row || i >= chunk.first_row + chunk.rows) continue;
      // Of a row the logits are there or what was drawn from it.
      const bool drawn = !chunk.draws.empty();
      rows_.resize(rows_.size() + static_cast<size_t>(config().vocab_size), drawn ? NAN : 0.f);
      const int32_t next = next_token(slot(chunk, position), id, config().vocab_size);
      drawn_.push_back(drawn ? next : -1);
      if (!drawn) (rows_.end() - static_cast<std::ptrdiff_t>(config().vocab_size))[next] = 10;
    }
    return count;
  }

  std::vector<uint64_t> cache_;
  mutable std::vector<float> rows_;
  std::vector<int32_t> drawn_, drawn_before_;  // of the last step, and of the one before it
  std::array<std::vector<int32_t>, 2> drawn_of_;
  int finished_ = 0;
};

}  // namespace flagscale::engine::testing
