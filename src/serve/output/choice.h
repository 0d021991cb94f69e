#pragma once
// One answer as it comes: tokens in, text, calls and log-probabilities out. Knows neither HTTP nor JSON.

#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/event.h"
#include "serve/output/output_parser.h"
#include "serve/output/tag_scanner.h"
#include "text/tokenizer.h"

namespace flagscale::serve {

struct OutputOptions {
  std::vector<std::string> stop;
  bool include_stop = false, skip_special = true;
  bool keep_tokens = false;  // log-probabilities are wanted
  bool no_output = false;    // the prompt alone was asked for: tokens are dropped
  int64_t min_tokens = 0;    // before which stop strings do not count
  bool keep_end = false;     // log-probabilities of the token that ends it too
};

class Choice {
 public:
  // prompt: the ids before the output. The tokenizer outlives it.
  Choice(int index, const text::Tokenizer& tokenizer, std::span<const int32_t> prompt, OutputOptions options,
         std::unique_ptr<OutputParser> parser);

  // What a step gave. Nothing counts after the choice has finished.
  void put(const engine::Event& event);
  // The prompt before the output, as it is: text and tokens.
  void echo(std::string text, std::vector<engine::OutputToken> tokens);

  int index() const { return index_; }
  void set_index(int index) { index_ = index; }  // in the answer
  bool finished() const { return !finish_reason_.empty(); }
  const std::string& finish_reason() const { return finish_reason_; }  // "stop", "length", "abort", "error"
  const std::string& stop_text() const { return stop_text_; }  // the stop string that ended it, if one did
  int32_t stop_id() const { return stop_id_; }                 // the stop id that ended it, -1: none
  const std::string& error() const { return error_; }
  bool refused() const { return refused_; }   // the error is the request's own doing
  bool called() const { return called_; }     // a tool call was seen
  int64_t tokens() const { return tokens_; }  // generated, the one that ended it included
  double cumulative_logprob() const { return cumulative_; }

  // What has come since the last take, and forgets it.
  bool has_news() const { return !delta_.empty() || !new_tokens_.empty(); }
  Delta take_delta() { return std::exchange(delta_, {}); }
  std::vector<engine::OutputToken> take_tokens() { return std::exchange(new_tokens_, {}); }

  size_t text_offset = 0;  // code points of the tokens written so far: for the log-probabilities' writer

 private:
  void put_text(std::string_view piece);
  void parse(std::string_view certain);
  void finish(std::string reason);

  int index_;
  const OutputOptions options_;
  text::StreamDecoder decoder_;
  TagScanner stops_;
  std::unique_ptr<OutputParser> parser_;
  Delta delta_;
  std::vector<engine::OutputToken> new_tokens_;
  std::string finish_reason_, stop_text_, error_;
  int32_t stop_id_ = -1;
  int64_t tokens_ = 0;
  double cumulative_ = 0;
  bool called_ = false, refused_ = false;
};

}  // namespace flagscale::serve
