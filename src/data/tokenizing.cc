#include "data/tokenizing.h"

#include <fmt/core.h>

#include <algorithm>
#include <filesystem>
#include <vector>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/progress.h"
#include "io/gguf_weights.h"
#include "text/gguf_vocab.h"

namespace flagscale::data {
namespace {

namespace fs = std::filesystem;

std::string describe_file(const fs::path& path) {
  std::error_code ignored;
  const auto time = fs::last_write_time(path, ignored).time_since_epoch().count();
  return fmt::format("{} {} {};", path.filename().string(), fs::file_size(path, ignored), time);
}

// Only files of a tokenizer: a model's folder also holds weights and logs, which may change.
bool belongs_to_tokenizer(const std::string& name) {
  constexpr const char* kStarts[] = {"tokenizer", "vocab", "merges", "special_tokens", "added_tokens"};
  return std::any_of(std::begin(kStarts), std::end(kStarts),
                     [&](const char* s) { return name.starts_with(s); }) ||
         name.ends_with(".model") || name.ends_with(".tiktoken");
}

std::string describe(const TokenizerChoice& choice, bool add_special) {
  std::string text = fmt::format("{} {} {} {};", choice.type, choice.path, choice.vocab_size, add_special);
  std::error_code none;
  for (const auto& file : {choice.path, choice.vocab_file, choice.merge_file, choice.special_tokens_file})
    if (!file.empty() && fs::is_regular_file(file, none)) text += describe_file(file);
  std::vector<std::string> inside;
  if (fs::is_directory(choice.path, none))
    for (const auto& entry : fs::directory_iterator(choice.path, none))
      if (entry.is_regular_file(none) && belongs_to_tokenizer(entry.path().filename().string()))
        inside.push_back(describe_file(entry.path()));
  std::sort(inside.begin(), inside.end());
  for (const auto& file : inside) text += file;
  return text;
}

}  // namespace

std::shared_ptr<const text::Tokenizer> open_tokenizer(const TokenizerChoice& choice) {
  if (choice.path.ends_with(".gguf")) {  // whatever its type is called: the file decides
    const io::GgufFile file(choice.path);
    return text::tokenizer_from_gguf(io::gguf_tokenizer(file).as<text::GgufVocab>(), choice.path);
  }
  if (choice.type.empty()) {
    if (choice.path.empty()) fail(ErrorKind::kInvalidArgument, "no tokenizer: give --tokenizer PATH");
    return text::load_tokenizer(choice.path);
  }
  text::MegatronTokenizer spec;
  spec.type = choice.type;
  spec.vocab_file = choice.vocab_file;
  spec.merge_file = choice.merge_file;
  spec.special_tokens_file = choice.special_tokens_file;
  spec.tokenizer_model = choice.path;
  spec.tokenizer_path = choice.path;
  spec.vocab_size = choice.vocab_size;
  return text::load_megatron_tokenizer(spec);
}

void use_tokenizer(const TokenizerChoice& choice, std::shared_ptr<const text::Tokenizer> tokenizer,
                   bool add_special, PreprocessOptions& options) {
  options.vocab_size = tokenizer->vocab_size();
  options.eod = tokenizer->eos();
  options.tokenizer_id = describe(choice, add_special);
  options.make_encoder = [tokenizer = std::move(tokenizer), add_special] {
    return [tokenizer, add_special](std::string_view piece, std::vector<int32_t>& ids) {
      tokenizer->encode(piece, add_special, ids);
    };
  };
}

int64_t train_tokenizer(const std::vector<std::string>& inputs, text::BpeTraining training,
                        const std::string& folder) {
  std::unique_ptr<Progress> bar;
  std::string current;
  training.progress = [&](std::string_view phase, int64_t done, int64_t total) {
    if (!bar || current != phase) {
      bar.reset();
      current = phase;
      bar = std::make_unique<Progress>(current, total, current == "merge" ? "merges" : "B");
    }
    bar->set(done);
    throw_if_interrupted();
  };
  return text::train_bpe_files(inputs, training, folder).vocab_size;
}

}  // namespace flagscale::data
