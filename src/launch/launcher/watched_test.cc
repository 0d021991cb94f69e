#include "launch/launcher/watched.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace flagscale::launch {
namespace {

Command bash(const std::string& line) { return {{"bash", "-c", line}, {}, {}}; }

std::string refusal(Watched& child) {
  try {
    child.wait(std::chrono::duration<double>(0.2));
  } catch (const Error& error) {
    return error.what();
  }
  return "none";
}

TEST(Watched, TellsItsLinesAndHowItEnded) {
  Watched child(bash("echo one; echo two >&2; echo three; exit 3"));
  std::string line, all;
  while (child.next(line)) all += line + ' ';
  EXPECT_EQ(all, "one three ");
  EXPECT_EQ(child.wait(), 3);
  EXPECT_EQ(child.said(), "two\n");
  Watched stopped(bash("echo; exec sleep 100"));
  EXPECT_TRUE(stopped.next(line));
  EXPECT_EQ(stopped.stop(), 128 + 15);
}

// Closes what it says, and does not end.
TEST(Watched, ThatDoesNotEndIsRefusedWithTheLastThatItSaid) {
  std::string line;
  Watched child(bash("echo one; echo two; exec >&-; exec sleep 100"));
  while (child.next(line)) continue;
  EXPECT_EQ(refusal(child), "it had not ended 0.2 s after it should have; the last that it said: two");
  Watched complains(bash("echo one; echo complaint >&2; exec >&-; exec sleep 100"));
  while (complains.next(line)) continue;
  EXPECT_EQ(refusal(complains),
            "it had not ended 0.2 s after it should have; the last that it said: complaint");
  Watched silent(bash("exec >&-; exec sleep 100"));
  while (silent.next(line)) continue;
  EXPECT_EQ(refusal(silent), "it had not ended 0.2 s after it should have; the last that it said: nothing");
}

}  // namespace
}  // namespace flagscale::launch
