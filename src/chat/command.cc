#include "chat/command.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "base/nearest.h"

namespace flagscale::chat {

namespace {

using Then = Command::Then;

constexpr const char* kHelp =
    R"(/reset, /clear       forget the conversation (the system message and settings stay)
/retry               answer the last message again
/system [TEXT]       the system message; without TEXT show it, "/system none" drops it
/set [NAME [VALUE]]  how to answer: /set temperature 0.2, /set max_tokens 200; VALUE null is the model's own
/save FILE           the conversation as JSON, in OpenAI's form
/load FILE           such a file
/exit, /quit         end (Ctrl-D too)
A line """ begins a message of several lines, another ends it. // begins a message with a slash.
Ctrl-C stops an answer.)";

struct Context {
  const std::string& argument;
  const std::string& model;
  Conversation& conversation;
};

Command forget(const Context& c) {
  c.conversation.forget();
  return {Then::kGoOn, "The conversation is forgotten."};
}

Command retry(const Context& c) {
  if (!c.conversation.take_back_answer()) fail(ErrorKind::kInvalidArgument, "there is nothing to answer yet");
  return {Then::kAnswer, ""};
}

Command system_message(const Context& c) {
  std::string& system = c.conversation.system;
  if (c.argument.empty()) return {Then::kGoOn, system.empty() ? "There is no system message." : system};
  system = c.argument == "none" ? "" : c.argument;
  return {Then::kGoOn, system.empty() ? "No system message from here on." : "The system message is set."};
}

std::string all_settings(const Conversation& conversation) {
  std::string text;
  for (const auto& [name, value] : conversation.settings().items())
    text += fmt::format("{} {}\n", name, value.dump());
  return text + fmt::format("Settings there are: {}", fmt::join(Conversation::names(), ", "));
}

Command set(const Context& c) {
  if (c.argument.empty()) return {Then::kGoOn, all_settings(c.conversation)};
  const size_t space = std::min(c.argument.find_first_of(" ="), c.argument.size());
  const std::string name = c.argument.substr(0, space);
  const size_t value = c.argument.find_first_not_of(" =", space);
  if (value != std::string::npos) {
    c.conversation.set(name, c.argument.substr(value));
    return {Then::kGoOn, ""};
  }
  const auto& settings = c.conversation.settings();
  return {Then::kGoOn, settings.contains(name) ? fmt::format("{} {}", name, settings[name].dump())
                                               : fmt::format("{} is the model's own", name)};
}

void need_file(const Context& c, const char* name) {
  if (c.argument.empty()) fail(ErrorKind::kInvalidArgument, "which file? /{} FILE", name);
}

Command save(const Context& c) {
  need_file(c, "save");
  c.conversation.save(c.argument);
  return {Then::kGoOn, fmt::format("{} messages in {}.", c.conversation.messages.size(), c.argument)};
}

Command load(const Context& c) {
  need_file(c, "load");
  c.conversation.load(c.argument);
  return {Then::kGoOn, fmt::format("{} messages from {}.", c.conversation.messages.size(), c.argument)};
}

struct Named {
  const char* name;
  Command (*run)(const Context&);
};
constexpr Named kCommands[] = {
    {"help", [](const Context&) { return Command{Then::kGoOn, kHelp}; }},
    {"reset", &forget},
    {"clear", &forget},
    {"retry", &retry},
    {"system", &system_message},
    {"set", &set},
    {"save", &save},
    {"load", &load},
    {"model", [](const Context& c) { return Command{Then::kGoOn, c.model}; }},
    {"exit", [](const Context&) { return Command{Then::kEnd, ""}; }},
    {"quit", [](const Context&) { return Command{Then::kEnd, ""}; }},
};

std::string trimmed(const std::string& text) {
  const size_t begin = text.find_first_not_of(" \t");
  if (begin == std::string::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\n") + 1 - begin);
}

}  // namespace

Command run_command(const std::string& line, const std::string& model, Conversation& conversation) {
  if (!line.starts_with('/')) return {};
  const size_t end = std::min(line.find_first_of(" \t\n"), line.size());
  const std::string word = line.substr(1, end - 1);
  if (word.empty() || word.find_first_not_of("abcdefghijklmnopqrstuvwxyz") != std::string::npos)
    return {word == "?" ? Then::kGoOn : Then::kNotOne, word == "?" ? kHelp : ""};
  std::vector<std::string> names;
  for (const Named& one : kCommands) {
    if (word == one.name) return one.run({trimmed(line.substr(end)), model, conversation});
    names.emplace_back(one.name);
  }
  const std::string near = nearest(word, names);
  fail(ErrorKind::kInvalidArgument, "there is no /{}{}; /help lists what there is", word,
       near.empty() ? "" : ": did you mean /" + near + "?");
}

}  // namespace flagscale::chat
