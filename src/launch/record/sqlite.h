#pragma once
// SQLite, as far as run records need it. The library is loaded when a database is opened first.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <variant>
#include <vector>

namespace flagscale::launch {

using SqlValue = std::variant<std::monostate, int64_t, double, std::string>;  // monostate: NULL

class Database {
 public:
  // kRead takes back what a killed writer has left half done, where it may; kWrite makes the file where there
  // is none.
  enum class Mode { kRead, kWrite };

  // Throw Error{kUnsupported} without the library, Error{kResource} naming the file, Error{kCorrupt} when it
  // is no database.
  Database(const std::filesystem::path& file, Mode mode);
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  void run(const char* sql, const std::vector<SqlValue>& values = {});
  using Row = std::vector<SqlValue>;
  std::vector<Row> query(const char* sql, const std::vector<SqlValue>& values = {});
  int64_t last_id() const;

 private:
  [[noreturn]] void complain() const;
  std::filesystem::path file_;
  void* handle_ = nullptr;
};

int64_t integer(const SqlValue& value);  // 0 for NULL
double real(const SqlValue& value);
std::string text(const SqlValue& value);

}  // namespace flagscale::launch
