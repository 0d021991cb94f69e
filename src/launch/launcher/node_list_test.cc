#include "launch/launcher/node_list.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace flagscale::launch {
namespace {

using Hosts = std::vector<std::string>;

TEST(NodeList, Expands) {
  EXPECT_EQ(expand_node_list("login"), Hosts({"login"}));
  EXPECT_EQ(expand_node_list("gpu[01-03,7],login"), Hosts({"gpu01", "gpu02", "gpu03", "gpu7", "login"}));
  EXPECT_EQ(expand_node_list("a[9-11]"), Hosts({"a9", "a10", "a11"}));
  EXPECT_EQ(expand_node_list("a[098-101]-ib"), Hosts({"a098-ib", "a099-ib", "a100-ib", "a101-ib"}));
  EXPECT_EQ(expand_node_list("r[1-2]n[1,3]"), Hosts({"r1n1", "r1n3", "r2n1", "r2n3"}));
}

TEST(NodeList, RefusesWhatDoesNotParse) {
  for (const char* list : {"", "a,,b", "a[1-2", "a]1[", "a[[1]]", "a[x]", "a[3-1]", "a[]", "a[1-]",
                           "a[1-99999999]", "a[0-999]b[0-999]", "a[1-2-3]", "a[-1]"})
    EXPECT_THROW(expand_node_list(list), Error) << list;
}

TEST(NodeList, ExpandsCounts) {
  EXPECT_EQ(expand_counts("2(x3),1"), std::vector<int>({2, 2, 2, 1}));
  EXPECT_EQ(expand_counts("4"), std::vector<int>({4}));
  for (const char* list : {"", "x", "2(x", "2(x3", "2(x)", "(x2)", "2(x99999999)"})
    EXPECT_THROW(expand_counts(list), Error) << list;
}

}  // namespace
}  // namespace flagscale::launch
