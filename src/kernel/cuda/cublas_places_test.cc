#include "kernel/cuda/cublas_places.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>

#include "base/temporary_folder_test_support.h"

namespace flagscale::cuda {
namespace {
TEST(CublasPlaces, AreTheLoadersThenOnesOwn) {
  const TemporaryFolder folder;
  const std::string older = folder.put("cuda/lib64/libcublasLt.so.12", ""),
                    newer = folder.put("cuda/lib64/libcublasLt.so.13", ""),
                    wheel =
                        folder.put("venv/lib/python3.12/site-packages/nvidia/cu13/lib/libcublasLt.so.13", "");
  folder.put("cuda/lib64/libcublasLt.so.11", "");
  setenv("CUDA_HOME", (folder.path + "/cuda").c_str(), 1);
  setenv("VIRTUAL_ENV", (folder.path + "/venv").c_str(), 1);
  const std::vector<std::string> places = cublas_places();
  unsetenv("CUDA_HOME"), unsetenv("VIRTUAL_ENV");
  const std::vector<std::string> first{"libcublasLt.so.13", "libcublasLt.so.12", newer, older};
  ASSERT_GE(places.size(), first.size() + 1);
  EXPECT_TRUE(std::equal(first.begin(), first.end(), places.begin()));
  EXPECT_NE(std::find(places.begin(), places.end(), wheel), places.end());
  for (const std::string& place : places) EXPECT_EQ(place.find("so.11"), std::string::npos) << place;
}

TEST(CublasPlaces, AFileThatIsNamedIsTheOnlyOne) {
  setenv("FLAGSCALE_CUBLAS", "/here/libcublasLt.so.13", 1);
  const std::vector<std::string> places = cublas_places();
  unsetenv("FLAGSCALE_CUBLAS");
  EXPECT_EQ(places, std::vector<std::string>{"/here/libcublasLt.so.13"});
}

}  // namespace
}  // namespace flagscale::cuda
