#include "data/preprocess.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <random>
#include <thread>

#include "base/error.h"
#include "base/log.h"
#include "data/indexed_reader.h"
#include "data/journal.h"
#include "io/atomic_file.h"

namespace flagscale::data {
namespace {

const std::string kPreprocessGolden = FLAGSCALE_SOURCE_DIR "/tests/golden/data/";

class Preprocess : public testing::Test {
 protected:
  void SetUp() override {
    set_log_level(LogLevel::kQuiet);
    folder_ = testing::TempDir() + "preprocess-" + std::to_string(::getpid()) + "-" +
              testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override {
    set_log_level(LogLevel::kInfo);
    std::filesystem::remove_all(folder_);
  }

  // Ids are bytes; 256 ends a document.
  PreprocessOptions options(const std::string& text) const {
    io::write_file(folder_ + "/input", text);
    PreprocessOptions result;
    result.inputs = {folder_ + "/input"};
    result.output_prefix = folder_ + "/out";
    result.make_encoder = [] {
      return [](std::string_view piece, std::vector<int32_t>& ids) {
        for (const char c : piece) ids.push_back(static_cast<unsigned char>(c));
      };
    };
    result.vocab_size = 257;
    result.eod = 256;
    result.append_eod = true;
    result.workers = 3;
    return result;
  }
  std::string prefix() const { return folder_ + "/out_text_document"; }

  // The documents' texts, end-of-document tokens as '$'.
  std::vector<std::string> documents() const {
    const IndexedReader reader(prefix());
    std::vector<std::string> result;
    for (int64_t d = 0; d < reader.index().documents(); ++d) {
      result.emplace_back();
      for (int64_t s = reader.index().document(d); s < reader.index().document(d + 1); ++s) {
        std::vector<int32_t> tokens(static_cast<size_t>(reader.index().length(s)));
        reader.read(s, 0, tokens);
        for (const int32_t id : tokens) result.back() += id == 256 ? '$' : static_cast<char>(id);
      }
    }
    return result;
  }
  std::string error_of(const PreprocessOptions& options) const {
    try {
      preprocess(options);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }
  std::string folder_;
};

using Texts = std::vector<std::string>;

TEST_F(Preprocess, JsonLinesGiveMegatronsBytes) {
  auto job = options(io::read_file(kPreprocessGolden + "lines.jsonl"));
  for (const size_t block : {size_t{1}, size_t{100}, size_t{1} << 20}) {
    job.block_bytes = block;
    const auto report = preprocess(job);
    EXPECT_EQ(report.documents, 7);
    EXPECT_EQ(report.prefixes, Texts{prefix()});
    EXPECT_EQ(io::read_file(prefix() + ".bin"), io::read_file(kPreprocessGolden + "lines_text_document.bin"));
    EXPECT_EQ(io::read_file(prefix() + ".idx"), io::read_file(kPreprocessGolden + "lines_text_document.idx"));
  }
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 3)
      << "nothing but input and output";
}

TEST_F(Preprocess, SeveralKeysGiveAPairEach) {
  auto job = options("{\"a\": \"x\", \"b\": \"longer\"}\n\r\n{\"b\": \"\", \"a\": \"old\", \"a\": \"y\"}");
  job.keys = {"a", "b"};
  const auto report = preprocess(job);
  EXPECT_EQ(report.tokens, (std::vector<int64_t>{4, 7}));
  EXPECT_EQ(IndexedReader(folder_ + "/out_b_document").index().documents(), 2);
  EXPECT_EQ(IndexedReader(folder_ + "/out_b_document").index().sequences(), 1);
}

TEST_F(Preprocess, NumbersBeyond64BitsInOtherFieldsAreAccepted) {
  preprocess(options(R"({"id": 123456789012345678901234567890, "text": "kept"})"));
  EXPECT_EQ(documents(), Texts{"kept$"});
}

TEST_F(Preprocess, ParagraphsArePartedByBlankLines) {
  auto job = options(
      "\xef\xbb\xbf"
      "one\ntwo\n\n \t\r\nthree\r\n\r\n\nfour");
  job.format = InputFormat::kParagraphs;
  for (const size_t block : {size_t{1}, size_t{7}, size_t{1} << 20}) {
    job.block_bytes = block;
    preprocess(job);
    EXPECT_EQ(documents(), (Texts{"one\ntwo$", "three$", "four$"})) << "blocks of " << block;
  }
}

TEST_F(Preprocess, AWholeFileIsADocument) {
  auto job = options("one\n\ntwo\n");
  io::write_file(folder_ + "/second", "three");
  job.inputs.push_back(folder_ + "/second");
  job.format = InputFormat::kWholeFile;
  job.block_bytes = 2;
  preprocess(job);
  EXPECT_EQ(documents(), (Texts{"one\n\ntwo\n$", "three$"}));
}

TEST_F(Preprocess, WithoutEodNothingIsAppended) {
  auto job = options("{\"text\": \"ab\"}\n");
  job.append_eod = false;
  preprocess(job);
  EXPECT_EQ(documents(), Texts{"ab"});
}

TEST_F(Preprocess, LargeVocabulariesTakeFourBytes) {
  auto job = options("{\"text\": \"ab\"}\n");
  job.vocab_size = 65500;
  preprocess(job);
  EXPECT_EQ(IndexedReader(prefix()).index().type(), TokenType::kI32);
  job.vocab_size = 65499;
  preprocess(job);
  EXPECT_EQ(IndexedReader(prefix()).index().type(), TokenType::kU16);
}

TEST_F(Preprocess, BrokenLinesAreNamed) {
  const std::string good = "{\"text\": \"fine\"}\n";
  const std::pair<std::string, std::string> broken[] = {
      {"{\"text\": \"cut", "input:3: not JSON"},
      {"[1, 2]", "input:3: not a JSON object"},
      {"{\"other\": 1}", "input:3: has no key \"text\""},
      {"{\"text\": 7}", "input:3: \"text\" is neither a string"},
      {"{\"text\": [\"a\", 7]}", "input:3: \"text\" is a list that holds"},
      {"{\"text\": \"\xff\xfe\"}", "input:3: not valid UTF-8"},
  };
  for (const auto& [line, message] : broken) {
    const std::string text = good + "\n" + line + "\n" + good;
    auto job = options(text);
    EXPECT_NE(error_of(job).find(message), std::string::npos) << error_of(job);
    EXPECT_FALSE(std::filesystem::exists(prefix() + ".idx"));
    job.skip_broken = true;
    const auto report = preprocess(job);
    EXPECT_EQ(report.skipped, 1);
    EXPECT_EQ(documents(), (Texts{"fine$", "fine$"}));
    std::filesystem::remove(prefix() + ".idx");
  }
}

TEST_F(Preprocess, AParagraphThatIsNotUtf8IsSkipped) {
  auto job = options(
      "good\n\nb\xc3\x28"
      "d\n\nalso good\n");
  job.format = InputFormat::kParagraphs;
  EXPECT_NE(error_of(job).find("input:3: not valid UTF-8"), std::string::npos) << error_of(job);
  job.skip_broken = true;
  EXPECT_EQ(preprocess(job).skipped, 1);
  EXPECT_EQ(documents(), (Texts{"good$", "also good$"}));
}

TEST_F(Preprocess, ATextThatTheTokenizerRefusesLeavesNoTrace) {
  auto job =
      options("{\"a\": \"1\", \"b\": \"2\"}\n{\"a\": \"3\", \"b\": \"bad\"}\n{\"a\": \"5\", \"b\": \"6\"}\n");
  job.keys = {"a", "b"};
  job.make_encoder = [] {
    return [](std::string_view piece, std::vector<int32_t>& ids) {
      for (const char c : piece) ids.push_back(c);
      if (piece == "bad") fail(ErrorKind::kInvalidArgument, "cannot be encoded");
    };
  };
  EXPECT_NE(error_of(job).find("input:2: cannot be encoded"), std::string::npos) << error_of(job);
  job.skip_broken = true;
  EXPECT_EQ(preprocess(job).documents, 2);
  EXPECT_EQ(io::read_file(folder_ + "/out_a_document.bin"), std::string("1\0\0\1"
                                                                        "5\0\0\1",
                                                                        8));
}

TEST_F(Preprocess, CompressedMissingAndEmptyInputsAreRefused) {
  EXPECT_NE(error_of(options(std::string("\x1f\x8b\x08\x00", 4))).find("gunzip"), std::string::npos);
  EXPECT_NE(error_of(options("\n\n")).find("no documents"), std::string::npos);
  for (const auto& entry : std::filesystem::directory_iterator(folder_))  // nothing half-written
    EXPECT_FALSE(entry.path().filename().string().starts_with("out")) << entry.path();
  auto job = options("");
  job.inputs = {folder_ + "/nothing"};
  EXPECT_NE(error_of(job).find("nothing: No such file or directory"), std::string::npos) << error_of(job);
  job.inputs = {"/dev/null"};
  EXPECT_NE(error_of(job).find("/dev/null is no file"), std::string::npos) << error_of(job);
}

// Runs the job in a child that is killed at a random moment, again and again until one run comes to its end.
int kill_until_done(const PreprocessOptions& job, std::mt19937& random) {
  for (int kills = 0;; ++kills) {
    const pid_t child = ::fork();
    if (child == 0) {
      try {
        preprocess(job);
        ::_exit(0);
      } catch (...) {
        ::_exit(1);
      }
    }
    std::this_thread::sleep_for(
        std::chrono::microseconds(std::uniform_int_distribution(500, 150000)(random)));
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    if (WIFEXITED(status)) {
      EXPECT_EQ(WEXITSTATUS(status), 0);
      return kills;
    }
  }
}

TEST_F(Preprocess, KilledAnywhereItGoesOnToTheSameBytes) {
  std::string text;
  for (int i = 0; i < 1500; ++i)
    text += i % 17 == 3
                ? "{\"text\": " + std::to_string(i) + "}\n"
                : "{\"text\": \"" +
                      std::string(static_cast<size_t>(i * 7 % 60), static_cast<char>('a' + i % 26)) + "\"}\n";
  auto job = options(text);
  job.skip_broken = true;
  preprocess(job);
  const std::string bin = io::read_file(prefix() + ".bin"), idx = io::read_file(prefix() + ".idx"),
                    skipped = io::read_file(folder_ + "/out.skipped.jsonl");
  EXPECT_EQ(std::count(skipped.begin(), skipped.end(), '\n'), 89);

  job.block_bytes = 4000;
  job.seconds_between_checkpoints = 0;
  const auto plain = job.make_encoder;
  job.make_encoder = [plain] {
    return [encode = plain()](std::string_view piece, std::vector<int32_t>& ids) {
      std::this_thread::sleep_for(std::chrono::microseconds(5));
      encode(piece, ids);
    };
  };
  std::mt19937 random(5);
  int kills = 0;
  for (int round = 0; round < 3; ++round) {
    std::filesystem::remove(prefix() + ".bin");
    std::filesystem::remove(prefix() + ".idx");
    kills += kill_until_done(job, random);
    EXPECT_EQ(io::read_file(prefix() + ".bin"), bin);
    EXPECT_EQ(io::read_file(prefix() + ".idx"), idx);
    EXPECT_EQ(io::read_file(folder_ + "/out.skipped.jsonl"), skipped);
  }
  EXPECT_GT(kills, 0) << "no run was killed: nothing was tested";
}

TEST_F(Preprocess, EveryBrokenDocumentIsInAFile) {
  std::string text = "{\"text\": \"good\"}\n";
  for (int i = 0; i < 12; ++i) text += "{\"text\": 3}\n\n";
  auto job = options(text + "{\"text\": \"caf\xe9\"}\n");
  job.skip_broken = true;
  set_log_level(LogLevel::kWarning);
  testing::internal::CaptureStderr();
  const PreprocessReport report = preprocess(job);
  const std::string warnings = testing::internal::GetCapturedStderr();
  set_log_level(LogLevel::kQuiet);
  EXPECT_EQ(report.skipped, 13);
  EXPECT_EQ(report.skipped_file, folder_ + "/out.skipped.jsonl");
  EXPECT_NE(to_json(report).find("\"skipped_file\":\"" + report.skipped_file + "\""), std::string::npos);
  EXPECT_NE(warnings.find("input:20: "), std::string::npos) << warnings;
  EXPECT_EQ(warnings.find("input:22: "), std::string::npos) << warnings;
  EXPECT_NE(warnings.find("3 more: see " + report.skipped_file), std::string::npos) << warnings;
  std::string want;
  for (int line = 2; line <= 24; line += 2)
    want += fmt::format(
        "{{\"file\":\"{0}/input\",\"line\":{1},\"error\":\"\\\"text\\\" is neither a string nor a list of "
        "strings\"}}\n",
        folder_, line);
  want += fmt::format("{{\"file\":\"{}/input\",\"line\":26,\"error\":\"not valid UTF-8\"}}\n", folder_);
  EXPECT_EQ(io::read_file(report.skipped_file), want);

  EXPECT_EQ(preprocess(options("{\"text\": \"good\"}\n")).skipped_file, "");
  EXPECT_FALSE(std::filesystem::exists(folder_ + "/out.skipped.jsonl")) << "an earlier run's list is left";
}

TEST_F(Preprocess, AnotherJobDoesNotGoOnFromThisOnesJournal) {
  auto job = options("{\"text\": \"one\"}\n{\"text\": 2}\n");
  job.block_bytes = 1;
  error_of(job);
  ASSERT_TRUE(std::filesystem::exists(folder_ + "/out.preprocess.json"));
  job.tokenizer_id = "another";
  job.skip_broken = true;
  const auto report = preprocess(job);
  EXPECT_FALSE(report.resumed);
  EXPECT_EQ(documents(), Texts{"one$"});
}

TEST_F(Preprocess, AJournalKeepsWhatIsCounted) {
  Journal journal;
  journal.job = "j", journal.skipped = 3, journal.skipped_bytes = 99;
  journal.notes["messages of role 'x'"] = {2, "chats.jsonl:9"};
  save_journal(folder_ + "/journal", journal);
  const auto read = load_journal(folder_ + "/journal");
  ASSERT_TRUE(read);
  EXPECT_EQ(read->skipped_bytes, 99u);
  ASSERT_EQ(read->notes.size(), 1u);
  EXPECT_EQ(read->notes.begin()->first, "messages of role 'x'");
  EXPECT_EQ(read->notes.begin()->second.count, 2);
  EXPECT_EQ(read->notes.begin()->second.place, "chats.jsonl:9");
}

TEST_F(Preprocess, AJournalThatIsNoneIsRefusedByName) {
  const auto job = options("{\"text\": \"one\"}\n");
  for (const char* journal : {"", "{", "{\"version\": 2}", "[]", "{\"version\": 1}"}) {
    io::write_file(folder_ + "/out.preprocess.json", journal);
    EXPECT_NE(error_of(job).find("out.preprocess.json"), std::string::npos) << error_of(job);
  }
}

}  // namespace
}  // namespace flagscale::data
