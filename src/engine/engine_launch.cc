// Where the runner launches steps, the next one follows the current one there before its tokens have come
// back: the GPU goes on while the host draws, finishes and tells. Its plan is that of engine_ahead.cc, and
// the tokens are taken where they were drawn. Who ends otherwise than by its length is in it for nothing.
#include <algorithm>
#include <chrono>
#include <utility>

#include "engine/draw.h"
#include "engine/engine.h"

namespace flagscale::engine {

namespace {

// Whether nothing of it is for the host to decide.
bool draws_itself(const Step& step) {
  return std::ranges::all_of(step.chunks, [](const StepChunk& chunk) {
    return !chunk.embed && (chunk.rows == 0 || !chunk.draws.empty());
  });
}

}  // namespace

void Engine::launch(Step& step) {
  int32_t row = 0;
  for (size_t i = 0; i < step.chunks.size(); ++i) {
    row += static_cast<int32_t>(step.chunks[i].rows);
    step.of[i]->row = row - 1;
  }
  runner_->launch(step.chunks, step.turn);
  step.launched = true;
}

void Engine::launch_and_finish() {
  const auto start = std::chrono::steady_clock::now();
  try {
    if (!step_.launched) launch(step_);
    plan_ahead();
    launch_ahead();
    deliver();
    for (Sequence* s : masked_) prepare_mask(*s, runner_->config().vocab_size);
    runner_->finish(step_.turn);
  } catch (...) {
    launched_.clear();  // it counts on tokens that nobody takes over
    throw;
  }
  stats_.model_seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void Engine::launch_ahead() {
  if (!next_.made || !next_.whole || next_.parts.empty() || !draws_itself(step_)) return;
  next_.made = false;
  launched_.turn = 1 - step_.turn;
  for (Sequence* s : running_) s->computing = 0;
  for (const NextStep::Part& part : next_.parts) {
    give_pages(part);
    add_chunk(launched_, *part.sequence, part.first, part.count, 0);
  }
  next_.parts.clear();
  launch(launched_);
  ++stats_.steps_planned_ahead;
  ++stats_.steps_launched_ahead;
}

// False: the next step was not launched, or nobody who is in it is left.
bool Engine::take_launched() {
  const bool anybody = std::ranges::any_of(launched_.of, [](const Sequence* s) { return s != nullptr; });
  if (anybody) std::swap(step_, launched_);
  launched_.clear();
  return anybody;
}

}  // namespace flagscale::engine
