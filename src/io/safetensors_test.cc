#include "io/safetensors.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "io/io_test_support.h"
#include "io/safetensors_writer.h"

namespace flagscale::io {
namespace {

// A file of the given header and data.
std::string file_of(const TemporaryFolder& folder, const std::string& header, size_t data_bytes) {
  const uint64_t length = header.size();
  const std::string path = folder.path + "/model.safetensors";
  put(path, std::string(reinterpret_cast<const char*>(&length), 8) + header + std::string(data_bytes, 'x'));
  return path;
}

std::vector<std::byte> bytes_of(const std::vector<float>& values) {
  std::vector<std::byte> result(values.size() * sizeof(float));
  std::memcpy(result.data(), values.data(), result.size());
  return result;
}

TEST(Safetensors, ReadsWhatTheReferenceWrote) {
  const auto weights = open_weights(golden("llama.safetensors"));
  const TensorInfo& info = weights->info("model.layers.0.self_attn.k_proj.weight");
  EXPECT_EQ(info.shape, (std::vector<int64_t>{32, 64}));
  EXPECT_EQ(info.dtype, DType::kF32);
  EXPECT_EQ(info.row_elements(), 64);
  EXPECT_EQ(weights->row(info, 3).size(), 256u);
  const auto all = weights->read_f32(info.name);
  std::vector<float> some(128);
  weights->read_f32(info.name, 5, 2, some);
  EXPECT_TRUE(std::equal(some.begin(), some.end(), all.begin() + 5 * 64));
}

TEST(Safetensors, NamesTheNearestTensor) {
  const auto weights = open_weights(golden("llama.safetensors"));
  EXPECT_EQ(weights->find("model.norm.wieght"), nullptr);
  const std::string error = error_of([&] { weights->info("model.norm.wieght"); });
  EXPECT_NE(error.find("'model.norm.weight'"), error.npos) << error;
}

TEST(Safetensors, RefusesDamageByFileAndTensor) {
  const TemporaryFolder folder;
  const auto refused = [&](const std::string& header, size_t bytes) {
    const std::string path = file_of(folder, header, bytes);
    return error_of([&] { open_weights(path); });
  };
  const std::string good = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  EXPECT_EQ(refused(good, 8), "");
  const auto expect = [&](const std::string& header, size_t bytes, const std::string& part) {
    const std::string error = refused(header, bytes);
    EXPECT_NE(error.find(part), error.npos) << header << "\n" << error;
    EXPECT_NE(error.find("model.safetensors"), error.npos) << error;
  };
  expect(good, 7, "tensor 'a' lies outside");
  expect(good, 9, "1 bytes at the end belong to no tensor");
  expect(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8, "its shape and dtype need 12");
  expect(R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", 8, "'shape' holds number");
  expect(R"({"a":{"dtype":"F8_E5M2","shape":[8],"data_offsets":[0,8]}})", 8, "dtype F8_E5M2");
  expect(R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8]}})", 8, "overflows");
  expect(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", 8, "tensor 'a' lies outside");
  expect(
      R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
      8, "tensor 'b' overlaps");
  expect(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})", 12, "4 bytes before tensor 'a'");
  expect(std::string(1'000'000, '['), 0, "not a JSON object");  // no recursion
  expect("{\"a\":" + std::string(200'000, '[') + std::string(200'000, ']') + "}", 0, "'a' is not described");
  expect("[1]", 0, "not a JSON object");
  expect("{\"a\xff\":1}", 0, "not a JSON object");
  put(folder.path + "/model.safetensors", std::string(8, '\xff') + "{}");
  EXPECT_NE(error_of([&] { open_weights(folder.path); }).find("cut off"), std::string::npos);
  put(folder.path + "/model.safetensors", "");
  EXPECT_NE(error_of([&] { open_weights(folder.path); }).find("too short"), std::string::npos);
}

TEST(Safetensors, FoldersWithoutWeightsSaySo) {
  const TemporaryFolder folder;
  EXPECT_NE(error_of([&] { open_weights(folder.path); }).find("neither model.safetensors nor"),
            std::string::npos);
  put(folder.path + "/pytorch_model.bin", "x");
  EXPECT_NE(error_of([&] { open_weights(folder.path); }).find("pickle"), std::string::npos);
  EXPECT_NE(error_of([&] { open_weights(folder.path + "/absent"); }).find("no such file"), std::string::npos);
}

TEST(SafetensorsWriter, CutsIntoShardsThatReadBack) {
  const TemporaryFolder folder;
  const auto a = bytes_of({1, 2, 3, 4, 5, 6}), b = bytes_of({7, 8}), c = bytes_of({9});
  const auto tensors = [&] {
    return std::vector{from_memory("a", DType::kF32, {3, 2}, a), from_memory("b", DType::kF32, {2}, b),
                       from_memory("c", DType::kF32, {}, c)};
  };
  write_model_folder(folder.path, tensors(), 24);
  EXPECT_TRUE(std::filesystem::exists(folder.path + "/model-00002-of-00002.safetensors"));
  auto weights = open_weights(folder.path);
  EXPECT_EQ(weights->read_f32("a"), (std::vector<float>{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(weights->read_f32("c"), std::vector<float>{9});
  EXPECT_EQ(weights->tensors().size(), 3u);
  write_model_folder(folder.path, tensors());  // one file now, and the stale shards are gone
  EXPECT_FALSE(std::filesystem::exists(folder.path + "/model.safetensors.index.json"));
  EXPECT_FALSE(std::filesystem::exists(folder.path + "/model-00002-of-00002.safetensors"));
  EXPECT_EQ(open_weights(folder.path)->read_f32("b"), (std::vector<float>{7, 8}));
}

TEST(SafetensorsWriter, MixedTypesStayAligned) {
  const TemporaryFolder folder;
  const std::vector<std::byte> three(3), eight(8);
  write_safetensors(folder.path + "/x.safetensors",
                    {from_memory("u8", DType::kU8, {3}, three), from_memory("i64", DType::kI64, {1}, eight)});
  const SafetensorsFile file(folder.path + "/x.safetensors");
  for (const auto& entry : file.entries())
    EXPECT_EQ(entry.begin % size_of(entry.info.dtype), 0u) << entry.info.name;
  EXPECT_EQ(file.metadata().at("format"), "pt");
}

TEST(Safetensors, AnIndexMayNotLeaveItsFolder) {
  const TemporaryFolder folder;
  put(folder.path + "/model.safetensors.index.json", R"({"weight_map":{"a":"../x.safetensors"}})");
  EXPECT_NE(error_of([&] { open_weights(folder.path); }).find("expected one in this folder"),
            std::string::npos);
  put(folder.path + "/model.safetensors.index.json", R"({"weight_map":{"a":"gone.safetensors"}})");
  EXPECT_NE(error_of([&] { open_weights(folder.path); }).find("gone.safetensors"), std::string::npos);
}

TEST(Weights, ReadConvertsToTheAskedType) {
  const auto weights = open_weights(golden("llama.safetensors"));
  const auto wide = weights->read_f32("model.norm.weight");
  std::vector<std::byte> narrow(wide.size() * 2), expected(narrow.size());
  weights->read("model.norm.weight", 0, static_cast<int64_t>(wide.size()), DType::kBF16, narrow);
  encode_plain(wide, DType::kBF16, expected);
  EXPECT_EQ(narrow, expected);
  std::vector<float> out(2);
  EXPECT_NE(error_of([&] { weights->read_f32("model.norm.weight", 63, 2, out); }).find("has 64 rows"),
            std::string::npos);
}

}  // namespace
}  // namespace flagscale::io
