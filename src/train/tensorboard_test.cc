// The files' bytes by a reader of our own; tests/oracle/train/check_tensorboard.py has TensorBoard itself
// read them.
#include "train/tensorboard.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/error.h"
#include "base/temporary_folder_test_support.h"

namespace flagscale::train {
namespace {

namespace fs = std::filesystem;

template <class T>
T value_at(std::string_view bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

uint32_t masked(std::string_view bytes) { return std::rotr(crc32c(bytes), 15) + 0xa282ead8u; }

std::string only_file(const fs::path& dir) {
  std::ostringstream text;
  for (const auto& entry : fs::directory_iterator(dir)) {
    EXPECT_NE(entry.path().filename().string().find("events.out.tfevents."), std::string::npos);
    text << std::ifstream(entry.path(), std::ios::binary).rdbuf();
  }
  return text.str();
}

TEST(TensorBoard, ChecksumIsCastagnolis) {
  EXPECT_EQ(crc32c("123456789"), 0xe3069283u);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aau);  // RFC 3720
}

TEST(TensorBoard, RecordsAreFramedAndHoldTheScalars) {
  const TemporaryFolder folder;
  const fs::path dir = fs::path(folder.path) / "made/anew";
  {
    EventWriter writer(dir);
    writer.scalar("lm loss", 2.5, 300);
    writer.flush();
  }
  const std::string file = only_file(dir);
  std::vector<std::string_view> events;
  for (size_t at = 0; at < file.size();) {
    const auto size = value_at<uint64_t>(file, at);
    ASSERT_LE(at + size + 16, file.size());
    EXPECT_EQ(value_at<uint32_t>(file, at + 8), masked(std::string_view(file).substr(at, 8)));
    events.push_back(std::string_view(file).substr(at + 12, size));
    EXPECT_EQ(value_at<uint32_t>(file, at + 12 + size), masked(events.back()));
    at += size + 16;
  }
  ASSERT_EQ(events.size(), 2u);
  EXPECT_NE(events[0].find("brain.Event:2"), std::string_view::npos);
  EXPECT_GT(value_at<double>(events[1], 1), 1.7e9) << "seconds since 1970";
  EXPECT_EQ(events[1].substr(9, 3), std::string_view("\x10\xac\x02", 3)) << "step 300";
  const size_t tag = events[1].find("\x0a\x07lm loss\x15");
  ASSERT_NE(tag, std::string_view::npos);
  EXPECT_EQ(value_at<float>(events[1], tag + 10), 2.5f);
}

TEST(TensorBoard, AFolderThatCannotBeIsAnError) {
  EXPECT_THROW(EventWriter("/proc/nowhere/events"), Error);
  EXPECT_THROW({ EventWriter writer("/dev/full/x"); }, Error);
}

}  // namespace
}  // namespace flagscale::train
