#include "launch/launcher/device_profile.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "base/error.h"
#include "base/temporary_folder_test_support.h"

namespace flagscale::launch {
namespace {

namespace fs = std::filesystem;

class DeviceProfiles : public testing::Test {
 protected:
  void SetUp() override { fs::current_path(FLAGSCALE_SOURCE_DIR); }
  void TearDown() override { fs::current_path(before_); }

  TemporaryFolder machine_;

 private:
  fs::path before_ = fs::current_path();
};

TEST_F(DeviceProfiles, TheVendorsOfTheSupportListAreThere) {
  std::set<std::string> names;
  for (const DeviceProfile& profile : device_profiles()) {
    names.insert(profile.name);
    EXPECT_FALSE(profile.library.empty()) << profile.name;
    EXPECT_FALSE(profile.torch_backend.empty()) << profile.name;
    if (profile.name == "cpu") continue;
    EXPECT_TRUE(profile.visible.ends_with("_VISIBLE_DEVICES")) << profile.name;
    EXPECT_FALSE(profile.tool.empty()) << profile.name;
  }
  // FlagScale's names for its wheels and its folder hardware/, and those of its communication library.
  for (const char* name :
       {"gpu", "ascend", "cambricon", "bi", "metax", "kunlunxin", "musa", "cpu", "Cambricon_MLU", "BI_V150",
        "KLX_P800", "MUSA_S5000", "Metax_C550", "Tsing_micro", "hygon", "enflame", "amd"})
    EXPECT_NO_THROW(device_profile(name)) << name;
  EXPECT_EQ(device_profile("A800").name, "nvidia");
  EXPECT_EQ(device_profile("npu").visible, "ASCEND_RT_VISIBLE_DEVICES");
  EXPECT_GE(names.size(), 12u);
}

TEST_F(DeviceProfiles, NoNameIsTakenTwice) {
  std::set<std::string> names;
  for (const DeviceProfile& profile : device_profiles())
    for (const std::string& name : profile.names) EXPECT_TRUE(names.insert(name).second) << name;
}

TEST_F(DeviceProfiles, AnUnknownNameIsRefused) {
  try {
    device_profile("abacus");
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("there are amd, ascend, "), std::string::npos) << error.what();
  }
}

TEST_F(DeviceProfiles, AnotherIsAFileAndItsKeysAreChecked) {
  fs::create_directory(machine_.path + "/devices");
  fs::current_path(machine_.path);
  machine_.put("devices/abacus.yaml", "names: [beads]\nvisible: BEAD_VISIBLE_DEVICES\n");
  EXPECT_EQ(device_profile("BEADS").visible, "BEAD_VISIBLE_DEVICES");
  machine_.put("devices/abacus.yaml", "names: [beads]\nvisable: X\n");
  try {
    device_profile("beads");
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("devices/abacus.yaml:2: there is no key visable"),
              std::string::npos)
        << error.what();
  }
}

TEST_F(DeviceProfiles, DevicesAreCountedByTheirFiles) {
  EXPECT_FALSE(devices_here(machine_.path));
  for (const char* name : {"nvidia0", "nvidia1", "nvidia10", "nvidiactl", "nvidia-uvm"})
    machine_.put(std::string("dev/") + name, "");
  EXPECT_EQ(devices_present(device_profile("nvidia"), machine_.path), 3);
  EXPECT_EQ(devices_here(machine_.path)->profile.name, "nvidia");
  machine_.put("dev/davinci_manager", "");
  EXPECT_EQ(devices_present(device_profile("ascend"), machine_.path), 0);
}

TEST_F(DeviceProfiles, ProcessorsInADriversListAreNoDevices) {
  for (const auto& [node, id] : {std::pair{"0", "0"}, {"1", "0"}, {"2", "51110"}, {"3", "2"}})
    machine_.put(std::string("sys/class/kfd/kfd/topology/nodes/") + node + "/gpu_id", std::string(id) + "\n");
  EXPECT_EQ(devices_present(device_profile("amd"), machine_.path), 2);
  EXPECT_EQ(devices_present(device_profile("hygon"), machine_.path), 0);  // its driver is not here
}

}  // namespace
}  // namespace flagscale::launch
