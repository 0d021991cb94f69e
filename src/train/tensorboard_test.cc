// The files' bytes by a reader of our own; tests/oracle/train/check_tensorboard.py has TensorBoard itself
// read them.
#include "train/tensorboard.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/error.h"
#include "base/temporary_folder_test_support.h"
#include "train/event_file_test_support.h"

namespace flagscale::train {
namespace {

namespace fs = std::filesystem;

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
  const fs::directory_entry file = *fs::directory_iterator(dir);
  EXPECT_NE(file.path().filename().string().find("events.out.tfevents."), std::string::npos);
  std::ostringstream bytes;
  bytes << std::ifstream(file.path(), std::ios::binary).rdbuf();
  const std::vector<std::string> events = event_file::records(bytes.str());
  ASSERT_EQ(events.size(), 2u);
  EXPECT_NE(events[0].find("brain.Event:2"), std::string::npos);
  EXPECT_GT(event_file::value_at<double>(events[1], 1), 1.7e9) << "seconds since 1970";
  EXPECT_EQ(events[1].substr(9, 3), std::string("\x10\xac\x02", 3)) << "step 300";
  const size_t tag = events[1].find("\x0a\x07lm loss\x15");
  ASSERT_NE(tag, std::string::npos);
  EXPECT_EQ(event_file::value_at<float>(events[1], tag + 10), 2.5f);
  const auto scalars = scalars_in(dir);
  ASSERT_EQ(scalars.at("lm loss").size(), 1u);
  EXPECT_EQ(scalars.at("lm loss")[0].step, 300);
  EXPECT_EQ(scalars.at("lm loss")[0].value, 2.5);
}

TEST(TensorBoard, AFolderThatCannotBeIsAnError) {
  EXPECT_THROW(EventWriter("/proc/nowhere/events"), Error);
  EXPECT_THROW({ EventWriter writer("/dev/full/x"); }, Error);
}

}  // namespace
}  // namespace flagscale::train
