#pragma once
// A folder is the registry: each entry registers itself with a static object, and nobody keeps a list.
//   static const Registration<ModelFamily> kQwen3{"qwen3", &family};

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"

namespace flagscale {

template <class T>
class Registry {
 public:
  static Registry& instance() {
    static Registry registry;
    return registry;
  }
  void add(std::string name, T value) {
    FLAGSCALE_CHECK(entries_.emplace(std::move(name), std::move(value)).second);
  }
  const T* find(std::string_view name) const {
    const auto it = entries_.find(name);
    return it == entries_.end() ? nullptr : &it->second;
  }
  std::vector<std::string> names() const {  // sorted
    std::vector<std::string> result;
    for (const auto& [name, value] : entries_) result.push_back(name);
    return result;
  }

 private:
  std::map<std::string, T, std::less<>> entries_;
};

template <class T>
struct Registration {
  Registration(std::string name, T value) { Registry<T>::instance().add(std::move(name), std::move(value)); }
};

}  // namespace flagscale
