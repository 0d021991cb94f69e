#pragma once
// A plan that the free memory does not hold, refused before anything is taken: the program ends with a code
// of its own, by which whoever started it may try a smaller one.

#include "base/error.h"

namespace flagscale {

class DoesNotFit : public Error {
 public:
  explicit DoesNotFit(std::string message) : Error(ErrorKind::kResource, std::move(message)) {}
};

inline constexpr int kDoesNotFit = 3;  // exit code

}  // namespace flagscale
