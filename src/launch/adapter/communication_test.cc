#include "launch/adapter/communication.h"

#include <gtest/gtest.h>

#include <filesystem>

namespace flagscale::launch {
namespace {

using Warnings = std::vector<std::string>;

class Communication : public testing::Test {
 protected:
  void SetUp() override { std::filesystem::current_path(FLAGSCALE_SOURCE_DIR); }
  void TearDown() override { std::filesystem::current_path(before_); }

 private:
  std::filesystem::path before_ = std::filesystem::current_path();
};

TEST_F(Communication, UnlikeVendorsNeedALibraryForBoth) {
  const std::vector<Host> hosts{{"a", 8, "A800"}, {"b", 8, "A100"}, {"c", 8, "BI_V150"}, {"d", 8, "npu"}};
  const Warnings want{
      "a has nvidia devices, which communicate by NCCL, and c has iluvatar devices, which communicate by "
      "IXCCL: "
      "train.system.distributed_backend=flagcx or gloo is for both"};
  EXPECT_EQ(communication_warnings(hosts, ""), want);
  EXPECT_EQ(communication_warnings(hosts, "nccl"), want);
  EXPECT_EQ(communication_warnings(hosts, "flagcx"), Warnings());
  EXPECT_EQ(communication_warnings(hosts, "gloo"), Warnings());
}

TEST_F(Communication, AVendorsBackEndIsNotOnAnothersDevices) {
  EXPECT_EQ(communication_warnings({{"a", 8, "Ascend910"}}, "hccl"), Warnings());
  EXPECT_EQ(communication_warnings({{"a", 8, "Ascend910"}}, "nccl"), Warnings()) << "torch_npu maps it";
  EXPECT_EQ(
      communication_warnings({{"a", 8, "A800"}, {"b", 8, "A800"}}, "hccl"),
      (Warnings{"train.system.distributed_backend is hccl, and a has nvidia devices, whose back end is nccl "
                "(NCCL)"}));
}

TEST_F(Communication, AnUnknownTypeSaysNothing) {
  EXPECT_EQ(communication_warnings({{"a", 8, "abacus"}, {"b", 8, "A800"}, {"c", 1, ""}}, ""), Warnings());
}

}  // namespace
}  // namespace flagscale::launch
