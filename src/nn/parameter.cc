#include "nn/parameter.h"

#include "base/check.h"

namespace flagscale::nn {

Parameter& ParameterList::add(Parameter parameter) {
  if (parameter.parts.empty()) parameter.parts = {{parameter.name, parameter.shape[0]}};
  int64_t rows = 0;
  for (const Part& part : parameter.parts) rows += part.rows;
  FLAGSCALE_CHECK(rows == parameter.shape[0]);
  return parameters_.emplace_back(std::move(parameter));
}

Constant& ParameterList::add(Constant constant) { return constants_.emplace_back(std::move(constant)); }

int64_t ParameterList::numel() const {
  int64_t total = 0;
  for (const Parameter& parameter : parameters_) total += parameter.shape.numel();
  return total;
}

}  // namespace flagscale::nn
