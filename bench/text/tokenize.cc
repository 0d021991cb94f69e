// How fast a tokenizer reads a text on one core (processor time), and what it makes of it.
//
//   tokenize_text TOKENIZER [--ids FILE] [--export FILE] [--repeat N] TEXT...
//
// TOKENIZER: what load_tokenizer() reads, or a .gguf file. Each TEXT is cut into documents by zero bytes, as
// corpus.py writes them. --ids: int32 each, a document ends with -1. --export: the tokenizer.json or
// SentencePiece .model of a .gguf vocabulary.

#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <iterator>

#include "base/error.h"
#include "io/gguf.h"
#include "io/gguf_weights.h"
#include "text/gguf_vocab.h"
#include "text/tokenizer.h"

namespace flagscale {
namespace {

// Of this thread on its core: others on the machine do not count.
double processor_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

std::string read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) fail(ErrorKind::kNotFound, "cannot read {}", path);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write(const std::string& path, const void* data, size_t bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(static_cast<const char*>(data), static_cast<std::streamsize>(bytes));
  if (!file.flush()) fail(ErrorKind::kResource, "cannot write {}", path);
}

struct Arguments {
  std::string tokenizer, ids, exported;
  std::vector<std::string> texts;
  int repeat = 3;
};

Arguments parse(const std::vector<std::string>& words) {
  Arguments arguments;
  for (size_t i = 0; i < words.size(); ++i) {
    const auto value = [&] {
      if (i + 1 == words.size()) fail(ErrorKind::kInvalidArgument, "{} needs a value", words[i]);
      return words[++i];
    };
    if (words[i] == "--ids")
      arguments.ids = value();
    else if (words[i] == "--export")
      arguments.exported = value();
    else if (words[i] == "--repeat")
      arguments.repeat = std::stoi(value());
    else if (arguments.tokenizer.empty())
      arguments.tokenizer = words[i];
    else
      arguments.texts.push_back(words[i]);
  }
  if (arguments.tokenizer.empty())
    fail(ErrorKind::kInvalidArgument,
         "usage: tokenize_text TOKENIZER [--ids FILE] [--export FILE] [--repeat N] TEXT...");
  return arguments;
}

std::unique_ptr<text::Tokenizer> open(const Arguments& arguments) {
  if (!arguments.tokenizer.ends_with(".gguf")) return text::load_tokenizer(arguments.tokenizer);
  const io::GgufFile file(arguments.tokenizer);
  const auto vocab = io::gguf_tokenizer(file).as<text::GgufVocab>();
  if (!arguments.exported.empty()) {
    std::string file_text = text::tokenizer_json(vocab, arguments.tokenizer);
    if (file_text.empty()) file_text = text::sentencepiece_model(vocab, arguments.tokenizer);
    write(arguments.exported, file_text.data(), file_text.size());
  }
  return text::tokenizer_from_gguf(vocab, arguments.tokenizer);
}

void run(const Arguments& arguments) {
  const double start = processor_seconds();
  const auto tokenizer = open(arguments);
  fmt::print("{}: {} tokens, read in {:.0f} ms, {}\n", arguments.tokenizer, tokenizer->vocab_size(),
             (processor_seconds() - start) * 1e3, tokenizer->encoder().kind());
  std::vector<int32_t> all;
  for (const std::string& path : arguments.texts) {
    const std::string text = read(path);
    double best = 1e30;
    std::vector<int32_t> ids(text.size());  // its pages are not what is measured
    for (int i = 0; i < arguments.repeat; ++i) {
      ids.clear();
      const double before = processor_seconds();
      for (size_t at = 0; at <= text.size();) {
        const size_t stop = std::min(text.find('\0', at), text.size());
        tokenizer->encode(std::string_view(text).substr(at, stop - at), false, ids);
        ids.push_back(-1);
        at = stop + 1;
      }
      best = std::min(best, processor_seconds() - before);
    }
    const auto bytes = static_cast<double>(text.size());
    fmt::print("{}: {:.1f} MB, {} tokens, {:.2f} bytes each, {:.1f} MB/s\n", path, bytes / 1e6, ids.size(),
               bytes / static_cast<double>(ids.size()), bytes / best / 1e6);
    all.insert(all.end(), ids.begin(), ids.end());
  }
  if (!arguments.ids.empty()) write(arguments.ids, all.data(), all.size() * sizeof all[0]);
}

}  // namespace
}  // namespace flagscale

int main(int count, char** words) {
  try {
    flagscale::run(flagscale::parse({words + 1, words + count}));
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "tokenize_text: {}\n", error.what());
    return 1;
  }
}
