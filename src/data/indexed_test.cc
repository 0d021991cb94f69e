#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>

#include "base/error.h"
#include "data/indexed_reader.h"
#include "data/indexed_writer.h"
#include "io/atomic_file.h"

namespace flagscale::data {
namespace {

const std::string kIndexedGolden = FLAGSCALE_SOURCE_DIR "/tests/golden/data/";

class IndexedFile : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "indexed-" + std::to_string(::getpid()) + "-" +
              testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string prefix(const std::string& name) const { return folder_ + "/" + name; }
  std::string folder_;
};

// Feeds every sequence and document of `reader` from `first` document on to `writer`.
void copy(const IndexedReader& reader, IndexedWriter& writer, int64_t first, int64_t end) {
  const auto& index = reader.index();
  std::vector<int32_t> tokens;
  for (int64_t d = first; d < end; ++d) {
    for (int64_t s = index.document(d); s < index.document(d + 1); ++s) {
      tokens.resize(static_cast<size_t>(index.length(s)));
      reader.read(s, 0, tokens);
      writer.add_sequence(tokens, index.mode(s));
    }
    writer.end_document();
  }
}

TEST_F(IndexedFile, WritesTheBytesThatMegatronWrites) {
  for (const std::string name : {"a", "b", "c"}) {
    const IndexedReader reader(kIndexedGolden + name);
    IndexedWriter writer(prefix(name), reader.index().type(), reader.index().has_modes());
    copy(reader, writer, 0, reader.index().documents());
    writer.commit();
    writer.remove_parts();
    EXPECT_EQ(io::read_file(prefix(name) + ".bin"), io::read_file(kIndexedGolden + name + ".bin"));
    EXPECT_EQ(io::read_file(prefix(name) + ".idx"), io::read_file(kIndexedGolden + name + ".idx"));
  }
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 6) << "only the pairs are left";
}

TEST_F(IndexedFile, ReadsModesDocumentsAndTypes) {
  const IndexedReader reader(kIndexedGolden + "c");
  EXPECT_EQ(reader.index().type(), TokenType::kI32);
  EXPECT_TRUE(reader.index().has_modes());
  EXPECT_EQ(reader.index().documents(), 5);
  EXPECT_EQ(reader.index().document(2), reader.index().document(3)) << "a document without a sequence";
  EXPECT_EQ(reader.index().mode(2), 1);
  EXPECT_EQ(IndexedReader(kIndexedGolden + "a").index().type(), TokenType::kU16);
}

TEST_F(IndexedFile, GoesOnFromASyncedPosition) {
  const IndexedReader reader(kIndexedGolden + "b");
  WriterPosition position;
  {
    IndexedWriter writer(prefix("b"), reader.index().type());
    copy(reader, writer, 0, 9);
    position = writer.sync();
    copy(reader, writer, 9, 14);  // written but not agreed upon: lost with the process
  }
  IndexedWriter writer(prefix("b"), reader.index().type(), false, position);
  copy(reader, writer, 9, reader.index().documents());
  writer.commit();
  EXPECT_EQ(io::read_file(prefix("b") + ".idx"), io::read_file(kIndexedGolden + "b.idx"));
  EXPECT_EQ(io::read_file(prefix("b") + ".bin"), io::read_file(kIndexedGolden + "b.bin"));
}

TEST_F(IndexedFile, CommitCanBeRepeatedAfterAKillBetweenItsRenames) {
  const IndexedReader reader(kIndexedGolden + "a");
  WriterPosition position;
  {
    IndexedWriter writer(prefix("a"), TokenType::kU16);
    copy(reader, writer, 0, reader.index().documents());
    position = writer.sync();
    writer.commit();
  }
  std::filesystem::remove(prefix("a") + ".idx");  // as if killed before the index was renamed
  IndexedWriter writer(prefix("a"), TokenType::kU16, false, position);
  writer.commit();
  EXPECT_EQ(io::read_file(prefix("a") + ".idx"), io::read_file(kIndexedGolden + "a.idx"));
}

TEST_F(IndexedFile, TwoWritersDoNotMix) {
  IndexedWriter writer(prefix("x"), TokenType::kI32);
  EXPECT_THROW(IndexedWriter(prefix("x"), TokenType::kI32), Error);
}

TEST_F(IndexedFile, RefusesIdsThatDoNotFit) {
  IndexedWriter writer(prefix("x"), TokenType::kU16);
  EXPECT_THROW(writer.add_sequence(std::vector<int32_t>{1, 65536}), Error);
  EXPECT_THROW(writer.add_sequence(std::vector<int32_t>{-1}), Error);
}

