#include "app/data_preprocess.h"

#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "base/error.h"
#include "data/preprocess.h"
#include "data/tokenizing.h"

namespace flagscale {
namespace {

struct Options {
  data::PreprocessOptions job;
  data::TokenizerChoice tokenizer;
  bool plain_text = false, split_sentences = false, add_special = false, json = false;
  std::string document = "paragraph", on_error = "stop";
};

void run_preprocess(Options& o) {
  auto& job = o.job;
  if (o.plain_text)
    job.format = o.document == "file" ? data::InputFormat::kWholeFile : data::InputFormat::kParagraphs;
  job.skip_broken = o.on_error == "skip";
  data::use_tokenizer(o.tokenizer, data::open_tokenizer(o.tokenizer), o.add_special, job);
  const auto report = data::preprocess(job);
  if (o.json) {
    fmt::print("{}", data::to_json(report));
  } else {
    for (size_t k = 0; k < report.prefixes.size(); ++k)
      fmt::print("{}.bin and .idx: {} documents, {} tokens\n", report.prefixes[k], report.documents,
                 report.tokens[k]);
    if (report.skipped > 0) fmt::print("{} broken documents skipped\n", report.skipped);
  }
}

}  // namespace

void add_tokenizer_options(CLI::App& command, data::TokenizerChoice& choice, bool required) {
  command.add_option("--tokenizer", choice.path, "tokenizer folder or file")->required(required);
  command.add_option("--tokenizer-type", choice.type, "Megatron's name of it, where the path does not tell");
  command.add_option("--vocab-file", choice.vocab_file, "vocab.json of a tokenizer type that asks for it");
  command.add_option("--merge-file", choice.merge_file, "merges.txt of a tokenizer type that asks for it");
  command.add_option("--special-tokens-file", choice.special_tokens_file,
                     "special tokens of AquilaTokenizerFS");
}

void add_data_preprocess(CLI::App& data) {
  const auto options = std::make_shared<Options>();
  Options& o = *options;
  CLI::App* command =
      data.add_subcommand("preprocess", "turn text into token files (.bin/.idx) for training");
  command->add_option("--input", o.job.inputs, "JSON-lines or text files")->required();
  command->add_option("--output-prefix", o.job.output_prefix, "makes PREFIX_KEY_document.{bin,idx}")
      ->required();
  add_tokenizer_options(*command, o.tokenizer, true);
  command->add_option("--json-keys", o.job.keys, "keys of each JSON object to take")->capture_default_str();
  command->add_flag("--plain-text", o.plain_text, "the input is text, not JSON lines");
  command->add_option("--document", o.document, "of plain text: parted by blank lines, or a whole file each")
      ->check(CLI::IsMember({"paragraph", "file"}))
      ->capture_default_str();
  command->add_flag("--append-eod", o.job.append_eod, "end each document with the end-of-document token");
  command->add_flag("--add-special", o.add_special, "also what the tokenizer puts around a text (a bos)");
  command->add_option("--workers", o.job.workers, "threads; 0: every core")->check(CLI::Range(0, 1024));
  command->add_option("--on-error", o.on_error, "what a broken document does")
      ->check(CLI::IsMember({"stop", "skip"}))
      ->capture_default_str();
  command->add_flag("--split-sentences", o.split_sentences, "not supported")->group("");
  command->add_flag("--json", o.json, "print JSON");
  command->footer(
      "Examples:\n  flagscale data preprocess --input web.jsonl --output-prefix data/web --tokenizer "
      "models/Qwen3-0.6B --append-eod\n  flagscale data preprocess --input book.txt --plain-text "
      "--output-prefix data/book --tokenizer tok --append-eod");
  command->callback([options] {
    if (options->split_sentences)
      fail(ErrorKind::kUnsupported,
           "--split-sentences is for BERT-like models and not done here; leave it out");
    run_preprocess(*options);
  });
}

}  // namespace flagscale
