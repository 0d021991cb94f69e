#include <fmt/core.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "app/command.h"
#include "app/data_preprocess.h"
#include "app/numbers.h"
#include "base/log.h"
#include "data/inspect.h"
#include "data/tokenizing.h"
#include "text/token_table.h"

namespace flagscale::data_command {
namespace {

struct Options {
  data::TokenizerChoice tokenizer;
  std::string prefix, split, output;
  std::vector<std::string> inputs;
  int64_t documents = 0;
  text::BpeTraining training;
  std::string colour = "auto";
  bool json = false;
};

bool wants_colour(const std::string& when) {
  return when == "always" || (when == "auto" && isatty(STDOUT_FILENO) && !std::getenv("NO_COLOR"));
}

// Either file of a pair names it too.
std::string prefix_of(const std::string& path) {
  namespace fs = std::filesystem;
  const fs::path end = fs::path(path).extension();
  const bool file = (end == ".bin" || end == ".idx") && !fs::exists(path + ".idx");
  return file ? path.substr(0, path.size() - end.string().size()) : path;
}

void inspect_command(CLI::App& app, Options& o) {
  CLI::App* command = app.add_subcommand("inspect", "what a .bin/.idx pair holds, and that it is whole");
  command->add_option("prefix", o.prefix, "path of the pair; .bin or .idx may be left out")->required();
  command->add_option("--split", o.split, "also each split of these shares, like 969,30,1");
  add_tokenizer_options(*command, o.tokenizer);
  command->add_option("--documents", o.documents, "print the first ones as text (needs --tokenizer)")
      ->check(between(0, 1000));
  command->add_option("--colour,--color", o.colour, "of what is learnt of a conversation")
      ->check(CLI::IsMember({"auto", "always", "never"}))
      ->capture_default_str();
  command->add_flag("--json", o.json, "print JSON");
  command->footer(
      "Examples:\n  flagscale data inspect data/web_text_document --split 95,5\n"
      "  flagscale data inspect data/web_text_document --tokenizer tok --documents 3");
  command->callback([&o] {
    o.prefix = prefix_of(o.prefix);
    const auto facts = data::inspect_dataset(o.prefix, o.split);
    std::vector<data::DocumentText> documents;
    if (o.documents > 0) {
      const auto tokenizer = data::open_tokenizer(o.tokenizer);
      documents = data::first_documents(o.prefix, o.documents, 48,
                                        [&](auto ids) { return tokenizer->decode(ids, false); });
    }
    fmt::print("{}", o.json ? data::to_json(facts, documents)
                            : data::to_text(facts) + data::to_text(documents, wants_colour(o.colour)));
  });
}

void train_tokenizer_command(CLI::App& app, Options& o) {
  CLI::App* command = app.add_subcommand("train-tokenizer", "make a byte-level BPE tokenizer of text files");
  command->add_option("--input", o.inputs, "UTF-8 text files")->required();
  command->add_option("--vocab-size", o.training.vocab_size, "ids, special tokens and bytes included")
      ->check(between(256, static_cast<int>(text::kMaxTokenId)))
      ->capture_default_str();
  command->add_option("--output", o.output, "folder for tokenizer.json")->required();
  command->add_option("--pre-tokenizer", o.training.pre_tokenizer, "how text is cut before merging")
      ->check(CLI::IsMember(text::pre_tokenizer_names()))
      ->capture_default_str();
  command->add_option("--special-tokens", o.training.special_tokens, "the first ends documents")
      ->capture_default_str();
  command->add_option("--min-frequency", o.training.min_frequency, "of a pair that is merged")
      ->check(between(int64_t{1}, int64_t{1} << 40))
      ->capture_default_str();
  command->add_option("--workers", o.training.threads, "threads; 0: every core")->check(between(0, 1024));
  command->add_flag("--json", o.json, "print JSON");
  command->footer(
      "Examples:\n  flagscale data train-tokenizer --input book.txt --vocab-size 8192 --output tok");
  command->callback([&o] {
    const auto size = data::train_tokenizer(o.inputs, o.training, o.output);
    if (size < o.training.vocab_size)
      warn(
          "the text has no more pairs to merge: {} ids instead of {}; more text, or a smaller "
          "--min-frequency, "
          "gives more",
          size, o.training.vocab_size);
    fmt::print("{}", o.json ? nlohmann::json{{"folder", o.output}, {"vocab_size", size}}.dump() + "\n"
                            : fmt::format("{}/tokenizer.json: {} ids\n", o.output, size));
  });
}

void setup(CLI::App& app) {
  const auto shared = std::make_shared<Options>();
  Options& options = *shared;
  app.require_subcommand(1);
  add_data_preprocess(app);
  inspect_command(app, options);
  train_tokenizer_command(app, options);
  app.footer("Examples:\n  flagscale data preprocess --help\n  flagscale data inspect PREFIX");
  app.callback([shared] {});  // keeps the options as long as the command
}

const Registration<Command> kData{"data",
                                  {"prepare training data: tokenize, inspect, train a tokenizer", &setup}};

}  // namespace
}  // namespace flagscale::data_command
