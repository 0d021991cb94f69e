#include "text/bpe_trainer.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <queue>
#include <unordered_map>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/made_folder.h"
#include "base/text_encoding.h"
#include "text/bpe_json.h"
#include "text/byte_alphabet.h"
#include "text/files.h"
#include "text/pre_tokenizer.h"
#include "text/unicode.h"
#include "text/word_counts.h"

namespace flagscale::text {
namespace {

struct Pair {
  int32_t left, right;
  friend bool operator==(const Pair&, const Pair&) = default;
};
struct PairHash {
  size_t operator()(const Pair& pair) const {
    const auto key =
        static_cast<uint64_t>(static_cast<uint32_t>(pair.left)) << 32 | static_cast<uint32_t>(pair.right);
    return (key ^ key >> 31) * 0x9e3779b97f4a7c15u >> 8;
  }
};

// A pair in the queue with the count it had then. The largest count comes first, then the lowest ids, as in
// the crate.
struct Candidate {
  int64_t count;
  Pair pair;
  bool operator<(const Candidate& other) const {
    if (count != other.count) return count < other.count;
    if (pair.left != other.pair.left) return pair.left > other.pair.left;
    return pair.right > other.pair.right;
  }
};

class Trainer {
 public:
  explicit Trainer(const BpeTraining& training) : training_(training) {
    for (const std::string& token : training.special_tokens) {
      if (token.empty() || !ids_.emplace(token, count()).second)
        fail(ErrorKind::kInvalidArgument, "special token '{}' is empty or named twice", token);
      texts_.push_back(token);
    }
    for (size_t i = 0; i < 256; ++i) {
      const uint8_t byte = kBytesInOrder[i];
      std::string text = bytes_to_alphabet(std::string(1, static_cast<char>(byte)));
      byte_id_[byte] = count();
      if (!ids_.emplace(text, count()).second)
        fail(ErrorKind::kInvalidArgument, "special token '{}' is one of the 256 bytes", text);
      texts_.push_back(std::move(text));
    }
  }

  void add_words(const std::vector<WordCount>& words) {
    for (const WordCount& each : words) {
      Word word{symbols_.size(), each.word.size(), each.count};
      for (const char byte : each.word) symbols_.push_back(byte_id_[static_cast<unsigned char>(byte)]);
      for (size_t i = 0; i + 1 < word.size; ++i)
        change({symbols_[word.begin + i], symbols_[word.begin + i + 1]}, word.count, words_.size());
      words_.push_back(word);
    }
    push_changed();
  }

  void merge_all() {
    const int64_t first = count();
    while (count() < training_.vocab_size && !queue_.empty()) {
      Candidate top = queue_.top();
      queue_.pop();
      const auto found = pairs_.find(top.pair);
      const int64_t now = found == pairs_.end() ? 0 : found->second.count;
      if (now != top.count) {  // changed since it was queued
        top.count = now;
        if (now > 0) queue_.push(top);
        continue;
      }
      if (top.count < std::max<int64_t>(1, training_.min_frequency)) break;
      merge(top.pair, std::move(found->second.words));
      pairs_.erase(top.pair);
      push_changed();
      if (merges_.size() % 64 == 0) {
        throw_if_interrupted();
        if (training_.progress) training_.progress("merge", count() - first, training_.vocab_size - first);
      }
    }
    if (training_.progress) training_.progress("merge", count() - first, count() - first);
  }

  BpeSpec spec(PreTokenizer pre) && {
    BpeSpec spec;
    spec.pre = pre;
    TokenTable::Builder builder;
    for (size_t id = 0; id < texts_.size(); ++id) builder.add(id, texts_[id], "the trained vocabulary");
    spec.tokens = builder.build();
    for (size_t id = 0; id < training_.special_tokens.size(); ++id)
      spec.added.push_back({static_cast<int32_t>(id), training_.special_tokens[id], true});
    spec.merges = std::move(merges_);
    return spec;
  }

 private:
  struct Word {
    size_t begin, size;  // of symbols_
    int64_t count;
  };
  struct PairState {
    int64_t count = 0;
    std::vector<size_t> words;  // where it may stand; a word may come twice, or hold it no more
    bool changed = false;
  };

  int32_t count() const { return static_cast<int32_t>(texts_.size()); }

  void change(Pair pair, int64_t by, size_t word) {
    PairState& state = pairs_[pair];
    state.count += by;
    if (by < 0) return;
    if (state.words.empty() || state.words.back() != word) state.words.push_back(word);
    if (!std::exchange(state.changed, true)) changed_.push_back(pair);
  }

  void push_changed() {
    for (const Pair& pair : changed_) {
      PairState& state = pairs_[pair];
      state.changed = false;
      if (state.count > 0) queue_.push({state.count, pair});
    }
    changed_.clear();
  }

  void merge(Pair pair, std::vector<size_t> words) {
    const std::string text = texts_[static_cast<size_t>(pair.left)] + texts_[static_cast<size_t>(pair.right)];
    const auto [known, is_new] = ids_.emplace(text, count());
    if (is_new) texts_.push_back(text);
    const int32_t result = known->second;
    merges_.push_back({pair.left, pair.right, static_cast<int32_t>(merges_.size()), result});
    std::sort(words.begin(), words.end());
    words.erase(std::unique(words.begin(), words.end()), words.end());
    for (const size_t word : words) merge_in(word, pair, result);
  }

