#include "config/required.h"

#include <fmt/format.h>

namespace flagscale::config {
namespace {

constexpr size_t kMostNodes = 200000;  // interpolations can repeat a container without end

class Copier {
 public:
  explicit Copier(std::vector<std::string>* unknown) : unknown_(unknown) {}

  NodePtr copy(const NodePtr& node, const std::string& path, int depth) {
    if (++nodes_ > kMostNodes || depth > kMaxDepth)
      fail(ErrorKind::kConfig, "{} repeats itself without end through its interpolations", path);
    const NodePtr value = value_of(node, path);
    if (!value->is_container()) return value->copy();
    const NodePtr result = value->kind == Kind::kMap ? Node::map() : Node::list();
    result->origin = node->origin;
    for (const Entry& entry : value->entries)
      result->set(entry.key,
                  copy(entry.value, path.empty() ? entry.key.text : path + "." + entry.key.text, depth + 1));
    for (size_t i = 0; i < value->items.size(); ++i)
      result->append(copy(value->items[i], fmt::format("{}[{}]", path, i), depth + 1));
    return result;
  }

 private:
  NodePtr value_of(const NodePtr& node, const std::string& path) const {
    try {
      return resolve(node);
    } catch (const ResolutionError& error) {
      if (unknown_ == nullptr || error.exception() != "InterpolationResolutionError")
        refuse_unresolved(path, node, error);
      unknown_->push_back(fmt::format("{}: {}: {}", describe(node->origin), path, error.what()));
      return node;
    }
  }

  std::vector<std::string>* unknown_;
  size_t nodes_ = 0;
};

}  // namespace

void refuse_unresolved(const std::string& path, const NodePtr& node, const ResolutionError& error) {
  const std::string place = describe(node->origin), &text = node->text;
  const bool placeholder = text == "???" || (text.starts_with("${") &&
                                             (text.find("??}") != std::string::npos || text.ends_with(":}")));
  if (placeholder || error.exception() == "InterpolationToMissingValueError" ||
      error.exception() == "MissingMandatoryValue")
    fail(ErrorKind::kConfig, "required value {} is not set ({}); give it as an override: {}=VALUE", path,
         place, path);
  fail(ErrorKind::kConfig, "{}{}{}: {}", place, place.empty() ? "" : ": ", path, error.what());
}

NodePtr resolved_copy(const NodePtr& node, const std::string& path, std::vector<std::string>* unknown) {
  return Copier(unknown).copy(node, path, 0);
}

}  // namespace flagscale::config
