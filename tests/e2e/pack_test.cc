// The archive of ./dev pack: unpacked, it needs nothing of this tree.

#include "tests/e2e/workshop.h"

namespace flagscale::e2e {
namespace {

class Pack : public Workshop {};

TEST_F(Pack, FindsItsExamplesFromAnywhere) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a program with sanitizers is larger than an archive may be";
#endif
  const Result packed =
      shell("FLAGSCALE_PACK_GLIBC=99 " FLAGSCALE_SOURCE_DIR "/tools/pack.sh " FLAGSCALE_PROGRAM
            " flagscale.tar.gz && tar -xf flagscale.tar.gz && mkdir elsewhere",
            folder_);
  ASSERT_EQ(packed.code, 0) << packed.out << packed.err;
  EXPECT_NE(packed.out.find(" MiB, for glibc 2."), std::string::npos) << packed.out;
  // glibc is the machine's; all else, the libraries' own libraries too, comes along.
  EXPECT_EQ(shell("ldd flagscale/bin/flagscale | awk '$3 ~ /^\\// { print $3 }' | grep -v "
                  "\"$PWD/flagscale/bin/../lib/\" | "
                  "grep -Ev '/(libc|libm|libdl|librt|libpthread)[.]so' || true",
                  folder_)
                .out,
            "");
  const auto run_there = [](const std::string& words) {
    return shell("../flagscale/bin/flagscale " + words, folder_ / "elsewhere");
  };
  EXPECT_EQ(run_there("completion --list examples").out,
            "aquila\nllama3\nmixtral\nqwen2_5\nqwen3\nsmollm2\nspeed\n");
  const Result trained = run_there(
      "train aquila data_path=../text_text_document tokenizer_path=../tokenizer train.model.train_iters=2 "
      "train.model.eval_iters=1 train.system.logging.log_interval=1");
  EXPECT_EQ(trained.code, 0) << trained.err;
  EXPECT_NE(trained.out.find("iteration        2/       2"), std::string::npos) << trained.out << trained.err;
  EXPECT_TRUE(std::filesystem::exists(folder_ / "elsewhere/outputs/aquila/checkpoints/iter_0000002"));
}

TEST_F(Pack, LeavesNoArchiveThatIsTooLargeOrForFewSystems) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a program with sanitizers is larger than an archive may be";
#endif
  const auto expect_refused = [&](const std::string& limits, const std::string& words) {
    const Result packed = shell(
        limits + " " FLAGSCALE_SOURCE_DIR "/tools/pack.sh " FLAGSCALE_PROGRAM " refused.tar.gz", folder_);
    EXPECT_EQ(packed.code, 1) << limits;
    EXPECT_NE(packed.err.find(words), std::string::npos) << packed.err;
    EXPECT_FALSE(std::filesystem::exists(folder_ / "refused.tar.gz"));
    EXPECT_FALSE(std::filesystem::exists(folder_ / "refused.tar.gz.partial"));
  };
  expect_refused("FLAGSCALE_PACK_GLIBC=99 FLAGSCALE_PACK_MIB=1", "MiB, more than 1\n");
  expect_refused("FLAGSCALE_PACK_GLIBC=2.3",
                 ": build it on a system that has 2.3, or set FLAGSCALE_PACK_GLIBC=2.");
}

}  // namespace
}  // namespace flagscale::e2e
