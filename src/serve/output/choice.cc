#include "serve/output/choice.h"

#include <utility>

namespace flagscale::serve {

Choice::Choice(int index, const text::Tokenizer& tokenizer, std::span<const int32_t> prompt,
               OutputOptions options, std::unique_ptr<OutputParser> parser)
    : index_(index),
      options_(std::move(options)),
      decoder_(tokenizer, prompt, options_.skip_special),
      stops_(options_.stop),
      parser_(std::move(parser)) {}

void Choice::put(const engine::Event& event) {
  for (const engine::OutputToken& token : event.tokens) {
    if (finished() || options_.no_output) break;
    ++tokens_;
    cumulative_ += token.logprob;
    const bool ends = event.stop_id >= 0 && &token == &event.tokens.back();
    if (options_.keep_tokens && (!ends || options_.keep_end)) new_tokens_.push_back(token);
    if (!ends || options_.include_stop) put_text(decoder_.put(token.id));
  }
  if (finished() || event.finish == engine::FinishReason::kNone) return;
  put_text(decoder_.finish());
  if (finished()) return;  // the last bytes completed a stop string
  stop_id_ = event.stop_id;
  error_ = event.error;
  refused_ = event.refused;
  parse(stops_.rest());
  finish(engine::name(event.finish));
}

void Choice::put_text(std::string_view piece) {
  if (tokens_ < options_.min_tokens) {
    parse(piece);
    return;
  }
  std::string certain;
  const int stop = stops_.put(piece, certain);
  if (stop >= 0) {
    stop_text_ = options_.stop[static_cast<size_t>(stop)];
    if (options_.include_stop) certain += stop_text_;
  }
  parse(certain);
  if (stop >= 0) finish("stop");
}

void Choice::parse(std::string_view certain) {
  parser_->put(certain, delta_);
  called_ = called_ || !delta_.calls.empty();
}

void Choice::finish(std::string reason) {
  parser_->finish(delta_);
  called_ = called_ || !delta_.calls.empty();
  finish_reason_ = std::move(reason);
}

void Choice::echo(std::string prompt, std::vector<engine::OutputToken> tokens) {
  delta_.content.insert(0, prompt);
  if (options_.keep_tokens) new_tokens_.insert(new_tokens_.begin(), tokens.begin(), tokens.end());
}

}  // namespace flagscale::serve
