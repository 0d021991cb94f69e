#pragma once
// Small files that others may read, or write, meanwhile: scripts, reports. They find the old one or the new
// one, whole. It is not flushed to the disk; io/atomic_file.h does that for what has to survive a power cut.

#include <filesystem>
#include <string_view>

namespace flagscale {

// Makes its folder too. Throws Error{kResource} naming what could not be written; then the file is as it was.
void write_whole_file(const std::filesystem::path& file, std::string_view text);

}  // namespace flagscale
