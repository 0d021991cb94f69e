#include "base/transcript.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>

#include "base/error.h"
#include "base/log.h"
#include "base/temporary_folder_test_support.h"

namespace flagscale {
namespace {

std::string text_of(const std::string& file) {
  std::ifstream in(file);
  return {std::istreambuf_iterator<char>(in), {}};
}

TEST(Transcript, HasWhatWasSaidFromItsStart) {
  const TemporaryFolder folder;
  const std::string file = folder.path + "/log", printed = folder.path + "/printed";
  std::FILE* stream = std::fopen(printed.c_str(), "w");
  say(stream, "before\n");
  for (const char* again : {"", "again "}) {
    Transcript transcript;
    say(stream, "{}first, {} of {}\n", again, 1, 2);
    EXPECT_THROW(transcript.open(folder.path + "/nowhere/log"), Error);
    transcript.open(file);
    warn("a warning");
    EXPECT_TRUE(text_of(file).ends_with("flagscale: warning: a warning\n")) << "not there at once";
    transcribe("not printed\n");
  }
  say(stream, "after\n");
  std::fclose(stream);
  EXPECT_EQ(text_of(file),
            "first, 1 of 2\nflagscale: warning: a warning\nnot printed\n"
            "again first, 1 of 2\nflagscale: warning: a warning\nnot printed\n");
  EXPECT_EQ(text_of(printed), "before\nfirst, 1 of 2\nagain first, 1 of 2\nafter\n");
}

TEST(Transcript, WithoutRoomIsSaidOnce) {
  if (access("/dev/full", W_OK) != 0) GTEST_SKIP() << "no /dev/full";
  Transcript transcript;
  transcript.open("/dev/full");
  testing::internal::CaptureStderr();
  for (int i = 0; i < 3; ++i) warn("on with it");
  const std::string said = testing::internal::GetCapturedStderr();
  const std::string loss = "flagscale: warning: /dev/full is no longer complete: No space left on device\n",
                    line = "flagscale: warning: on with it\n";
  EXPECT_EQ(said, line + loss + line + line);
}

}  // namespace
}  // namespace flagscale