TEST_F(IndexedFile, NamesTheIdOutsideTheVocabulary) {
  for (const bool mmap : {false, true}) {
    const IndexedReader reader(kIndexedGolden + "a", mmap, 500);
    std::string message;
    std::vector<int32_t> tokens;
    for (int64_t s = 0; s < reader.index().sequences() && message.empty(); ++s) {
      tokens.resize(static_cast<size_t>(reader.index().length(s)));
      try {
        reader.read(s, 0, tokens);
      } catch (const Error& error) {
        message = error.what();
      }
    }
    EXPECT_NE(message.find("the vocabulary has 0..499"), std::string::npos) << message;
  }
}

struct Damage {
  const char* what;
  std::function<void(std::string&)> apply;
  const char* message;
};

template <class T>
void put(std::string& bytes, size_t at, T value) {
  std::memcpy(bytes.data() + at, &value, sizeof(T));
}

// a.idx: 57 sequences and 61 boundaries.
const Damage kDamages[] = {
    {"magic", [](std::string& b) { b[3] = 'X'; }, "MMIDIDX"},
    {"version", [](std::string& b) { put<uint64_t>(b, 9, 2); }, "version 2"},
    {"code", [](std::string& b) { b[17] = 9; }, "type code 9"},
    {"float", [](std::string& b) { b[17] = 7; }, "float32"},
    {"sequences", [](std::string& b) { put<uint64_t>(b, 18, uint64_t{1} << 61); }, "sequences cannot fit"},
    {"boundaries", [](std::string& b) { put<uint64_t>(b, 26, ~uint64_t{0}); }, "boundaries cannot fit"},
    {"no boundaries", [](std::string& b) { put<uint64_t>(b, 26, 0); }, "no document boundaries"},
    {"one sequence less", [](std::string& b) { put<uint64_t>(b, 18, 56); }, "56 sequences"},
    {"length", [](std::string& b) { put<int32_t>(b, 34, -5); }, "length of sequence 0 is -5"},
    {"long length", [](std::string& b) { put<int32_t>(b, 34, 1 << 30); }, "sequence 0 lies in bytes"},
    {"offset", [](std::string& b) { put<int64_t>(b, 34 + 4 * 57 + 8, -1); }, "offset of sequence 1"},
    {"offset inside a token", [](std::string& b) { put<int64_t>(b, 34 + 4 * 57 + 8, 1); }, "multiple of the"},
    {"far offset", [](std::string& b) { put<int64_t>(b, 34 + 4 * 57, INT64_MAX - 7); },
     "sequence 0 lies in bytes"},
    {"first boundary", [](std::string& b) { put<int64_t>(b, 34 + 12 * 57, 1); }, "first document boundary"},
    {"order", [](std::string& b) { put<int64_t>(b, 34 + 12 * 57 + 8 * 5, 0); },
     "smaller than the one before"},
    {"last boundary", [](std::string& b) { put<int64_t>(b, b.size() - 8, 58); }, "last document boundary"},
    {"cut", [](std::string& b) { b.resize(b.size() - 3); }, "bytes, but"},
    {"header cut", [](std::string& b) { b.resize(20); }, "shorter than"},
    {"empty", [](std::string& b) { b.clear(); }, "shorter than"},
};

TEST_F(IndexedFile, EveryDamagedFieldIsNamed) {
  std::filesystem::copy(kIndexedGolden + "a.bin", prefix("a") + ".bin");
  const std::string whole = io::read_file(kIndexedGolden + "a.idx");
  for (const auto& damage : kDamages) {
    SCOPED_TRACE(damage.what);
    std::string bytes = whole;
    damage.apply(bytes);
    io::write_file(prefix("a") + ".idx", bytes);
    try {
      IndexedReader reader(prefix("a"));
      ADD_FAILURE() << "accepted";
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(damage.message), std::string::npos) << error.what();
      EXPECT_NE(std::string(error.what()).find("a.idx"), std::string::npos) << error.what();
    }
  }
}

TEST_F(IndexedFile, MissingFilesAreNamed) {
  try {
    IndexedReader reader(prefix("nothing"));
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kNotFound);
    EXPECT_NE(std::string(error.what()).find("nothing.idx"), std::string::npos) << error.what();
  }
}

TEST_F(IndexedFile, ThePrefixThatIsMeantIsOffered) {
  for (const char* end : {".bin", ".idx"})
    std::filesystem::copy_file(kIndexedGolden + "a" + end, prefix("book_text_document") + end);
  for (const char* wrong : {"book", "book_text_document.bin", "book_text_document.idx"}) try {
      IndexedReader reader(prefix(wrong));
      ADD_FAILURE() << wrong;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("did you mean " + prefix("book_text_document") + "?"),
                std::string::npos)
          << error.what();
    }
}

}  // namespace
}  // namespace flagscale::data
