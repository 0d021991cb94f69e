#pragma once
// When a log line says that it was written.

#include <optional>
#include <string_view>

namespace flagscale::launch {

// Seconds since 1970 by the first date and time in the line's first 100 characters: "2026-11-26 16:56:11,123"
// (or T, or /), with a zone or without one, then taken as UTC, so that only times of one zone compare;
// "E1126 16:56:11.123" (glog), "11-26 16:56:11" and "Nov 26 16:56:11", whose year is the one given.
std::optional<double> time_stamp(std::string_view line, int year);

}  // namespace flagscale::launch