  // Joins the pair in a word from left to right, and counts the neighbours anew.
  void merge_in(size_t index, Pair pair, int32_t result) {
    Word& word = words_[index];
    int32_t* symbols = symbols_.data() + word.begin;
    size_t size = 0;
    for (size_t i = 0; i < word.size; ++i) {
      if (symbols[i] != pair.left || i + 1 == word.size || symbols[i + 1] != pair.right) {
        symbols[size++] = symbols[i];
        continue;
      }
      if (size > 0) {
        change({symbols[size - 1], pair.left}, -word.count, index);
        change({symbols[size - 1], result}, word.count, index);
      }
      if (i + 2 < word.size) {
        change({pair.right, symbols[i + 2]}, -word.count, index);
        change({result, symbols[i + 2]}, word.count, index);
      }
      symbols[size++] = result;
      ++i;
    }
    word.size = size;
  }

  const BpeTraining& training_;
  std::unordered_map<std::string, int32_t> ids_;
  std::vector<std::string> texts_;
  int32_t byte_id_[256] = {};
  std::vector<int32_t> symbols_;
  std::vector<Word> words_;
  std::unordered_map<Pair, PairState, PairHash> pairs_;
  std::vector<Pair> changed_;
  std::priority_queue<Candidate> queue_;
  std::vector<BpeMerge> merges_;
};

void check(const BpeTraining& training) {
  const auto least = static_cast<int64_t>(training.special_tokens.size()) + 256;
  if (training.vocab_size < least)
    fail(ErrorKind::kInvalidArgument,
         "a vocabulary of {} tokens: {} special tokens and the 256 bytes take {}", training.vocab_size,
         training.special_tokens.size(), least);
  if (training.vocab_size > static_cast<int64_t>(kMaxTokenId))
    fail(ErrorKind::kInvalidArgument, "a vocabulary of {} tokens: at most {}", training.vocab_size,
         kMaxTokenId);
}

std::string config_json(const BpeTraining& training) {
  nlohmann::ordered_json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                                   {"clean_up_tokenization_spaces", false}};
  if (!training.special_tokens.empty())
    for (const char* key : {"bos_token", "eos_token", "pad_token"}) config[key] = training.special_tokens[0];
  return config.dump(2) + "\n";
}

void check_readable(const std::string& file) {
  if (!std::ifstream(file)) fail(ErrorKind::kNotFound, "cannot read {}: {}", file, std::strerror(errno));
  refuse_file_of_other_encoding(file);
}

// A file's text in parts that end with a line.
class FileTexts {
 public:
  explicit FileTexts(const std::vector<std::string>& files) : files_(files) {}

  bool next(std::string& text) {
    constexpr std::streamsize kPart = 1 << 20;
    while (true) {
      if (!file_.is_open()) {
        if (at_ == files_.size()) return false;
        file_.open(files_[at_], std::ios::binary);
        if (!file_) fail(ErrorKind::kNotFound, "cannot read {}: {}", files_[at_], std::strerror(errno));
      }
      text.resize(kPart);
      file_.read(text.data(), kPart);
      if (file_.bad()) fail(ErrorKind::kResource, "cannot read {}: {}", files_[at_], std::strerror(errno));
      text.resize(static_cast<size_t>(file_.gcount()));
      std::string rest;
      if (!text.empty() && text.back() != '\n' && std::getline(file_, rest)) {
        text += rest;
        if (!file_.eof()) text += '\n';
      }
      if (const size_t valid = valid_utf8_prefix(text); valid != text.size())
        fail(ErrorKind::kInvalidArgument, "{}: the text is not UTF-8 at byte {}", files_[at_], read_ + valid);
      read_ += text.size();
      if (!text.empty()) return true;
      file_.close();
      file_.clear();
      ++at_, read_ = 0;
    }
  }

 private:
  const std::vector<std::string>& files_;
  size_t at_ = 0, read_ = 0;  // the file, and its bytes so far
  std::ifstream file_;
};

}  // namespace

TrainedBpe train_bpe(const TextSource& source, const BpeTraining& training) {
  check(training);
  const auto pre = pre_tokenizer_by_name(training.pre_tokenizer);
  if (!pre || *pre == PreTokenizer::kNone) {
    std::string names;
    for (const std::string& each : pre_tokenizer_names()) names += (names.empty() ? "" : ", ") + each;
    fail(ErrorKind::kInvalidArgument, "there is no pre-tokenizer '{}': {}", training.pre_tokenizer, names);
  }
  Trainer trainer(training);
  {
    const auto words = count_words(*pre, source, training.threads, [&](int64_t bytes) {
      if (training.progress) training.progress("read", bytes, 0);
    });
    if (words.empty()) fail(ErrorKind::kInvalidArgument, "there is no text to train a tokenizer on");
    trainer.add_words(words);
  }
  trainer.merge_all();
  const BpeSpec spec = std::move(trainer).spec(*pre);
  return {write_bpe_json(spec), config_json(training), spec.tokens.size()};
}

TrainedBpe train_bpe_files(const std::vector<std::string>& files, const BpeTraining& training,
                           const std::string& folder) {
  std::error_code error;
  if (std::ranges::all_of(files,
                          [&](const auto& file) { return std::filesystem::file_size(file, error) == 0; }))
    fail(ErrorKind::kInvalidArgument, "there is no text in {} to train a tokenizer on", files[0]);
  for (const std::string& file : files) check_readable(file);
  MadeFolder made(folder);  // before the work: it may not be possible
  FileTexts texts(files);
  TrainedBpe trained = train_bpe([&](std::string& text) { return texts.next(text); }, training);
  write_text_file(folder + "/tokenizer.json", trained.tokenizer_json);
  write_text_file(folder + "/tokenizer_config.json", trained.tokenizer_config_json);
  made.keep();
  return trained;
}

std::vector<std::string> pre_tokenizer_names() {
  return {"gpt2", "smollm", "llama3", "qwen2", "qwen35", "deepseek3"};
}

}  // namespace flagscale::text
