// What registers itself by a static object is there: an archive instead of OBJECT libraries would drop it in
// silence.

#include <gtest/gtest.h>

#include <regex>

#include "base/registry.h"
#include "kernel/kernel.h"
#include "model/decoder/config.h"
#include "tests/architecture/source_tree.h"

namespace flagscale::architecture {
namespace {

namespace fs = std::filesystem;

std::string text_of(const fs::path& file) {
  std::string text;
  for (const std::string& line : lines(file)) text += line + "\n";
  return text;
}

// All first groups of `pattern` in the sources of a folder.
std::set<std::string> named(const std::string& folder, const std::string& extension,
                            const std::string& pattern) {
  const std::regex expression(pattern);
  std::set<std::string> names;
  for (const fs::path& file : files(folder, {extension})) {
    const std::string text = text_of(file);
    for (std::sregex_iterator it(text.begin(), text.end(), expression), end; it != end; ++it)
      names.insert((*it)[1]);
  }
  return names;
}

TEST(Registration, EveryKernelSlotHasAScalarKernel) {
  std::set<std::string> filled;
  for (const KernelSlotBase* slot : coverage())
    if (slot->has(DeviceKind::kCpu, Isa::kScalar)) filled.insert(slot->name());
  const auto declared = named("src/op", ".h", "KernelSlot<\\w+>\\s+k\\w+\\{\\s*\"([^\"]+)\"");
  ASSERT_GT(declared.size(), 5u);
  for (const std::string& name : declared) EXPECT_TRUE(filled.contains(name)) << name;
}

// What a GPU trains and serves has kernels for it, in any build's sources. Of those without
// the work is done otherwise there: adapters by matmul, GGUF's blocks widened as they are loaded, weights
// drawn before they are brought over.
TEST(Registration, EveryKernelSlotButTheseHasAKernelForCuda) {
  const std::set<std::string> without = {"adapted_matmul",     "packed_linear", "packed_linear_exact",
                                         "packed_linear_int8", "packed_rows",   "random_normal",
                                         "thin_gradient",      "thin_matmul",   "unpack"};
  const std::regex slot("KernelSlot<\\w+>\\s+(k\\w+)\\{\\s*\"([^\"]+)\"");
  const auto filled = named("src/op", ".cu", "CudaKernel<\\w+>\\s+k\\w+\\{\\s*(k\\w+)");
  std::set<std::string> absent;
  for (const fs::path& file : files("src/op", {".h"})) {
    const std::string text = text_of(file);
    for (std::sregex_iterator it(text.begin(), text.end(), slot), end; it != end; ++it)
      if (!filled.contains((*it)[1])) absent.insert((*it)[2]);
  }
  EXPECT_GT(filled.size(), 30u);
  EXPECT_EQ(absent, without);
}

TEST(Registration, EveryModelFamilyIsThere) {
  const auto declared = named("src/model", ".cc", "Registration<ModelFamily>\\s+k\\w+\\{\\s*\"([^\"]+)\"");
  ASSERT_GE(declared.size(), 3u);
  for (const std::string& name : declared)
    EXPECT_NE(Registry<model::ModelFamily>::instance().find(name), nullptr) << name;
}

}  // namespace
}  // namespace flagscale::architecture
