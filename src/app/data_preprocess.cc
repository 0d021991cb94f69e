#include "app/data_preprocess.h"

#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "app/numbers.h"
#include "base/error.h"
#include "data/preprocess.h"
#include "data/tokenizing.h"
#include "io/atomic_file.h"

namespace flagscale {
namespace {

struct PreprocessFlags {
  data::PreprocessOptions job;
  data::TokenizerChoice tokenizer;
  bool plain_text = false, split_sentences = false, add_special = false, json = false;
  std::string document = "paragraph", on_error = "stop";
  std::string conversations, chat_template, learn = "answers";
};

// Records become conversations, by the tokenizer's chat template or the one in a file.
void use_conversations(const PreprocessFlags& o, std::shared_ptr<const text::Tokenizer> tokenizer,
                       data::PreprocessOptions& job) {
  const std::string source = o.chat_template.empty() ? "" : io::read_text(o.chat_template, 1 << 20);
  const data::LearntPart part = o.learn == "all"    ? data::LearntPart::kAll
                                : o.learn == "last" ? data::LearntPart::kLastAnswer
                                                    : data::LearntPart::kAnswers;
  if (o.plain_text || job.append_eod || o.add_special)
    fail(ErrorKind::kInvalidArgument,
         "--conversations writes what the chat template says: leave out --plain-text, --append-eod and "
         "--add-special");
  job.conversations = std::make_shared<data::ConversationEncoder>(std::move(tokenizer), source, part);
  job.conversation_format = data::parse_conversation_format(o.conversations);
  job.format = data::InputFormat::kRecords;
  job.keys = {"text", "loss_mask"};
  job.tokenizer_id += fmt::format(" template {} learn {}", source, o.learn);
}

void run_preprocess(PreprocessFlags& o) {
  auto& job = o.job;
  if (o.plain_text)
    job.format = o.document == "file" ? data::InputFormat::kWholeFile : data::InputFormat::kParagraphs;
  job.skip_broken = o.on_error == "skip";
  const auto tokenizer = data::open_tokenizer(o.tokenizer);
  data::use_tokenizer(o.tokenizer, tokenizer, o.add_special, job);
  if (!o.conversations.empty()) use_conversations(o, tokenizer, job);
  const auto report = data::preprocess(job);
  if (o.json) {
    fmt::print("{}", data::to_json(report));
  } else {
    for (size_t k = 0; k < report.prefixes.size(); ++k)
      fmt::print("{}.bin and .idx: {} documents, {} tokens\n", report.prefixes[k], report.documents,
                 report.tokens[k]);
    if (report.learnt > 0)
      fmt::print("{} of {} tokens are learnt, {} are masked\n", report.learnt, report.tokens[0],
                 report.tokens[0] - report.learnt);
    for (const auto& note : report.notes)
      fmt::print("{}: {} (first: {})\n", note.words, note.count, note.first);
    if (report.skipped > 0)
      fmt::print("{} broken documents skipped: see {}\n", report.skipped, report.skipped_file);
  }
}

}  // namespace

void add_tokenizer_options(CLI::App& command, data::TokenizerChoice& choice) {
  command.add_option("--tokenizer", choice.path, "tokenizer folder or file");
  command.add_option("--tokenizer-type", choice.type, "Megatron's name of it, where the path does not tell");
  command.add_option("--vocab-file", choice.vocab_file, "vocab.json of a tokenizer type that asks for it");
  command.add_option("--merge-file", choice.merge_file, "merges.txt of a tokenizer type that asks for it");
  command.add_option("--special-tokens-file", choice.special_tokens_file,
                     "special tokens of AquilaTokenizerFS");
}

void add_data_preprocess(CLI::App& data) {
  const auto options = std::make_shared<PreprocessFlags>();
  PreprocessFlags& o = *options;
  CLI::App* command =
      data.add_subcommand("preprocess", "turn text into token files (.bin/.idx) for training");
  command->add_option("--input", o.job.inputs, "JSON-lines, Parquet or text files")->required();
  command->add_option("--output-prefix", o.job.output_prefix, "makes PREFIX_KEY_document.{bin,idx}")
      ->required();
  add_tokenizer_options(*command, o.tokenizer);
  command
      ->add_option("--vocab-size", o.tokenizer.vocab_size,
                   "of --tokenizer-type NullTokenizer, whose texts are numbers")
      ->check(between(1, 1 << 30));
  command->add_option("--json-keys", o.job.keys, "keys of each JSON object, or columns of Parquet, to take")
      ->capture_default_str();
  command->add_flag("--plain-text", o.plain_text, "the input is text, not JSON lines");
  command->add_option("--document", o.document, "of plain text: parted by blank lines, or a whole file each")
      ->check(CLI::IsMember({"paragraph", "file"}))
      ->capture_default_str();
  command->add_flag("--append-eod", o.job.append_eod, "end each document with the end-of-document token");
  command->add_flag("--add-special", o.add_special, "also what the tokenizer puts around a text (a bos)");
  command
      ->add_option("--conversations", o.conversations,
                   "the input is conversations for fine-tuning: auto, messages, sharegpt, alpaca or "
                   "prompt-completion; makes PREFIX_text_document and PREFIX_loss_mask_document")
      ->expected(0, 1)
      ->default_str("auto");
  command->add_option("--chat-template", o.chat_template,
                      "file with a Jinja template, instead of the tokenizer's");
  command->add_option("--learn", o.learn, "of conversations: answers, the last answer, or all tokens")
      ->check(CLI::IsMember({"answers", "last", "all"}))
      ->capture_default_str();
  command->add_option("--workers", o.job.workers, "threads; 0: every core")->check(between(0, 1024));
  command
      ->add_option("--on-error", o.on_error,
                   "what a broken document does; skip lists all of them in PREFIX.skipped.jsonl")
      ->check(CLI::IsMember({"stop", "skip"}))
      ->capture_default_str();
  command->add_flag("--split-sentences", o.split_sentences, "not supported")->group("");
  command->add_flag("--json", o.json, "print JSON");
  command->footer(
      "Examples:\n  flagscale data preprocess --input web.jsonl --output-prefix data/web --tokenizer "
      "models/Qwen3-0.6B --append-eod\n  flagscale data preprocess --input chats.jsonl --conversations "
      "--output-prefix data/chats --tokenizer models/SmolLM2-135M-Instruct\n  flagscale data preprocess "
      "--input book.txt --plain-text "
      "--output-prefix data/book --tokenizer tok --append-eod");
  command->callback([options] {
    if (options->split_sentences)
      fail(ErrorKind::kUnsupported,
           "--split-sentences is for BERT-like models and not done here; leave it out");
    run_preprocess(*options);
  });
}

}  // namespace flagscale
