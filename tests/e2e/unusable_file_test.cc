// Every file that a command reads, in its place: absent, a folder, empty, in UTF-16, without the right to
// read it. The error names the file and the reason, and nothing half-made is left.

#include <fstream>
#include <regex>

#include "tests/e2e/workshop.h"

namespace flagscale::e2e {
namespace {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;

struct Row {
  std::string file;    // whole at first
  Words words;         // reads it
  bool needed = true;  // without it the command cannot go on
  bool filled = true;  // nor with an empty one
};

class UnusableFile : public Workshop {
 protected:
  static void SetUpTestSuite() {
    Workshop::SetUpTestSuite();
    must(training("made", {"train.model.train_iters=10", "train.model.eval_iters=0"}));
    must({"checkpoint", "export", "made/checkpoints", "hf"});
    write_vocabulary_and_merges("pair");
    fs::copy_file(FLAGSCALE_SOURCE_DIR "/tests/golden/io/llama.gguf", folder_ / "m.gguf");
    write("p.jsonl", "{\"prompt\": \"names\"}\n");
    write("lines.jsonl", "{\"text\": \"names of things\"}\n");
    write("conf/part/a.yaml", "x: 1\n");
    write("conf/c.yaml", "defaults:\n  - part: a\n");
    fs::copy(FLAGSCALE_SOURCE_DIR "/examples/aquila/conf", folder_ / "aquila", fs::copy_options::recursive);
    write("hf/generation_config.json", "{\"eos_token_id\": 1}\n");
  }

