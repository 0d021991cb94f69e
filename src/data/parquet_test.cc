// Parquet files of pyarrow's (tests/oracle/data/make_parquet.py), row for row, and preprocessed as the JSON
// lines that their rows are.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/error.h"
#include "base/log.h"
#include "base/temporary_folder_test_support.h"
#include "data/indexed_reader.h"
#include "data/parquet_rows.h"
#include "data/preprocess.h"
#include "io/atomic_file.h"
#include "text/tokenizer.h"

namespace flagscale::data::parquet {
namespace {

const std::string kFolder = FLAGSCALE_SOURCE_DIR "/tests/golden/data/parquet/";

nlohmann::json golden_rows(const std::string& name) {
  return nlohmann::json::parse(std::ifstream(kFolder + "rows.json"))[name];
}

nlohmann::json read_file(const std::string& path, const std::vector<std::string>& columns, uint64_t first,
                         size_t least) {
  ParquetRows rows(path, columns, first);
  nlohmann::json result = nlohmann::json::array();
  for (std::string lines; !(lines = rows.next(least)).empty();) {
    std::istringstream text(lines);
    for (std::string line; std::getline(text, line);) result.push_back(nlohmann::json::parse(line));
  }
  return result;
}

nlohmann::json read_rows(const std::string& name, const std::vector<std::string>& columns, uint64_t first,
                         size_t least) {
  return read_file(kFolder + name + ".parquet", columns, first, least);
}

// So that a run that goes on does not decode again what it has: the file has seven rows a group.
TEST(Parquet, GroupsBeforeTheFirstRowAreNotRead) {
  const TemporaryFolder folder;
  std::string bytes = io::read_file(kFolder + "text.parquet", 1 << 20);
  std::fill_n(bytes.begin() + 4, 120, '\xff');
  io::write_file(folder.path + "/text.parquet", bytes);
  EXPECT_THROW(read_file(folder.path + "/text.parquet", {}, 0, 100), Error);
  EXPECT_THROW(read_file(folder.path + "/text.parquet", {}, 6, 100), Error);
  const nlohmann::json want = golden_rows("text");
  for (const int64_t first : {7, 20, 21, 49})
    EXPECT_EQ(read_file(folder.path + "/text.parquet", {}, static_cast<uint64_t>(first), 100),
              nlohmann::json(want.begin() + first, want.end()))
        << first;
}

TEST(Parquet, RowsAreThoseOfPyarrow) {
  for (const std::string name : {"conversations", "text", "broken", "alpaca", "parts", "sharegpt"}) {
    SCOPED_TRACE(name);
    const nlohmann::json want = golden_rows(name);
    EXPECT_EQ(read_rows(name, {}, 0, 1 << 20), want);
    EXPECT_EQ(read_rows(name, {}, 0, 1), want) << "a row at a time";
    EXPECT_EQ(read_rows(name, {}, 1, 100), nlohmann::json(want.begin() + 1, want.end()));
    EXPECT_TRUE(read_rows(name, {}, want.size(), 100).empty());
  }
  EXPECT_TRUE(is_parquet(kFolder + "text.parquet"));
  EXPECT_FALSE(is_parquet(kFolder + "rows.json"));
}

TEST(Parquet, OnlyTheColumnsThatAreAskedForAreRead) {
  EXPECT_EQ(parquet_columns(kFolder + "conversations.parquet"),
            (std::vector<std::string>{"id", "messages", "score", "tags"}));
  const nlohmann::json rows = read_rows("text", {"text", "absent"}, 0, 1 << 20);
  ASSERT_EQ(rows.size(), 50u);
  for (const auto& row : rows) EXPECT_EQ(row.size(), 1u) << row;
  EXPECT_EQ(read_rows("text", {"absent"}, 0, 1 << 20), golden_rows("text"));
}

// Ids are bytes.
PreprocessOptions job(const std::string& input, const std::string& prefix) {
  PreprocessOptions o;
  o.inputs = {input}, o.output_prefix = prefix, o.vocab_size = 256, o.workers = 2, o.block_bytes = 64;
  o.make_encoder = [] {
    return [](std::string_view piece, std::vector<int32_t>& ids) {
      for (const char c : piece) ids.push_back(static_cast<unsigned char>(c));
    };
  };
  return o;
}

std::vector<std::string> documents(const std::string& prefix) {
  const IndexedReader reader(prefix);
  std::vector<std::string> result;
  for (int64_t s = 0; s < reader.index().sequences(); ++s) {
    std::vector<int32_t> ids(static_cast<size_t>(reader.index().length(s)));
    reader.read(s, 0, ids);
    result.emplace_back(ids.begin(), ids.end());
  }
  return result;
}

class ParquetPreprocess : public testing::Test {
 protected:
  void SetUp() override { set_log_level(LogLevel::kQuiet); }
  void TearDown() override { set_log_level(LogLevel::kInfo); }
  std::string refusal(const PreprocessOptions& o) {
    try {
      preprocess(o);
      return "nothing was refused";
    } catch (const Error& error) {
      return error.what();
    }
  }
  TemporaryFolder folder_;
};

TEST_F(ParquetPreprocess, TextColumnsBecomeDocumentsInOrder) {
  PreprocessOptions o = job(kFolder + "text.parquet", folder_.path + "/out");
  o.keys = {"text", "large"};
  EXPECT_EQ(preprocess(o).documents, 50);
  const auto texts = documents(folder_.path + "/out_text_document"),
             large = documents(folder_.path + "/out_large_document");
  const nlohmann::json want = golden_rows("text");
  ASSERT_EQ(texts.size(), 50u);
  for (size_t i = 0; i < 50; ++i) {
    EXPECT_EQ(texts[i], want[i]["text"].get<std::string>());
    EXPECT_EQ(large[i], want[i]["large"].get<std::string>());
  }
}

TEST_F(ParquetPreprocess, ErrorsNameFileRowAndColumn) {
  PreprocessOptions o = job(kFolder + "broken.parquet", folder_.path + "/out");
  EXPECT_NE(refusal(o).find("broken.parquet: row 2: has no key \"text\""), std::string::npos) << refusal(o);
  o.skip_broken = true;
  const PreprocessReport report = preprocess(o);
  EXPECT_EQ(report.documents, 2);
  EXPECT_EQ(report.skipped, 1);
  o = job(kFolder + "broken.parquet", folder_.path + "/out");
  o.keys = {"n"};
  EXPECT_NE(refusal(o).find("row 1: \"n\" is neither a string"), std::string::npos) << refusal(o);
  o.keys = {"content"};
  EXPECT_NE(refusal(o).find("has no column \"content\"; there are: text, n."), std::string::npos)
      << refusal(o);
  o.keys = {"text"}, o.format = InputFormat::kParagraphs;
  EXPECT_NE(refusal(o).find("a Parquet file: leave out --plain-text"), std::string::npos) << refusal(o);
}

// Cut off, or with a byte changed anywhere: an error that names the file, never a crash.
TEST_F(ParquetPreprocess, BrokenFilesAreRefused) {
  const std::string whole = io::read_file(kFolder + "conversations.parquet", 1 << 20);
  const std::string path = folder_.path + "/bad.parquet";
  for (size_t size = 4; size < whole.size(); size += 97) {
    io::write_file(path, whole.substr(0, size));
    EXPECT_THROW(ParquetRows(path, {}, 0), Error) << size;
  }
  int refused = 0;
  for (size_t at = 4; at < whole.size(); at += 13) {
    std::string bad = whole;
    bad[at] = static_cast<char>(bad[at] ^ 0x55);
    io::write_file(path, bad);
    try {
      ParquetRows rows(path, {}, 0);
      for (int i = 0; i < 100 && !rows.next(1).empty();) ++i;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("bad.parquet"), std::string::npos) << error.what();
      ++refused;
    }
  }
  EXPECT_GT(refused, 20);
}

constexpr const char* kChatml =
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] }}"
    "{% for call in m.tool_calls or [] %}{{ call | tojson }}{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

