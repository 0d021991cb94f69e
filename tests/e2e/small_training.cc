#include "tests/e2e/small_training.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <regex>
#include <sstream>

namespace flagscale::e2e {

namespace fs = std::filesystem;

namespace {

constexpr const char* kConfiguration = R"(
experiment: {exp_name: kill, exp_dir: out, task: {type: train}}
train:
  system:
    precision: {bf16: false}
    logging: {log_interval: 1, log_params_norm: true, tensorboard_log_interval: 1}
    checkpoint: {save_interval: 1, keep_last: 2, async_save: true}
  model:
    num_layers: 2
    hidden_size: 64
    num_attention_heads: 4
    seq_length: 16
    max_position_embeddings: 16
    normalization: RMSNorm
    swiglu: true
    position_embedding_type: rope
    disable_bias_linear: true
    untie_embeddings_and_output_weights: true
    attention_dropout: 0.0
    hidden_dropout: 0.0
    train_samples: 90
    micro_batch_size: 1
    global_batch_size: 4
    rampup_batch_size: [1, 1, 20]
    lr: 3.0e-2
    lr_decay_style: WSD
    lr_wsd_decay_samples: 30
    lr_warmup_samples: 10
    auto_skip_spiky_loss: true
    spiky_loss_threshold: 0.02
    skip_samples_range: [40, 44]
    eval_interval: 5
    eval_iters: 1
  data: {data_path: DATA, vocab_size: 1000, split: "80,20"}
)";

// Without what differs from run to run: the time of day and how long it took.
std::string timeless(const std::string& line) {
  static const std::regex kTimes("\\[[0-9 :-]+\\]|elapsed time per iteration \\(ms\\): [0-9.]+ \\|");
  return std::regex_replace(line, kTimes, "");
}

std::string bytes_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace

void write_small_training(const fs::path& folder, const std::string& name) {
  std::string text = kConfiguration;
  text.replace(text.find("DATA"), 4, "[" FLAGSCALE_SOURCE_DIR "/tests/golden/data/a]");
  std::ofstream(folder / (name + ".yaml")) << text;
}

std::vector<std::string> log_lines(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);)
    if (line.find("] iteration") != std::string::npos || line.find("validation loss") != std::string::npos)
      lines.push_back(timeless(line));
  return lines;
}

std::map<std::string, std::string> newest_checkpoint(const fs::path& run) {
  std::map<std::string, std::string> files;
  fs::path newest;
  for (const auto& entry : fs::directory_iterator(run / "out/checkpoints"))
    if (entry.is_directory()) newest = std::max(newest, entry.path());
  for (const auto& entry : fs::directory_iterator(newest))
    files[newest.filename() / entry.path().filename()] = bytes_of(entry.path());
  return files;
}

}  // namespace flagscale::e2e
