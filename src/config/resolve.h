#pragma once
// Lazy values: what an interpolation stands for, by OmegaConf 2.3's rules. Nothing is cached: an environment
// variable is read when asked for.

#include <functional>
#include <string>
#include <vector>

#include "base/error.h"
#include "config/interpolation.h"
#include "config/node.h"

namespace flagscale::config {

// Why a value cannot be given, with the name of OmegaConf's exception for it: InterpolationKeyError,
// UnsupportedInterpolationType, InterpolationToMissingValueError, InterpolationResolutionError,
// MissingMandatoryValue.
class ResolutionError : public Error {
 public:
  ResolutionError(std::string exception, std::string message)
      : Error(ErrorKind::kConfig, std::move(message)), exception_(std::move(exception)) {}
  const std::string& exception() const { return exception_; }

 private:
  std::string exception_;
};

// The value of a node: itself, or what its interpolation gives, which may be a container elsewhere in the
// tree. Throws ResolutionError. A result is never an interpolation, though its text may look like one.
NodePtr resolve(const NodePtr& node);

// The node at a dotted path below a container ("a.b", "a[0].b"), interpolations on the way followed but not
// the last one; null when absent. Throws ResolutionError for an interpolation on the way that fails,
// Error{kConfig} for a list position that is no number.
NodePtr select_raw(const NodePtr& root, const std::string& path);

// The value there; null when absent, null or missing.
NodePtr select_value(const NodePtr& root, const std::string& path);

std::vector<std::string> split_path(const std::string& path);

}  // namespace flagscale::config
