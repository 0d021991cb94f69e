#include "kernel/cuda/product_table.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "base/temporary_folder_test_support.h"

namespace flagscale::cuda {
namespace {

class KeptProducts : public ::testing::Test {
 protected:
  KeptProducts() { setenv("XDG_CACHE_HOME", folder_.path.c_str(), 1); }
  ~KeptProducts() override { unsetenv("XDG_CACHE_HOME"), unsetenv("FLAGSCALE_CACHE_BYTES"); }
  std::string file() const { return folder_.path + "/flagscale/products/NVIDIA-H200-cublaslt-130200.txt"; }
  TemporaryFolder folder_;
};

TEST_F(KeptProducts, AreFoundByTheNextStart) {
  ProductTable first("NVIDIA H200", 130200), beside("NVIDIA H200", 130200);
  EXPECT_EQ(first.winner("1 2 3", 4), -1);
  first.keep("1 2 3", 2, 4);
  beside.keep("4 5 6", 0, 3);  // does not lose the other's
  const ProductTable next("NVIDIA H200", 130200);
  EXPECT_EQ(next.winner("1 2 3", 4), 2);
  EXPECT_EQ(next.winner("4 5 6", 3), 0);
  EXPECT_EQ(next.winner("1 2 3", 5), -1);  // the library offers others now
  EXPECT_EQ(ProductTable("NVIDIA H200", 130201).winner("1 2 3", 4), -1);
  EXPECT_EQ(ProductTable("NVIDIA H100", 130200).winner("1 2 3", 4), -1);
}

TEST_F(KeptProducts, LinesThatCannotBeReadArePassedOver) {
  ProductTable("NVIDIA H200", 130200).keep("1 2 3", 1, 2);
  std::ofstream(file(), std::ios::app)
      << "7 8 9: 5 of 5\nnonsense\n4 4 4: -1 of 2\n5 5 5: x of 2\n\xff\xfe:\n";
  const ProductTable table("NVIDIA H200", 130200);
  EXPECT_EQ(table.winner("1 2 3", 2), 1);
  EXPECT_EQ(table.winner("7 8 9", 5), -1);
  EXPECT_EQ(table.winner("4 4 4", 2), -1);
  EXPECT_EQ(table.winner("5 5 5", 2), -1);
}

TEST_F(KeptProducts, NothingIsKeptWhereNothingMayBeOrCannot) {
  setenv("FLAGSCALE_CACHE_BYTES", "0", 1);
  ProductTable("NVIDIA H200", 130200).keep("1 2 3", 1, 2);
  EXPECT_FALSE(std::ifstream(file()).good());
  unsetenv("FLAGSCALE_CACHE_BYTES");
  std::ofstream(folder_.path + "/flagscale");  // no folder can be made here
  ProductTable table("NVIDIA H200", 130200);
  table.keep("1 2 3", 1, 2);
  EXPECT_EQ(table.winner("1 2 3", 2), 1);
}

}  // namespace
}  // namespace flagscale::cuda
