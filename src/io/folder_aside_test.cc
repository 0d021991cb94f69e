#include "io/folder_aside.h"

#include <gtest/gtest.h>

#include "io/atomic_file.h"
#include "io/checkpoint.h"
#include "io/io_test_support.h"
#include "io/safetensors_writer.h"

namespace flagscale::io {
namespace {

namespace fs = std::filesystem;

constexpr const char* kLlama = R"({"model_type": "llama", "torch_dtype": "float32"})";

void write_model(const FolderAside& aside, const std::string& name) {
  const std::vector<float> values{1};
  write_safetensors(aside.path() + "/" + name,
                    {from_memory("w", DType::kF32, {1}, std::as_bytes(std::span(values)))}, aside.metadata());
}

void convert_to(const std::string& target, const std::string& config, Replace replace = Replace::kOwn,
                const std::string& source = "run") {
  FolderAside aside(target, {"config.json", config, source_mark(source)}, replace);
  aside.add({{"tokenizer.json", "{}"}});
  aside.check();
  write_model(aside, "model.safetensors");
  aside.commit();
}

std::map<std::string, std::string> contents(const std::string& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::directory_iterator(folder))
    files[entry.path().filename().string()] = entry.is_directory() ? "" : read_file(entry.path().string());
  return files;
}

// What is said of a folder that must stay as it is.
std::string refusal(const std::string& target, Replace replace = Replace::kOwn,
                    const std::string& source = "run") {
  const auto before = contents(target);
  const std::string said = error_of([&] { convert_to(target, kLlama, replace, source); });
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
    const FolderAside aside(folder.path + "/a/b/hf", {"config.json", kLlama, "m"}, Replace::kOwn);
  }
  EXPECT_TRUE(fs::is_empty(folder.path));
  convert_to(folder.path + "/a/b/hf", kLlama);
  EXPECT_TRUE(fs::exists(folder.path + "/a/b/hf/config.json"));
}

TEST(FolderAside, AModelOfAnotherRunStaysAsItIs) {
  const TemporaryFolder folder;
  const std::string target = folder.path + "/hf";
  convert_to(target, kLlama);
  std::string said = refusal(target, Replace::kOwn, "other");
  EXPECT_NE(said.find("hf/model.safetensors is made from another run or model, and would"), std::string::npos)
      << said;
  const auto bytes = read_file(target + "/model.safetensors");
  EXPECT_EQ(bytes.find("run"), std::string::npos) << "a path is in the file";
  convert_to(target, kLlama, Replace::kAny, "other");
  convert_to(target, kLlama, Replace::kOwn, "other");
  write_safetensors(target + "/model.safetensors", {});  // as older versions wrote it
  said = refusal(target);
  EXPECT_NE(said.find("without a mark of what it was made from"), std::string::npos) << said;
}

TEST(FolderAside, TheSourceOfACheckpointIsItsRun) {
  const TemporaryFolder folder;
  const auto save = [&](const std::string& run, int64_t iteration) {
    TrainingState state;
    state.iteration = iteration;
    const std::vector<float> values{1};
    CheckpointWriter(folder.path + run)
        .save(state, {whole_tensor("w", DType::kF32, {1}, std::as_bytes(std::span(values)))});
  };
  save("/a", 1), save("/b", 1);
  const std::string first = source_mark(folder.path + "/a");
  save("/a", 2);
  EXPECT_TRUE(first.starts_with("xxh64:")) << first;
  for (const char* path : {"/a", "/a/", "/a/iter_0000001", "/a/iter_0000002/", "/b/../a"})
    EXPECT_EQ(source_mark(folder.path + path), first) << path;
  EXPECT_NE(source_mark(folder.path + "/b"), first);
  EXPECT_NE(source_mark(folder.path + "/a", folder.path + "/b"), first);
}

TEST(FolderAside, AFolderInTheWayIsFoundBeforeAnythingIsPutInPlace) {
  for (const char* name : {"config.json", "tokenizer.json", "model.safetensors",
                           "model-00001-of-00002.safetensors", "model.safetensors.index.json"}) {
    const TemporaryFolder folder;
    fs::create_directories(folder.path + "/" + name + "/in");
    const std::string said = refusal(folder.path, Replace::kAny);
    EXPECT_NE(said.find(std::string(name) + " is a folder, and a file belongs there"), std::string::npos)
        << said;
  }
}

TEST(FolderAside, AStrangerIsRefusedBeforeTheWeights) {
  const TemporaryFolder folder;
  put(folder.path + "/tokenizer.json", "theirs");
  const FolderAside aside(folder.path, {"config.json", kLlama, "m"}, Replace::kOwn);
  aside.check();
  aside.add({{"tokenizer.json", "{}"}});
  EXPECT_NE(error_of([&] { aside.check(); }).find("tokenizer.json is without a mark"), std::string::npos);
}

TEST(FolderAside, AModelOfTheOtherKindGoes) {
  const TemporaryFolder folder;
  {
    FolderAside aside(folder.path, {"adapter_config.json", "{}", "m"}, Replace::kOwn);
    write_model(aside, "adapter_model.safetensors");
    aside.commit();
  }
  const auto adapter = contents(folder.path);
  convert_to(folder.path, kLlama, Replace::kAny);
  EXPECT_FALSE(fs::exists(folder.path + "/adapter_config.json"));
  EXPECT_FALSE(fs::exists(folder.path + "/adapter_model.safetensors"));
  fs::remove(folder.path + "/tokenizer.json");
  FolderAside aside(folder.path, {"adapter_config.json", "{}", "m"}, Replace::kAny);
  write_model(aside, "adapter_model.safetensors");
  aside.commit();
  std::error_code error;
  fs::remove_all(aside.path(), error);
  EXPECT_EQ(contents(folder.path), adapter);
}

TEST(FolderAside, ATargetThatNamesNoFolderIsNotOne) {
  for (const char* target : {"", "/", "//"}) {
    const std::string said = error_of([&] { convert_to(target, kLlama); });
    EXPECT_NE(said.find("the folder to write is given as '" + std::string(target) + "'"), std::string::npos)
        << said;
  }
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
