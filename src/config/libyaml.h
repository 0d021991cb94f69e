#pragma once
// libyaml's parser over one text, its errors in this program's words.

#include <yaml.h>

#include <string>
#include <string_view>

namespace flagscale::config {

// Gives either events or tokens. The first is a stream's start, the last its end.
class LibYaml {
 public:
  // text: valid UTF-8 without a byte order mark, which stays with the caller. source: for errors.
  LibYaml(std::string_view text, const std::string& source);
  ~LibYaml();
  LibYaml(const LibYaml&) = delete;
  LibYaml& operator=(const LibYaml&) = delete;

  // The next, valid until the next call. Throws Error{kConfig} naming source, line and column where the text
  // is no YAML.
  const yaml_event_t& event();
  const yaml_token_t& token();

  // line: from 0, as libyaml counts. Throws Error{kConfig}.
  [[noreturn]] void stop(size_t line, std::string_view what) const;

 private:
  [[noreturn]] void stop_at_problem() const;

  const std::string source_;
  yaml_parser_t parser_{};
  yaml_event_t event_{};
  yaml_token_t token_{};
};

}  // namespace flagscale::config
