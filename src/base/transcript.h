#pragma once
// A second copy of what this process says, for a log file: the lines, not the bar that redraws itself between
// them. What stands in it outlives a kill.

#include <fmt/core.h>

#include <cstdio>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

namespace flagscale {

// One a process at a time; what is said before it has a file waits for it.
class Transcript {
 public:
  Transcript();
  ~Transcript();
  Transcript(const Transcript&) = delete;
  Transcript& operator=(const Transcript&) = delete;

  // Appends to the file from here on. Throws Error{kResource}; later losses (a full disk) are warned of once.
  void open(const std::filesystem::path& file);
};

// Whole lines, into the transcript alone; nowhere without one.
void transcribe(std::string_view lines);

// Whole lines, on `stream` and into the transcript.
template <class... Args>
void say(std::FILE* stream, fmt::format_string<Args...> format, Args&&... args) {
  const std::string lines = fmt::format(format, std::forward<Args>(args)...);
  std::fwrite(lines.data(), 1, lines.size(), stream);
  transcribe(lines);
}

}  // namespace flagscale
