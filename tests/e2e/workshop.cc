#include "tests/e2e/workshop.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>
#include <sstream>
#include <utility>

namespace flagscale::e2e {

namespace fs = std::filesystem;

namespace {

// Every header a document.
void write_text(const fs::path& file) {
  std::ofstream out(file);
  std::vector<fs::path> sources;
  for (const auto& entry : fs::recursive_directory_iterator(FLAGSCALE_SOURCE_DIR "/src"))
    if (entry.path().extension() == ".h") sources.push_back(entry.path());
  std::sort(sources.begin(), sources.end());
  for (const fs::path& source : sources) {
    std::ifstream in(source);
    for (std::string line; std::getline(in, line);)
      if (!line.empty()) out << line << '\n';
    out << '\n';
  }
}

}  // namespace

void Workshop::SetUpTestSuite() {
  folder_ = temporary_.emplace().path;
  fs::permissions(folder_, fs::perms(0755));
  setenv("XDG_STATE_HOME", (folder_ / "state").c_str(), 1);  // runs are not remembered as the user's
  write_text(folder_ / "text.txt");
  must({"data", "train-tokenizer", "--input", "text.txt", "--vocab-size", "512", "--output", "tokenizer"});
  must({"data", "preprocess", "--input", "text.txt", "--plain-text", "--tokenizer", "tokenizer",
        "--append-eod", "--output-prefix", "text"});
}

void Workshop::TearDownTestSuite() {
  unsetenv("XDG_STATE_HOME");
  temporary_.reset();
}

Result Workshop::must(const std::vector<std::string>& words) {
  const Result result = run(words, folder_);
  std::string command = "flagscale";
  for (const std::string& word : words) command += " " + word;
  EXPECT_EQ(result.code, 0) << command << "\n" << result.out << result.err;
  return result;
}

std::vector<std::string> Workshop::configured() {
  return {"run", "--config-path", std::string(FLAGSCALE_SOURCE_DIR) + "/examples/aquila/conf",
          "--config-name", "train"};
}

std::vector<std::string> Workshop::training(const std::string& name, const std::vector<std::string>& more) {
  std::vector<std::string> words = configured();
  const std::vector<std::string> small{"data_path=text_text_document",
                                       "tokenizer_path=tokenizer",
                                       "experiment.exp_dir=" + name,
                                       "train.model.num_layers=2",
                                       "train.model.hidden_size=64",
                                       "train.model.ffn_hidden_size=160",
                                       "train.model.num_attention_heads=4",
                                       "train.model.seq_length=64",
                                       "train.model.max_position_embeddings=64",
                                       "train.model.train_iters=20",
                                       "train.model.eval_interval=20",
                                       "train.model.eval_iters=2",
                                       "train.system.logging.log_interval=5",
                                       "train.system.checkpoint.save_interval=10"};
  words.insert(words.end(), small.begin(), small.end());
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

std::string Workshop::contents(const fs::path& file) {
  std::ifstream in(folder_ / file, std::ios::binary);
  std::ostringstream text;  // a checkpoint by characters takes seconds
  text << in.rdbuf();
  return std::move(text).str();
}

void Workshop::write(const fs::path& file, const std::string& text) {
  fs::create_directories((folder_ / file).parent_path());
  std::ofstream(folder_ / file, std::ios::binary) << text;
}

void Workshop::write_vocabulary_and_merges(const std::string& folder) {
  const auto json = nlohmann::json::parse(contents("tokenizer/tokenizer.json"));
  std::string merges = "#version: 0.2\n";
  for (const auto& merge : json["model"]["merges"])
    merges += merge.is_string() ? merge.get<std::string>() + "\n"
                                : merge[0].get<std::string>() + " " + merge[1].get<std::string>() + "\n";
  write(folder + "/vocab.json", json["model"]["vocab"].dump());
  write(folder + "/merges.txt", merges);
}

std::vector<std::string> Workshop::left_aside(const std::string& folder) {
  std::vector<std::string> names;
  if (!fs::exists(folder_ / folder)) return names;
  for (const auto& entry : fs::recursive_directory_iterator(folder_ / folder))
    if (entry.path().filename().string().find(".tmp") != std::string::npos) names.push_back(entry.path());
  return names;
}

std::vector<double> Workshop::losses(const std::string& log) {
  std::vector<double> found;
  const std::regex loss("lm loss: ([0-9.E+-]+)");
  for (std::sregex_iterator it(log.begin(), log.end(), loss), end; it != end; ++it)
    found.push_back(std::stod((*it)[1]));
  return found;
}

}  // namespace flagscale::e2e
