#include "engine/answer.h"

#include <iterator>

namespace flagscale::engine {

std::vector<int32_t> Answer::ids() const {
  std::vector<int32_t> ids;
  for (const OutputToken& token : tokens) ids.push_back(token.id);
  return ids;
}

void gather(Answer& answer, Event event) {
  std::move(event.tokens.begin(), event.tokens.end(), std::back_inserter(answer.tokens));
  std::move(event.prompt.begin(), event.prompt.end(), std::back_inserter(answer.prompt));
  if (!event.embedding.empty()) answer.embedding = std::move(event.embedding);
  answer.cached_tokens += event.cached_tokens;
  answer.finish = event.finish;
  answer.error = std::move(event.error);
}

Sink gather_into(std::vector<Answer>& answers) {
  return [&answers](Event event) {
    Answer& answer = answers[static_cast<size_t>(event.choice)];
    gather(answer, std::move(event));
  };
}

Sink gather_into(Answer& answer) {
  return [&answer](Event event) { gather(answer, std::move(event)); };
}

}  // namespace flagscale::engine
