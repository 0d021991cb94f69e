#pragma once
// The fields of a request's JSON object: one descriptor a field reads it, bounds it and documents it.
// /openapi.json is made from the same descriptors.
//
//   Fields<ChatRequest> fields;
//   fields.number("top_p", &ChatRequest::top_p, {.above = 0, .most = 1}, "draw from the likeliest that hold
//   this share");
//
// null stands for "not given", except where a field is required. Unknown fields are accepted and do nothing,
// as in vLLM.

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "serve/json.h"

namespace flagscale::serve {

struct Range {
  double least = -std::numeric_limits<double>::infinity();
  double above = -std::numeric_limits<double>::infinity();
  double most = std::numeric_limits<double>::infinity();
};

// Each throws ApiError 400 that names the field.
bool read_bool(const std::string& name, const Json& value);
int64_t read_integer(const std::string& name, const Json& value, const Range& range);
double read_number(const std::string& name, const Json& value, const Range& range);
const std::string& read_string(const std::string& name, const Json& value);
std::vector<std::string> read_strings(const std::string& name, const Json& value,
                                      size_t most);  // one, or a list
std::vector<int32_t> read_ids(const std::string& name, const Json& value, size_t most);

// JSON schemas of such fields.
std::string bool_schema();
std::string integer_schema(const Range& range);
std::string number_schema(const Range& range);
std::string string_schema();
std::string choice_schema(const std::vector<std::string>& values);

class FieldTable {
 public:
  // As a JSON schema of an object.
  std::string schema() const;
  std::vector<std::string> names() const;

 protected:
  struct Info {
    std::string name, schema, doc;
    bool required;
  };
  // The value of a field that is there; null when it is not given. Throws ApiError 400 for a required one.
  static const Json* find(const Info& info, const Json& object);
  static void require_object(const Json& value);
  std::vector<Info> infos_;
};

template <class Target>
class Fields : public FieldTable {
 public:
  using Read = std::function<void(Target&, const std::string& name, const Json& value)>;

  void add(std::string name, std::string schema, std::string doc, Read read, bool required = false) {
    infos_.push_back({std::move(name), std::move(schema), std::move(doc), required});
    reads_.push_back(std::move(read));
  }
  template <class Member>
  void flag(std::string name, Member member, std::string doc) {
    add(std::move(name), bool_schema(), std::move(doc),
        [member](Target& target, const std::string& field, const Json& value) {
          target.*member = read_bool(field, value);
        });
  }
  template <class Member>
  void integer(std::string name, Member member, Range range, std::string doc) {
    add(std::move(name), integer_schema(range), std::move(doc),
        [member, range](Target& target, const std::string& field, const Json& value) {
          target.*member = read_integer(field, value, range);
        });
  }
  template <class Member>
  void number(std::string name, Member member, Range range, std::string doc) {
    add(std::move(name), number_schema(range), std::move(doc),
        [member, range](Target& target, const std::string& field, const Json& value) {
          target.*member = read_number(field, value, range);
        });
  }
  template <class Member>
  void text(std::string name, Member member, std::string doc) {
    add(std::move(name), string_schema(), std::move(doc),
        [member](Target& target, const std::string& field, const Json& value) {
          target.*member = read_string(field, value);
        });
  }

  Target read(const Json& object) const {
    require_object(object);
    Target target{};
    for (size_t i = 0; i < infos_.size(); ++i)
      if (const Json* value = find(infos_[i], object)) reads_[i](target, infos_[i].name, *value);
    return target;
  }

 private:
  std::vector<Read> reads_;
};

}  // namespace flagscale::serve
