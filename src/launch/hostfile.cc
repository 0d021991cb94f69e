#include "launch/hostfile.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <filesystem>
#include <map>
#include <sstream>
#include <string_view>

#include "base/error.h"
#include "base/log.h"
#include "config/yaml.h"

namespace flagscale::launch {
namespace {

constexpr int kMostSlots = 1 << 16;
constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";  // some editors write it

struct Line {
  const std::string& file;
  int line;
  std::string text() const { return fmt::format("{}:{}", file, line); }
};

std::vector<std::string> host_words(const std::string& line) {
  std::istringstream in(line);
  std::vector<std::string> words;
  for (std::string word; in >> word && word[0] != '#';) words.push_back(word);
  return words;
}

int read_slots(const std::string& word, const Line& at) {
  const std::string digits = word.substr(word.find('=') + 1);
  int slots = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), slots);
  if (error != std::errc() || end != digits.data() + digits.size() || slots < 1 || slots > kMostSlots)
    fail(ErrorKind::kConfig, "{}: '{}' must be slots=N with a count of devices from 1 to {}", at.text(), word,
         kMostSlots);
  return slots;
}

// A name goes into commands and file names.
void check_name(const std::string& name, const Line& at) {
  const auto fits = [](unsigned char c) {
    return std::isalnum(c) || c >= 0x80 ||
           std::string_view("._-:@%[]").find(static_cast<char>(c)) != std::string_view::npos;
  };
  if (name[0] == '-' || name[0] == '.' || !std::all_of(name.begin(), name.end(), fits))
    fail(ErrorKind::kConfig,
         "{}: '{}' is no name of a host: write NAME slots=N, for instance `worker0 slots=8`", at.text(),
         name);
}

Host read_host(const std::vector<std::string>& words, const Line& at) {
  if (words.size() < 2 || !words[1].starts_with("slots="))
    fail(ErrorKind::kConfig, "{}: '{}' is no host: write NAME slots=N, for instance `{} slots=8 type=A100`",
         at.text(), fmt::join(words, " "), words[0].find('=') == std::string::npos ? words[0] : "worker0");
  check_name(words[0], at);
  Host host{words[0], read_slots(words[1], at), ""};
  size_t read = 2;
  if (words.size() > read && words[read].starts_with("type=")) host.type = words[read++].substr(5);
  if (read == 3 && host.type.empty())
    fail(ErrorKind::kConfig, "{}: type= has no name: write type=A100, or leave it out on every line",
         at.text());
  if (words.size() > read)
    warn("{}: '{}' is not read: a line is NAME slots=N [type=T], in this order", at.text(), words[read]);
  return host;
}

// Devices of unlike types need settings of their own; a host without a type would get nobody's.
void check_types(const std::vector<Host>& hosts, const std::string& path) {
  for (const Host& host : hosts)
    if (host.type.empty() != hosts[0].type.empty()) {
      const Host &typed = host.type.empty() ? hosts[0] : host, &untyped = host.type.empty() ? host : hosts[0];
      fail(ErrorKind::kConfig,
           "{}: host {} has type={} and host {} has no type: give every line a type, or none", path,
           typed.name, typed.type, untyped.name);
    }
}

std::string hostfile_text(const std::string& path) {
  const std::filesystem::file_status status = std::filesystem::status(path);
  if (!std::filesystem::exists(status))
    fail(ErrorKind::kNotFound,
         "there is no hostfile {}: write one (a line a host, `NAME slots=N`), or run on this machine alone "
         "with "
         "experiment.runner.hostfile=null",
         path);
  if (std::filesystem::is_directory(status))
    fail(ErrorKind::kNotFound, "the hostfile {} is a folder: give a file (a line a host, `NAME slots=N`)",
         path);
  if (!std::filesystem::is_regular_file(status))  // a pipe that nobody writes to would be waited for
    fail(ErrorKind::kNotFound,
         "the hostfile {} is no regular file: give one with a line a host, `NAME slots=N`", path);
  std::string text = config::read_text_file(path);
  if (text.starts_with(kByteOrderMark)) text.erase(0, kByteOrderMark.size());
  if (std::any_of(text.begin(), text.end(), [](unsigned char c) { return c < ' ' && !std::isspace(c); }))
    fail(ErrorKind::kConfig, "{} is no text: a hostfile has a line a host, `NAME slots=N`", path);
  return text;
}

}  // namespace

std::vector<Host> read_hostfile(const std::string& path) {
  std::istringstream in(hostfile_text(path));
  std::vector<Host> hosts;
  std::map<std::string, int> lines;  // of the hosts
  int number = 0;
  for (std::string line; std::getline(in, line);) {
    const Line at{path, ++number};
    const std::vector<std::string> words = host_words(line);
    if (words.empty()) continue;
    hosts.push_back(read_host(words, at));
    const auto [first, is_new] = lines.emplace(hosts.back().name, number);
    if (!is_new)
      fail(ErrorKind::kConfig, "{}: host {} stands in line {} already: give it one line, with all its slots",
           at.text(), first->first, first->second);
  }
  if (hosts.empty()) fail(ErrorKind::kConfig, "{} names no host: write a line a host, `NAME slots=N`", path);
  check_types(hosts, path);
  return hosts;
}

}  // namespace flagscale::launch