TEST_F(ParquetPreprocess, ConversationsAreThoseOfTheSameRowsAsLines) {
  std::filesystem::copy_file(FLAGSCALE_SOURCE_DIR "/tests/golden/text/smollm.json",
                             folder_.path + "/tokenizer.json");
  folder_.put("tokenizer_config.json", R"({"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"})");
  const std::shared_ptr<const text::Tokenizer> tokenizer = text::load_tokenizer(folder_.path);
  PreprocessOptions o;
  o.conversations = std::make_shared<ConversationEncoder>(tokenizer, kChatml, LearntPart::kAnswers);
  o.format = InputFormat::kRecords, o.keys = {"text", "loss_mask"}, o.vocab_size = tokenizer->vocab_size();
  const auto rows = nlohmann::ordered_json::parse(std::ifstream(kFolder + "rows.json"));
  for (const std::string name : {"conversations", "alpaca", "calls", "parts", "sharegpt"}) {
    SCOPED_TRACE(name);
    std::string lines;
    for (const auto& row : rows[name]) lines += row.dump() + "\n";
    const std::vector<std::string> inputs{folder_.put(name + ".jsonl", lines), kFolder + name + ".parquet"};
    std::vector<int64_t> learnt;
    for (size_t i = 0; i < 2; ++i) {
      o.inputs = {inputs[i]}, o.output_prefix = fmt::format("{}/{}{}", folder_.path, name, i);
      learnt.push_back(preprocess(o).learnt);
    }
    EXPECT_EQ(learnt[0], learnt[1]);
    EXPECT_GT(learnt[0], 0);
    for (const char* end : {"_text_document.bin", "_text_document.idx", "_loss_mask_document.bin"})
      EXPECT_EQ(io::read_file(fmt::format("{}/{}0{}", folder_.path, name, end), 1 << 20),
                io::read_file(fmt::format("{}/{}1{}", folder_.path, name, end), 1 << 20))
          << end;
  }
}

}  // namespace
}  // namespace flagscale::data::parquet