  static Words preprocess(const Words& more) {
    Words words{"data", "preprocess", "--output-prefix", "out/x"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }

  static std::vector<Row> rows() {
    const Words generate{"generate", "hf", "--prompt", "names", "--max-tokens", "1"};
    const Words pair =
        preprocess({"--input", "p.jsonl", "--plain-text", "--tokenizer-type", "AquilaTokenizerFS",
                    "--vocab-file", "pair/vocab.json", "--merge-file", "pair/merges.txt"});
    Words dry_run = training("out/run", {"action=dryrun"});
    dry_run[2] = "aquila";
    const std::string shard = "made/checkpoints/iter_0000010/rank_00000_00000.safetensors";
    return {
        {"text.txt", preprocess({"--input", "text.txt", "--plain-text", "--tokenizer", "tokenizer"})},
        {"lines.jsonl", preprocess({"--input", "lines.jsonl", "--tokenizer", "tokenizer"})},
        {"tokenizer/tokenizer.json",
         preprocess({"--input", "text.txt", "--plain-text", "--tokenizer", "tokenizer/tokenizer.json"})},
        {"pair/vocab.json", pair},
        {"pair/merges.txt", pair},
        {"text.txt",
         {"data", "train-tokenizer", "--input", "text.txt", "--vocab-size", "300", "--output", "out/t"}},
        {"text_text_document.idx", {"data", "inspect", "text_text_document"}},
        {"text_text_document.bin", {"data", "inspect", "text_text_document"}},
        {"text_text_document.idx", training("out/run", {"action=test"})},
        {"text_text_document.bin", training("out/run", {"action=test"})},
        {"hf/config.json", generate},
        {"hf/model.safetensors", generate},
        {"hf/tokenizer.json", generate},
        {"hf/generation_config.json", generate, false, false},
        {"hf/tokenizer_config.json", generate, false},
        {"p.jsonl", {"generate", "hf", "--prompts", "p.jsonl", "--max-tokens", "1"}},
        {"p.jsonl", {"score", "hf", "--prompts", "p.jsonl"}},
        {"text.txt", {"score", "hf", "--text", "text.txt"}},
        {"m.gguf", {"checkpoint", "inspect", "m.gguf"}},
        {"m.gguf", {"checkpoint", "verify", "m.gguf"}},
        {"m.gguf", {"checkpoint", "import", "m.gguf", "out/imported"}},
        {"hf/config.json", {"checkpoint", "export", "hf", "out/hf"}},
        {shard, {"checkpoint", "verify", "made/checkpoints"}},
        {shard, {"checkpoint", "export", "made/checkpoints", "out/hf"}},
        {"made/checkpoints/iter_0000010/manifest.json", {"checkpoint", "inspect", "made/checkpoints"}},
        {"made/checkpoints/latest_checkpointed_iteration.txt",
         {"checkpoint", "inspect", "made/checkpoints"},
         false},
        {"conf/c.yaml", {"config", "show", "--config-path", "conf", "--config-name", "c"}, true, false},
        {"conf/part/a.yaml", {"config", "show", "--config-path", "conf", "--config-name", "c"}, true, false},
        {"aquila/train.yaml", dry_run, true, false},
    };
  }

  static std::string line(const Row& row) {
    std::string text = row.file + ": flagscale";
    for (const std::string& word : row.words) text += " " + word;
    return text;
  }

  static void refuses(const Row& row, const Setting& setting, const char* reason) {
    const Result result = run(row.words, setting);
    const std::string said = line(row) + "\n" + result.out + result.err;
    EXPECT_TRUE(result.code == 1 || result.code == 2) << result.code << " " << said;
    EXPECT_NE(result.err.find(fs::path(row.file).stem().string()), std::string::npos) << said;
    EXPECT_TRUE(std::regex_search(result.err, std::regex(reason))) << said;
    for (const auto& entry : fs::recursive_directory_iterator(folder_ / "out"))
      ADD_FAILURE() << said << "\nleft " << entry.path();
  }

  static bool is_text(const Row& row) {
    const fs::path path(row.file);
    const std::string end = path.extension();
    return (end == ".json" || end == ".jsonl" || end == ".txt" || end == ".yaml") &&
           path.stem() != "manifest" && path.stem() != "latest_checkpointed_iteration";
  }
  static std::string in_utf16(const fs::path& file) {
    std::string wide = "\xff\xfe";
    std::ifstream in(file, std::ios::binary);
    for (char c; in.get(c);) wide += {c, '\0'};
    return wide;
  }

  // Something stands in the file's place while body() runs; the file is back afterwards.
  template <class Body>
  static void replaced(const Row& row, Body body) {
    fs::remove_all(folder_ / "out");
    fs::create_directory(folder_ / "out");
    fs::permissions(folder_ / "out", fs::perms(0777));
    fs::rename(folder_ / row.file, folder_ / "aside");
    body();
    fs::remove_all(folder_ / row.file);
    fs::rename(folder_ / "aside", folder_ / row.file);
  }
};

TEST_F(UnusableFile, IsNamedWithTheReason) {
  const Setting own{.folder = folder_};
  for (const Row& row : rows()) {
    replaced(row, [&] { fs::copy(folder_ / "aside", folder_ / row.file), must(row.words); });
    replaced(row, [&] {
      if (row.needed)
        refuses(row, own,
                "[Nn]o such file|does not exist|there is no |is there|is missing|no config.json|brings no");
    });
    replaced(row, [&] {
      fs::create_directory(folder_ / row.file);
      if (row.needed) refuses(row, own, "folder|directory|no tokenizer here");
    });
    replaced(row, [&] {
      write(row.file, "");
      if (row.filled) refuses(row, own, "");
    });
    replaced(row, [&] {
      write(row.file, in_utf16(folder_ / "aside"));
      if (is_text(row)) refuses(row, own, "is UTF-16LE: save it as UTF-8 \\(`iconv -f UTF-16 -t UTF-8 ");
    });
  }
}

TEST_F(UnusableFile, ThatMayNotBeReadIsToldAsThat) {
  const Setting other{.folder = folder_, .nobody = true};
  FLAGSCALE_NEED_ANOTHER_USER(other);
  for (const Row& row : rows()) {
    replaced(row, [&] {
      fs::copy(folder_ / "aside", folder_ / row.file);
      fs::permissions(folder_ / row.file, fs::perms(0));
      refuses(row, other, "[Pp]ermission denied");
    });
    // The folder that it lies in.
    const fs::path parent = fs::path(row.file).parent_path();
    if (parent.empty()) continue;
    fs::permissions(folder_ / parent, fs::perms(0));
    const Result result = run(row.words, other);
    EXPECT_TRUE(result.code == 1 || result.code == 2) << line(row) << "\n" << result.err;
    EXPECT_TRUE(std::regex_search(result.err, std::regex("[Pp]ermission denied"))) << line(row) << "\n"
                                                                                   << result.err;
    EXPECT_EQ(result.err.find("filesystem error"), std::string::npos) << line(row) << "\n" << result.err;
    fs::permissions(folder_ / parent, fs::perms(0755));
  }
}

}  // namespace
}  // namespace flagscale::e2e
