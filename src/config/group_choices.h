#pragma once
// The choices of options that overrides make: group=option, +group=option, ~group. Each must find its place
// in a defaults list.

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "config/override.h"
#include "config/repository.h"

namespace flagscale::config {

struct Choice {
  std::optional<std::string> option;
  std::vector<std::string> options;
  bool is_list = false;
};

class GroupChoices {
 public:
  // Sorts the overrides into choices and values. Throws Error{kInvalidArgument}.
  GroupChoices(const Repository& repository, const std::vector<Override>& overrides);

  std::vector<Override> values;
  std::vector<DefaultItem> appended;  // +group=option

  // By a group's key, "group" or "group@package".
  void add_from_file(const std::string& key, const DefaultItem& item);  // "override group: option"
  const Choice* chosen(const std::string& key);                         // null: none; marks it as used
  bool deleted(const std::string& key, const std::optional<std::string>& option);
  void note(const std::string& key, const std::string& group, const std::optional<std::string>& option);
  const std::map<std::string, std::optional<std::string>>& known() const { return known_; }

  void check_used() const;

 private:
  struct Chosen {
    Choice choice;
    std::string where;  // file and line; empty: the command line
    bool used = false;
  };
  struct Deletion {
    std::optional<std::string> option;
    bool used = false;
  };
  void add_choice(const Override& override_);

  std::map<std::string, Chosen> chosen_;
  std::map<std::string, Deletion> deletions_;
  std::map<std::string, std::optional<std::string>> known_;
  std::map<std::string, std::set<std::string>> known_by_group_;
};

}  // namespace flagscale::config
