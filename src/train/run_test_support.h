#pragma once
// A whole training run in a test: small options over the golden data, what it prints, and what it leaves.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <span>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "base/log.h"
#include "io/xxh64.h"
#include "train/trainer.h"

namespace flagscale::train::testing {

inline TrainOptions tiny_run(int64_t iterations = 6) {
  TrainOptions o;
  o.model.num_layers = 1, o.model.hidden_size = 32, o.model.num_heads = 4, o.model.num_kv_heads = 2,
  o.model.head_dim = 8;
  o.model.intermediate_size = 48, o.model.vocab_size = 1000, o.model.max_positions = 16,
  o.model.rope.head_dim = 8;
  o.seq_length = 16, o.micro_batch_size = 2, o.global_batch_size = 4, o.train_iters = iterations;
  o.lr.style = "constant", o.lr.lr = 1e-2, o.lr.decay_samples = iterations * 4, o.lr.global_batch_size = 4;
  o.data.data_path = {FLAGSCALE_SOURCE_DIR "/tests/golden/data/a"}, o.data.split = "80,20",
  o.data.sequence_length = 16, o.data.vocab_size = 1000;
  o.data.samples = {1000, 1000, 1000};
  o.log_interval = 1;
  return o;
}

struct Printed {
  TrainResult result;
  std::string text;
};

inline Printed run_printed(Trainer& trainer) {
  char* buffer = nullptr;
  size_t size = 0;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> out(open_memstream(&buffer, &size), &std::fclose);
  const auto text = [&] {
    out.reset();
    std::string all(buffer, size);
    std::free(buffer);
    return all;
  };
  try {
    TrainResult result = trainer.run(out.get());
    return {std::move(result), text()};
  } catch (...) {
    text();
    throw;
  }
}

// Of weights and of what the optimizer keeps.
inline uint64_t digest_of(const TrainStep& step) {
  io::Xxh64 hash;
  for (const TrainStep::State& state : step.states()) {
    if (state.size > 0)
      hash.update({static_cast<const std::byte*>(state.weight.raw()), state.weight.bytes()});
    for (const TrainStep::Kept& kept : state.kept) hash.update(kept.bytes);
  }
  return hash.digest();
}

struct Line {
  int64_t iteration, consumed, skipped_samples, batch, skipped, nan;
  double rate;
  std::string loss, norm;  // as printed; "" where there is none
};

inline std::string after(const std::string& line, const std::string& label) {
  const size_t at = line.find(label);
  if (at == std::string::npos) return "";
  std::istringstream rest(line.substr(at + label.size()));
  std::string word;
  rest >> word;
  return word;
}

struct Ran {
  TrainResult result;
  std::string text;
  std::vector<Line> lines;
  uint64_t digest = 0;  // of weights and moments
};

inline Ran run(const TrainOptions& options) {
  set_log_level(LogLevel::kWarning);
  Trainer trainer(options);
  auto [result, printed] = run_printed(trainer);
  Ran ran{std::move(result), std::move(printed), {}, 0};
  ran.digest = digest_of(trainer.step());
  std::istringstream text(ran.text);
  const auto number = [](const std::string& word) { return word.empty() ? 0 : std::stoll(word); };
  for (std::string line; std::getline(text, line);)
    if (line.find("] iteration") != std::string::npos)
      ran.lines.push_back({number(after(line, "] iteration")), number(after(line, "| consumed samples:")),
                           number(after(line, "skipped samples:")), number(after(line, "global batch size:")),
                           number(after(line, "skipped iterations:")), number(after(line, "nan iterations:")),
                           std::stod(after(line, "learning rate:")), after(line, "lm loss:"),
                           after(line, "grad norm:")});
  return ran;
}

}  // namespace flagscale::train::testing
