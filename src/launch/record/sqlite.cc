#include "launch/record/sqlite.h"

#include <dlfcn.h>
#include <sqlite3.h>

#include <utility>

#include "base/error.h"
#include "base/library_function.h"

namespace flagscale::launch {

namespace {

struct Sqlite {
  decltype(&sqlite3_open_v2) open;
  decltype(&sqlite3_close_v2) close;
  decltype(&sqlite3_busy_timeout) busy_timeout;
  decltype(&sqlite3_prepare_v2) prepare;
  decltype(&sqlite3_step) step;
  decltype(&sqlite3_finalize) finalize;
  decltype(&sqlite3_bind_int64) bind_int64;
  decltype(&sqlite3_bind_double) bind_double;
  decltype(&sqlite3_bind_text) bind_text;
  decltype(&sqlite3_column_count) column_count;
  decltype(&sqlite3_column_type) column_type;
  decltype(&sqlite3_column_int64) column_int64;
  decltype(&sqlite3_column_double) column_double;
  decltype(&sqlite3_column_text) column_text;
  decltype(&sqlite3_column_bytes) column_bytes;
  decltype(&sqlite3_errmsg) errmsg;
  decltype(&sqlite3_errcode) errcode;
  decltype(&sqlite3_last_insert_rowid) last_insert_rowid;
};

Sqlite load_sqlite() {
  void* library = dlopen("libsqlite3.so.0", RTLD_NOW | RTLD_LOCAL);
  if (!library)
    fail(ErrorKind::kUnsupported,
         "run records need SQLite: install the package libsqlite3-0 (Debian, Ubuntu)");
  const auto find = [&](const char* symbol, auto& function) {
    if (!find_function(library, symbol, function))
      fail(ErrorKind::kUnsupported, "the SQLite library has no {}", symbol);
  };
  Sqlite s{};
  find("sqlite3_open_v2", s.open), find("sqlite3_close_v2", s.close);
  find("sqlite3_busy_timeout", s.busy_timeout), find("sqlite3_prepare_v2", s.prepare);
  find("sqlite3_step", s.step), find("sqlite3_finalize", s.finalize);
  find("sqlite3_bind_int64", s.bind_int64), find("sqlite3_bind_double", s.bind_double);
  find("sqlite3_bind_text", s.bind_text), find("sqlite3_column_count", s.column_count);
  find("sqlite3_column_type", s.column_type), find("sqlite3_column_int64", s.column_int64);
  find("sqlite3_column_double", s.column_double), find("sqlite3_column_text", s.column_text);
  find("sqlite3_column_bytes", s.column_bytes), find("sqlite3_errmsg", s.errmsg),
      find("sqlite3_errcode", s.errcode);
  find("sqlite3_last_insert_rowid", s.last_insert_rowid);
  return s;
}

const Sqlite& sqlite() {
  static const Sqlite instance = load_sqlite();
  return instance;
}

sqlite3* as_sqlite(void* handle) { return static_cast<sqlite3*>(handle); }

class SqlStatement {
 public:
  explicit SqlStatement(sqlite3_stmt* statement) : statement_(statement) {}
  ~SqlStatement() { sqlite().finalize(statement_); }
  SqlStatement(const SqlStatement&) = delete;
  SqlStatement& operator=(const SqlStatement&) = delete;

  void bind(int at, const SqlValue& value) {  // what is not bound is NULL
    if (const auto* number = std::get_if<int64_t>(&value)) sqlite().bind_int64(statement_, at, *number);
    if (const auto* number = std::get_if<double>(&value)) sqlite().bind_double(statement_, at, *number);
    if (const auto* words = std::get_if<std::string>(&value))
      sqlite().bind_text(statement_, at, words->data(), static_cast<int>(words->size()), SQLITE_TRANSIENT);
  }

  int step() { return sqlite().step(statement_); }

  SqlValue column(int at) {
    switch (sqlite().column_type(statement_, at)) {
      case SQLITE_INTEGER:
        return int64_t{sqlite().column_int64(statement_, at)};
      case SQLITE_FLOAT:
        return sqlite().column_double(statement_, at);
      case SQLITE_NULL:
        return {};
      default:
        return std::string(reinterpret_cast<const char*>(sqlite().column_text(statement_, at)),
                           static_cast<size_t>(sqlite().column_bytes(statement_, at)));
    }
  }
  int columns() { return sqlite().column_count(statement_); }

 private:
  sqlite3_stmt* statement_;
};

}  // namespace

Database::Database(const std::filesystem::path& file, Mode mode) : file_(file) {
  const int flags = SQLITE_OPEN_READWRITE | (mode == Mode::kWrite ? SQLITE_OPEN_CREATE : 0);
  sqlite3* handle = nullptr;
  const int result = sqlite().open(file.c_str(), &handle, flags, nullptr);
  handle_ = handle;
  if (result != SQLITE_OK) {
    const std::string why = sqlite().errmsg(handle);
    sqlite().close(handle);
    fail(ErrorKind::kResource, "cannot open {}: {}", file.string(), why);
  }
  sqlite().busy_timeout(handle, 10'000);  // ms; writers hold it for one row
}

Database::~Database() { sqlite().close(as_sqlite(handle_)); }

void Database::complain() const {
  const int code = sqlite().errcode(as_sqlite(handle_));
  const bool broken = code == SQLITE_CORRUPT || code == SQLITE_NOTADB;
  fail(broken ? ErrorKind::kCorrupt : ErrorKind::kResource, "{}: {}", file_.string(),
       sqlite().errmsg(as_sqlite(handle_)));
}

std::vector<Database::Row> Database::query(const char* sql, const std::vector<SqlValue>& values) {
  sqlite3_stmt* compiled = nullptr;
  if (sqlite().prepare(as_sqlite(handle_), sql, -1, &compiled, nullptr) != SQLITE_OK) complain();
  SqlStatement statement(compiled);
  for (size_t i = 0; i < values.size(); ++i) statement.bind(static_cast<int>(i) + 1, values[i]);
  std::vector<Row> rows;
  int result = 0;
  while ((result = statement.step()) == SQLITE_ROW) {
    Row& row = rows.emplace_back();
    for (int c = 0; c < statement.columns(); ++c) row.push_back(statement.column(c));
  }
  if (result != SQLITE_DONE) complain();
  return rows;
}

void Database::run(const char* sql, const std::vector<SqlValue>& values) { query(sql, values); }

int64_t Database::last_id() const { return sqlite().last_insert_rowid(as_sqlite(handle_)); }

int64_t integer(const SqlValue& value) {
  const auto* number = std::get_if<int64_t>(&value);
  return number ? *number : 0;
}

double real(const SqlValue& value) {
  const auto* number = std::get_if<double>(&value);
  return number ? *number : static_cast<double>(integer(value));
}

std::string text(const SqlValue& value) {
  const auto* words = std::get_if<std::string>(&value);
  return words ? *words : std::string();
}

}  // namespace flagscale::launch
