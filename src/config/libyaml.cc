#include "config/libyaml.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <new>

#include "base/error.h"

namespace flagscale::config {
namespace {

// libyaml's words for mistakes that are often made, and ours, which name the fix.
struct Reworded {
  std::string_view problem, words;
  bool where_it_began;  // the place to show: of the quote or key, not where libyaml noticed
};
constexpr Reworded kReworded[] = {
    {"found unexpected end of stream", "opens a quote that is never closed", true},
    {"could not find expected ':'", "has a line in a mapping that is no key with ':'", true},
    {"mapping values are not allowed in this context",
     "has a ':' where none may stand; quote the text that it belongs to, or mend the indentation", false},
    {"did not find expected key",
     "has something that is no key of the mapping around it; mend the quotes or the indentation", false},
    {"did not find expected '-' indicator", "has something that is no item ('- ') of the list around it",
     false},
    {"found character that cannot start any token",
     "has a value that starts with a tab, '@', '`' or '%'; use spaces, or quote it", false},
    {"found unexpected ':'", "has a ':' right before a sign of [] or {}; put a space behind it, or quote it",
     false},
};

}  // namespace

LibYaml::LibYaml(std::string_view text, const std::string& source) : source_(source) {
  if (yaml_parser_initialize(&parser_) == 0) throw std::bad_alloc();
  yaml_parser_set_encoding(&parser_, YAML_UTF8_ENCODING);
  yaml_parser_set_input_string(&parser_, reinterpret_cast<const unsigned char*>(text.data()), text.size());
}

LibYaml::~LibYaml() {
  yaml_event_delete(&event_);
  yaml_token_delete(&token_);
  yaml_parser_delete(&parser_);
}

const yaml_event_t& LibYaml::event() {
  yaml_event_delete(&event_);
  if (yaml_parser_parse(&parser_, &event_) == 0) stop_at_problem();
  return event_;
}

const yaml_token_t& LibYaml::token() {
  yaml_token_delete(&token_);
  if (yaml_parser_scan(&parser_, &token_) == 0) stop_at_problem();
  return token_;
}

void LibYaml::stop(size_t line, std::string_view what) const {
  fail(ErrorKind::kConfig, "{}:{} {}", source_, line + 1, what);
}

void LibYaml::stop_at_problem() const {
  if (parser_.error == YAML_MEMORY_ERROR) throw std::bad_alloc();
  const std::string_view problem = parser_.problem;
  yaml_mark_t mark = parser_.problem_mark;
  std::string what = fmt::format("is no YAML: {}", problem);
  const auto known = std::ranges::find(kReworded, problem, &Reworded::problem);
  if (known != std::end(kReworded)) {
    what = known->words;
    if (known->where_it_began) mark = parser_.context_mark;
  } else if (parser_.context != nullptr) {
    what += fmt::format(", {} that begins in line {}", parser_.context, parser_.context_mark.line + 1);
  }
  fail(ErrorKind::kConfig, "{}:{}:{} {}", source_, mark.line + 1, mark.column + 1, what);
}

}  // namespace flagscale::config
