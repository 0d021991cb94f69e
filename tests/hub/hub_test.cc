// Fetching from a server that speaks the hub's protocol, into the hub's own cache layout.

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "hub/cache.h"
#include "hub/fetch.h"
#include "hub/http.h"
#include "tests/hub/fake_hub.h"

namespace flagscale::hub {
namespace {

namespace fs = std::filesystem;

std::string bytes_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

ErrorKind kind_of(const std::function<void()>& call, std::string* message = nullptr) {
  try {
    call();
  } catch (const Error& error) {
    if (message) *message = error.what();
    return error.kind();
  }
  ADD_FAILURE() << "no error";
  return ErrorKind::kUnsupported;
}

class Hub : public testing::Test {
 protected:
  void SetUp() override {
    try {
      Http probe("");
    } catch (const Error& error) {
      GTEST_SKIP() << error.what();
    }
    hub_.files = {{"config.json", "{\"model_type\": \"llama\"}"},
                  {"tokenizer.json", "{}"},
                  {"model.safetensors", std::string(300'000, 'w')},
                  {"pytorch_model.bin", "not wanted"},
                  {"README.md", "not wanted"},
                  {"onnx/model.onnx", "not wanted"}};
    settings_ = {hub_.url(), (folder_ / "hub").string(), "", false};
  }
  void TearDown() override { fs::remove_all(folder_); }
  std::string fetch(const std::string& model = "owner/model", bool refresh = false) {
    return fetch_model(parse_model_id(model), settings_, refresh);
  }

  FakeHub hub_;
  Settings settings_;
  const fs::path folder_ = fs::temp_directory_path() / ("flagscale-hub-" + std::to_string(getpid()));
  const fs::path repo_ = folder_ / "hub" / "models--owner--model";
};

TEST_F(Hub, FillsTheHubsOwnLayout) {
  const std::string path = fetch();
  EXPECT_EQ(path, repo_ / "snapshots" / hub_.commit);
  EXPECT_EQ(bytes_of(repo_ / "refs/main"), hub_.commit);
  EXPECT_EQ(fs::read_symlink(fs::path(path) / "model.safetensors"),
            "../../blobs/" + sha256(hub_.files["model.safetensors"]));
  EXPECT_EQ(fs::read_symlink(fs::path(path) / "config.json"),
            "../../blobs/" + git_sha1(hub_.files["config.json"]));
  for (const char* name : {"config.json", "tokenizer.json", "model.safetensors"})
    EXPECT_EQ(bytes_of(fs::path(path) / name), hub_.files[name]);
  EXPECT_FALSE(fs::exists(fs::path(path) / "pytorch_model.bin"));
  EXPECT_FALSE(fs::exists(fs::path(path) / "onnx"));
}

TEST_F(Hub, WhatIsThereNeedsNoNetwork) {
  const std::string path = fetch();
  const int before = hub_.requests;
  EXPECT_EQ(fetch(), path);
  settings_.offline = true;
  EXPECT_EQ(fetch("owner/model", true), path);
  EXPECT_EQ(hub_.requests, before);
  EXPECT_EQ(kind_of([&] { fetch("owner/other"); }), ErrorKind::kNotFound);
}

TEST_F(Hub, ChecksumsFromHeadersWhereTheListHasNone) {
  hub_.list_checksums = false;
  EXPECT_EQ(bytes_of(fs::path(fetch()) / "model.safetensors"), hub_.files["model.safetensors"]);
}

TEST_F(Hub, ADownloadThatBreaksOffGoesOnWhereItWas) {
  hub_.cut_after = 200'000;
  EXPECT_EQ(bytes_of(fs::path(fetch()) / "model.safetensors"), hub_.files["model.safetensors"]);
  EXPECT_EQ(hub_.cuts, 1);
  EXPECT_EQ(hub_.ranges["model.safetensors"], "bytes=200000-");
}

TEST_F(Hub, APartOfAnEarlierRunIsGoneOnWith) {
  const std::string& bytes = hub_.files["model.safetensors"];
  fs::create_directories(repo_ / "blobs");
  std::ofstream(repo_ / "blobs" / (sha256(bytes) + ".incomplete")) << bytes.substr(0, 12'345);
  hub_.files.erase("tokenizer.json");
  hub_.files.erase("config.json");
  hub_.files["config.json"] = "{}";
  EXPECT_EQ(bytes_of(fs::path(fetch()) / "model.safetensors"), bytes);
  EXPECT_EQ(hub_.ranges["model.safetensors"], "bytes=12345-");
  EXPECT_EQ(hub_.ranges["config.json"], "");
}

TEST_F(Hub, DamageOnTheWayIsRefusedAndNothingKept) {
  hub_.damaged = {"model.safetensors"};
  std::string message;
  EXPECT_EQ(kind_of([&] { fetch(); }, &message), ErrorKind::kCorrupt);
  EXPECT_NE(message.find("model.safetensors"), std::string::npos) << message;
  for (const auto& entry : fs::directory_iterator(repo_ / "blobs"))
    EXPECT_FALSE(entry.path().string().ends_with(".incomplete"));
  EXPECT_FALSE(fs::exists(repo_ / "refs/main"));
  hub_.damaged.clear();
  EXPECT_NO_THROW(fetch());
}

TEST_F(Hub, ARefreshFetchesWhatHasMoved) {
  fetch();
  hub_.commit = std::string(40, 'b');
  hub_.files["config.json"] = "{\"model_type\": \"qwen2\"}";
  EXPECT_EQ(fs::path(fetch()).filename(), std::string(40, 'a'));
  const std::string moved = fetch("owner/model", true);
  EXPECT_EQ(fs::path(moved).filename(), hub_.commit);
  EXPECT_EQ(bytes_of(fs::path(moved) / "config.json"), hub_.files["config.json"]);
  EXPECT_EQ(fetch("owner/model@" + std::string(40, 'a')), repo_ / "snapshots" / std::string(40, 'a'));
}

TEST_F(Hub, TheTokenGoesToTheHubAlone) {
  hub_.token = "hf_secret";
  std::string message;
  EXPECT_EQ(kind_of([&] { fetch(); }, &message), ErrorKind::kNotFound);
  EXPECT_NE(message.find("HF_TOKEN"), std::string::npos) << message;
  settings_.token = "hf_secret";
  fetch();
  EXPECT_EQ(hub_.storage_authorization, "");
}

TEST_F(Hub, OneOfSeveralGgufFiles) {
  hub_.files = {{"model-Q4_K_M.gguf", "four"}, {"model-Q8_0.gguf", "eight"}};
  std::string message;
  EXPECT_EQ(kind_of([&] { fetch(); }, &message), ErrorKind::kInvalidArgument);
  EXPECT_NE(message.find("model-Q4_K_M.gguf, model-Q8_0.gguf"), std::string::npos) << message;
  EXPECT_EQ(bytes_of(fetch("owner/model:q8_0")), "eight");
  EXPECT_FALSE(fs::exists(repo_ / "snapshots" / hub_.commit / "model-Q4_K_M.gguf"));
}

TEST_F(Hub, NamesThatLeaveTheFolderAreNotWritten) {
  hub_.files["../../evil.json"] = "x";
  hub_.files["..json"] = "x";
  const std::string path = fetch();
  EXPECT_FALSE(fs::exists(repo_ / "evil.json"));
  EXPECT_FALSE(fs::exists(fs::path(path) / "..json"));
}

TEST_F(Hub, ListsAndRemoves) {
  fetch();
  const auto models = list_models(settings_.cache);
  ASSERT_EQ(models.size(), 1u);
  EXPECT_EQ(models[0].repo, "owner/model");
  EXPECT_TRUE(models[0].complete);
  EXPECT_EQ(models[0].revisions, std::vector<std::string>{"main (aaaaaaaa)"});
  EXPECT_EQ(remove_model(settings_.cache, "owner/model"), models[0].bytes);
  EXPECT_TRUE(list_models(settings_.cache).empty());
  EXPECT_EQ(kind_of([&] { remove_model(settings_.cache, "owner/model"); }), ErrorKind::kNotFound);
}

TEST_F(Hub, AFolderThatCannotBeMadeIsNamedWithItsVariable) {
  settings_.cache = "/proc/none";
  std::string message;
  EXPECT_EQ(kind_of([&] { fetch(); }, &message), ErrorKind::kResource);
  EXPECT_NE(message.find("cannot make /proc/none"), std::string::npos) << message;
  EXPECT_NE(message.find("HF_HOME"), std::string::npos) << message;
}

TEST_F(Hub, AFolderWithoutANameIsNoModel) {
  fs::create_directories(fs::path(settings_.cache) / "models--");
  EXPECT_TRUE(list_models(settings_.cache).empty());
}

TEST_F(Hub, AFullDiskKeepsWhatCame) {
  if (geteuid() != 0) GTEST_SKIP() << "mounting a small file system needs root";
  fs::create_directories(settings_.cache);
  const std::string mount = "mount -t tmpfs -o size=256k none " + settings_.cache;
  if (std::system(mount.c_str()) != 0) GTEST_SKIP() << "no tmpfs here";
  std::string message;
  EXPECT_EQ(kind_of([&] { fetch(); }, &message), ErrorKind::kResource);
  EXPECT_NE(message.find("No space left"), std::string::npos) << message;
  EXPECT_EQ(std::system(("umount " + settings_.cache).c_str()), 0);
}

TEST(ModelIds, AreOwnerAndName) {
  for (const char* good :
       {"owner/name", "HuggingFaceTB/SmolLM2-135M-Instruct", "a/b@v1.0", "a/b:Q4_K_M", "a/b@main:q8"})
    EXPECT_TRUE(is_model_id(good)) << good;
  for (const char* bad : {"name", "a/b/c", "../x", "a/..", "/a/b", "a/b@", "a b/c", ".a/b", "a/b:../c", ""})
    EXPECT_FALSE(is_model_id(bad)) << bad;
  const ModelId id = parse_model_id("a/b@v1:q8");
  EXPECT_EQ(id.repo + " " + id.revision + " " + id.file, "a/b v1 q8");
}

TEST(NoServer, IsSaidPlainly) {
  Settings settings{"http://127.0.0.1:9", "/nonexistent", "", false};
  std::string message;
  EXPECT_EQ(kind_of([&] { fetch_model({"a/b", "main", ""}, settings); }, &message), ErrorKind::kResource);
  EXPECT_NE(message.find("127.0.0.1:9"), std::string::npos) << message;
}

}  // namespace
}  // namespace flagscale::hub
