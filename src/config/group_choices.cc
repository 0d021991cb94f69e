#include "config/group_choices.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "config/hydra_settings.h"

namespace flagscale::config {
namespace {

std::string joined(const std::vector<std::string>& names) {
  return fmt::format("{}", fmt::join(names, ", "));
}

// A choice among Hydra's own groups changes nothing here, but a wrong one is still wrong.
void check_hydra_choice(const Override& choice) {
  const std::vector<std::string>& options = hydra_options(choice.key);
  if (choice.type == Override::Type::kDelete) return;
  const bool known = choice.value->kind == Kind::kString &&
                     std::count(options.begin(), options.end(), choice.value->text) > 0;
  if (!known)
    fail(ErrorKind::kNotFound, "there is no '{}' in {}; there are: {}", python_str(*choice.value), choice.key,
         joined(options));
}

Choice choice_of(const Override& override_) {
  Choice choice;
  const Node& value = *override_.value;
  choice.is_list = value.kind == Kind::kList;
  if (value.kind == Kind::kString)
    choice.option = value.text;
  else if (!choice.is_list)
    fail(ErrorKind::kInvalidArgument,
         "the override '{}' chooses a {}, expected the name of an option; quote it", override_.text,
         name(value.kind));
  for (const NodePtr& item : value.items) {
    if (item->kind != Kind::kString)
      fail(ErrorKind::kInvalidArgument, "the override '{}' lists something that is no name", override_.text);
    choice.options.push_back(item->text);
  }
  return choice;
}

}  // namespace

GroupChoices::GroupChoices(const Repository& repository, const std::vector<Override>& overrides) {
  for (const Override& override_ : overrides) {
    const bool is_map = override_.value && override_.value->kind == Kind::kMap;
    if (is_hydra_group(override_.key) && !is_map)
      check_hydra_choice(override_);
    else if (is_map || !repository.has_group(override_.key))
      values.push_back(override_);
    else
      add_choice(override_);
  }
}

void GroupChoices::add_choice(const Override& override_) {
  const std::string key = override_.has_package ? override_.key + "@" + override_.package : override_.key;
  switch (override_.type) {
    case Override::Type::kForceAdd:
      fail(ErrorKind::kInvalidArgument, "the override '{}' is refused: ++ is for values, not for groups",
           override_.text);
    case Override::Type::kDelete:
      if (override_.value && override_.value->kind != Kind::kString && override_.value->kind != Kind::kNull)
        fail(ErrorKind::kInvalidArgument, "the override '{}' is refused: an option is a string",
             override_.text);
      deletions_[key] = {override_.value && override_.value->kind == Kind::kString
                             ? std::optional(override_.value->text)
                             : std::nullopt,
                         false};
      return;
    case Override::Type::kAdd: {
      const Choice choice = choice_of(override_);
      DefaultItem item;
      item.is_group = true;
      item.path = override_.key;
      item.option = choice.option;
      item.options = choice.options;
      item.is_list = choice.is_list;
      if (override_.has_package) item.package = override_.package == "_here_" ? "" : override_.package;
      item.origin = override_.value->origin;
      appended.push_back(item);
      return;
    }
    case Override::Type::kChange:
      chosen_[key] = {choice_of(override_), "", false};
  }
}

void GroupChoices::add_from_file(const std::string& key, const DefaultItem& item) {
  chosen_.emplace(key, Chosen{{item.option, item.options, item.is_list}, describe(item.origin), false});
}

const Choice* GroupChoices::chosen(const std::string& key) {
  const auto it = chosen_.find(key);
  if (it == chosen_.end()) return nullptr;
  it->second.used = true;
  return &it->second.choice;
}

bool GroupChoices::deleted(const std::string& key, const std::optional<std::string>& option) {
  const auto it = deletions_.find(key);
  if (it == deletions_.end() || (it->second.option && it->second.option != option)) return false;
  it->second.used = true;
  return true;
}

void GroupChoices::note(const std::string& key, const std::string& group,
                        const std::optional<std::string>& option) {
  const auto [it, added] = known_.emplace(key, option);
  if (!added && it->second != option)
    fail(ErrorKind::kConfig,
         "the defaults lists choose both '{}' and '{}' for {}; write 'override {}: …' for the second",
         it->second.value_or("null"), option.value_or("null"), key, key);
  known_by_group_[group].insert(key);
}

void GroupChoices::check_used() const {
  for (const auto& [key, chosen] : chosen_) {
    const std::string group = key.substr(0, key.find('@'));
    if (chosen.used || is_hydra_group(key)) continue;
    const auto near = known_by_group_.find(group);
    const std::string where = chosen.where.empty() ? "" : chosen.where + ": ";
    if (near == known_by_group_.end())
      fail(ErrorKind::kConfig, "{}no defaults list has the group '{}' to choose from; to add it use +{}=…",
           where, key, key);
    fail(ErrorKind::kConfig, "{}no defaults list has the group '{}'; did you mean {}?", where, key,
         joined({near->second.begin(), near->second.end()}));
  }
  for (const auto& [key, deletion] : deletions_)
    if (!deletion.used) fail(ErrorKind::kConfig, "cannot delete '{}': no defaults list has it", key);
}

}  // namespace flagscale::config
