#pragma once
// What to say of a value that does not resolve, and whole trees of values that must.

#include <string>
#include <vector>

#include "config/node.h"
#include "config/resolve.h"

namespace flagscale::config {

// FlagScale's files mark what a user must fill in by "???", "${data_path:??}" and the like, which never
// resolve. Throws Error{kConfig}: a required value that is not set, with the override that sets it, or what
// else is wrong with it.
[[noreturn]] void refuse_unresolved(const std::string& path, const NodePtr& node,
                                    const ResolutionError& error);

// A copy in which every interpolation is replaced by what it stands for. path: the node's own, for errors.
// Throws Error{kConfig} as refuse_unresolved() does, and for values that repeat themselves without end.
// unknown: where it is given, a value that this machine does not know (an environment variable that is not
// set) keeps its text, and why is added here.
NodePtr resolved_copy(const NodePtr& node, const std::string& path,
                      std::vector<std::string>* unknown = nullptr);

}  // namespace flagscale::config
