#pragma once
// What a completion request makes the engine compute.

#include "serve/generation/generation.h"

namespace flagscale::serve {

// name: of the model, in the answer. Throws ApiError for what is past the model's limits.
GenerationPlan completion_plan(const ServedModel& model, const std::string& name,
                               const CompletionRequest& request);

}  // namespace flagscale::serve
