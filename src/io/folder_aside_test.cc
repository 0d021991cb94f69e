#include "io/folder_aside.h"

#include <gtest/gtest.h>

#include "io/atomic_file.h"
#include "io/io_test_support.h"
#include "io/safetensors_writer.h"

namespace flagscale::io {
namespace {

namespace fs = std::filesystem;

constexpr const char* kLlama = R"({"model_type": "llama", "torch_dtype": "float32"})";

void write_model(const FolderAside& aside, float value) {
  const std::vector<float> values{value};
  write_safetensors(aside.path() + "/model.safetensors",
                    {from_memory("w", DType::kF32, {1}, std::as_bytes(std::span(values)))});
}

void convert_to(const std::string& target, const std::string& config, Replace replace = Replace::kOwn) {
  FolderAside aside(target, "config.json", config, replace);
  write_model(aside, 1);
  aside.add({{"tokenizer.json", "{}"}});
  aside.commit();
}

std::map<std::string, std::string> contents(const std::string& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::directory_iterator(folder))
    files[entry.path().filename().string()] = read_file(entry.path().string());
  return files;
}

// What is said of a folder that must stay as it is.
std::string refusal(const std::string& target) {
  const auto before = contents(target);
  const std::string said = error_of([&] { convert_to(target, kLlama); });
  EXPECT_EQ(contents(target), before);
  return said;
}

TEST(FolderAside, AStrangersModelStaysAsItIs) {
  for (const char* name : {"config.json", "adapter_config.json", "model.safetensors", "tokenizer.json"}) {
    const TemporaryFolder folder;
    put(folder.path + "/" + name, kLlama);
    const std::string said = refusal(folder.path);
    EXPECT_NE(said.find(folder.path + "/" + name + " is without a mark of this program"), std::string::npos)
        << said;
    EXPECT_NE(said.find("another folder, or add --overwrite"), std::string::npos) << said;
    convert_to(folder.path, kLlama, Replace::kAny);
    EXPECT_NE(read_file(folder.path + "/tokenizer.json"), kLlama);
  }
}

TEST(FolderAside, AnotherWritingOfTheSameModelIsReplaced) {
  const TemporaryFolder folder;
  const std::string target = folder.path + "/hf",
                    bf16 = R"({"model_type": "llama", "torch_dtype": "bfloat16"})";
  convert_to(target, kLlama);
  put(target + "/tokenizer.json", "[]");
  convert_to(target, bf16);
  EXPECT_EQ(read_file(target + "/config.json"), bf16);
  EXPECT_EQ(read_file(target + "/tokenizer.json"), "{}");
  const auto before = contents(target);
  const std::string said = error_of([&] { convert_to(target, R"({"model_type": "qwen2"})"); });
  EXPECT_NE(said.find("hf/config.json is another model's"), std::string::npos) << said;
  EXPECT_EQ(contents(target), before);
}

TEST(FolderAside, AFailureLeavesNothing) {
  const TemporaryFolder folder;
  {
    const FolderAside aside(folder.path + "/a/b/hf", "config.json", kLlama, Replace::kOwn);
  }
  EXPECT_TRUE(fs::is_empty(folder.path));
  convert_to(folder.path + "/a/b/hf", kLlama);
  EXPECT_TRUE(fs::exists(folder.path + "/a/b/hf/config.json"));
}

TEST(FolderAside, WhatIsTheSameIsNoStranger) {
  const TemporaryFolder folder;
  put(folder.path + "/tokenizer.json", "{}");
  put(folder.path + "/notes.txt", "mine");
  convert_to(folder.path, kLlama);
  EXPECT_EQ(read_file(folder.path + "/notes.txt"), "mine");
}

}  // namespace
}  // namespace flagscale::io
